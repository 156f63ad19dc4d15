"""Uploads of `ckks` and `bfv` encrypted in processes of their own, one a core.

No call of TenSEAL releases the interpreter's lock, so threads of Python gain nothing: only other
processes encrypt at the same time. They are for a client that has its machine to itself, who
hands its own machine an `Encryptor` of theirs; without one it encrypts in its own process.

What is encrypted crosses a pipe in clear, to a child of this user's. A worker keeps no secret:
it has the public key, and forgets each row when its ciphertext is out.
"""

import multiprocessing as mp
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from protocols import bfv, ckks
from protocols.base import Parameters, Protocol, Session
from protocols.he.client import Client
from protocols.he.engine import Encryptor
from protocols.he.packing import Words
from protocols.registry import load
from secagg.errors import LocalError, ParameterError
from secagg.rng import RandomSource
from secagg.seal import Sealer

ENGINES: Mapping[str, Callable[..., Encryptor]] = {"ckks": ckks.engine_of, "bfv": bfv.engine_of}


@dataclass(frozen=True)
class _Order:
    """What a worker does next: encrypt rows of slots, under a key."""

    name: str
    parameters: Parameters
    public: bytes
    rows: Words


class Workers:
    """Processes that encrypt; `count` of them, as many as there are cores where None.

    Use it as a context manager: it leaves none. They start at once, and take half a second to
    import TenSEAL. They encrypt one vector at a time.
    """

    def __init__(self, count: int | None = None) -> None:
        context = mp.get_context("spawn")  # a process has one fork server, which is the runner's
        self._lock = threading.Lock()
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []
        for _ in range(count or os.cpu_count() or 1):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pids(self) -> tuple[int, ...]:
        """The workers' process ids."""
        return tuple(process.pid for process in self._processes)

    def close(self) -> None:
        """End all of them; nothing can be encrypted afterwards."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.terminate()
            process.join()
        self._pipes.clear()
        self._processes.clear()

    def protocol(self, name: str) -> Protocol:
        """`ckks` or `bfv` as in the registry, except that its clients encrypt in these."""
        return replace(load(name), client=_Clients(name, self).client)

    def encryptor(self, name: str, parameters: Parameters) -> Encryptor:
        """For a `protocols.he.client.Client`. ParameterError: another protocol's name."""
        if name not in ENGINES:
            raise ParameterError(f"{name} encrypts nothing here; choose {' or '.join(ENGINES)}")
        return _Shared(name, parameters, self)

    def encrypt_each(
        self, name: str, parameters: Parameters, public: bytes, pieces: Iterable[Words]
    ) -> Iterator[tuple[bytes, ...]]:
        """Ciphertexts for each piece, its rows dealt out in turn; the next piece is under way
        while the caller has one. LocalError: a worker is gone, or they are at another vector.
        All are closed where something fails or the caller stops early, as then nobody knows
        whose ciphertext comes next.
        """
        if not self._lock.acquire(blocking=False):
            raise LocalError("these workers are at another vector")
        try:
            owed: list[Connection] = []
            for slots in pieces:
                ready = _read(owed)
                owed = self._hand_out(_Order(name, parameters, public, slots))
                if ready:
                    yield ready
            yield _read(owed)
        except BaseException as error:
            self.close()
            if isinstance(error, EOFError | OSError):
                raise LocalError("a process that encrypts has ended") from None
            raise
        finally:
            self._lock.release()

    def _hand_out(self, order: _Order) -> list[Connection]:
        """Where the ciphertext of each row will come from. All that was owed has been read, so
        the workers are listening.
        """
        if not self._pipes:
            raise LocalError("these workers have been closed")
        pipes = self._pipes[: len(order.rows)]
        for first, pipe in enumerate(pipes):
            pipe.send(replace(order, rows=order.rows[first :: len(pipes)]))
        return [pipes[row % len(pipes)] for row in range(len(order.rows))]


@dataclass(frozen=True)
class _Shared(Encryptor):
    """An `Encryptor` of one protocol and set of parameters."""

    name: str
    parameters: Parameters
    workers: Workers

    def check_public(self, public: bytes) -> None:
        """See `Encryptor`: here, in this process."""
        ENGINES[self.name](self.parameters).check_public(public)

    def encrypt(self, public: bytes, slots: Words) -> tuple[bytes, ...]:
        """See `Encryptor`."""
        (ciphertexts,) = self.encrypt_each(public, (slots,))
        return ciphertexts

    def encrypt_each(self, public: bytes, pieces: Iterable[Words]) -> Iterator[tuple[bytes, ...]]:
        """See `Encryptor`."""
        return self.workers.encrypt_each(self.name, self.parameters, public, pieces)


@dataclass(frozen=True)
class _Clients:
    name: str
    workers: Workers

    def client(self, session: Session, me: int, _source: RandomSource, sealer: Sealer) -> Client:
        return Client(session, me, sealer, self.workers.encryptor(self.name, session.parameters))


def _read(owed: Iterable[Connection]) -> tuple[bytes, ...]:
    return tuple(pipe.recv_bytes() for pipe in owed)


def _work(pipe: Connection) -> None:
    """Encrypt until the other end is gone; each ciphertext leaves when it is made."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    while True:
        try:
            order = pipe.recv()
            engine = ENGINES[order.name](order.parameters, threads=1)
            for row in range(len(order.rows)):
                (ciphertext,) = engine.encrypt(order.public, order.rows[row : row + 1])
                pipe.send_bytes(ciphertext)
        except (EOFError, OSError):
            return
