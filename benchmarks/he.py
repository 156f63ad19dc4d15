"""What a client of `ckks` and `bfv` spends, against TenSEAL as others call it, on one thread.

Ours is everything between the vector and the envelopes: packing, encryption, serialisation and
sealing, in the client's machine. A peer encrypts and serialises, and seals nothing. Of the two,
one has the parameters that NVFLARE ships, the other ours: what is gained by the parameters and
what by encrypting on our own shows apart.
"""

import multiprocessing as mp
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Line, close, same, timed
from protocols.base import SERVER, Begin, Contribute, Join, Protocol, Received, RoundClosed, Session
from protocols.driver import run
from protocols.registry import load
from secagg.rng import SystemSource
from secagg.seal import SystemSealer

NVFLARE = 8192, [60, 40, 40], 2.0**40
THREADS = 1
BITS = 32
UNIT = 1 if sys.platform == "darwin" else 1024

Values = NDArray[np.uint32]


def client_upload(name: str, d: int, clients: int) -> Line:
    """One client's upload of d 32-bit values in a session of so many clients."""
    protocol = load(name)
    parameters = protocol.configure(clients, d, BITS)
    values = np.random.default_rng(0).integers(0, 2**BITS, d, np.uint32)
    peers = _peers(name, parameters)
    sent: list[int] = []

    def upload(client: Any) -> None:
        sent[:] = [len(e.data) for e in client.handle(Contribute(values))]

    def check() -> None:
        _check_sum(protocol, clients)
        upload(_ready(protocol, parameters))
        for peer, encrypted in peers.items():
            encrypted.check(values[: 3 * encrypted.slots], peer)

    check()
    return Line(
        f"{name} client, d={d}",
        {
            "d": d,
            "clients": clients,
            "bits": BITS,
            "peak": round(peak(name, d, clients), 2),
        },
        timed(upload, lambda: _ready(protocol, parameters)),
        check,
        peers={peer: timed(lambda e=e: e.upload(values)) for peer, e in peers.items()},
        bytes_per_param=sum(sent) / d,
    )


def peak(name: str, d: int, clients: int) -> float:
    """How far a client's memory grows for its upload, in multiples of the upload: in a process
    of its own, the envelopes included, which are all kept.
    """
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure_peak, args=(name, d, clients, theirs))
    process.start()
    grown, sent = ours.recv()
    process.join()
    return float(grown / sent)


def _measure_peak(name: str, d: int, clients: int, report: Any) -> None:
    protocol = load(name)
    small = protocol.configure(clients, 10_000, BITS)
    _ready(protocol, small).handle(Contribute(np.zeros(10_000, np.uint32)))  # all is loaded
    parameters = protocol.configure(clients, d, BITS)
    client, values = _ready(protocol, parameters), np.arange(d, dtype=np.uint32)
    before = _resident()
    sent = client.handle(Contribute(values))
    report.send((_highest() - before, sum(len(e.data) for e in sent)))


def _resident() -> int:
    """Resident bytes of this process now, from where `_highest` counts; elsewhere than on Linux
    the most so far.
    """
    if sys.platform != "linux":
        return _highest()
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    return _status("VmRSS")


def _highest() -> int:
    """The most resident bytes since `_resident`."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
    return _status("VmHWM")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def _ready(protocol: Protocol, parameters: Any) -> Any:
    """Client 1 with the keys of its session: what a round has before the update is there."""
    source = SystemSource()
    session = Session(protocol.name, parameters, source.seed(), bytes(32))
    server = protocol.server(session, source)
    server.handle(Begin(bytes(32)))
    everyone = range(1, parameters.clients + 1 + parameters.helpers)
    parties = {me: protocol.party(session, me, source, SystemSealer()) for me in everyone}
    for me, party in parties.items():
        (hello,) = party.handle(Join())
        server.handle(Received(me, hello.data))
    parties[1].handle(Begin(bytes(32)))
    offer = next(e for e in server.handle(RoundClosed()) if e.to == 1)
    parties[1].handle(Received(SERVER, offer.data))
    return parties[1]


def _check_sum(protocol: Protocol, clients: int) -> None:
    """A small session ends in the exact sum."""
    parameters = protocol.configure(clients, 5000, BITS)
    session = Session(protocol.name, parameters, SystemSource().seed(), bytes(32))
    rng = np.random.default_rng(1)
    inputs = {u: rng.integers(0, 2**BITS, 5000, np.uint32) for u in range(1, clients + 1)}
    result = run(protocol, session, inputs, SystemSource()).result
    if result is not None:
        total = np.sum(list(inputs.values()), axis=0, dtype=np.uint32)
        same(result.total.astype(np.uint32), total, f"{protocol.name} sum")


def _peers(name: str, parameters: Any) -> dict[str, "_Tenseal"]:
    own = parameters.degree, [60, 49]
    if name == "bfv":
        t = parameters.plain_modulus
        return {"TenSEAL, 1 thread, same parameters": _Tenseal(*own, plain_modulus=t)}
    return {
        "TenSEAL, 1 thread": _Tenseal(NVFLARE[0], NVFLARE[1], scale=NVFLARE[2]),
        "TenSEAL, 1 thread, same parameters": _Tenseal(*own, scale=2.0**parameters.scale_bits),
    }


class _Tenseal:
    """Vectors of one ciphertext each, encrypted one after the other and serialised."""

    def __init__(
        self,
        degree: int,
        primes: list[int],
        *,
        scale: float | None = None,
        plain_modulus: int | None = None,
    ) -> None:
        import tenseal  # noqa: PLC0415

        self._exact = scale is None
        self._encrypted: Any = tenseal.bfv_vector if self._exact else tenseal.ckks_vector
        self.slots = degree if self._exact else degree // 2
        self._context = tenseal.context(
            tenseal.SCHEME_TYPE.BFV if self._exact else tenseal.SCHEME_TYPE.CKKS,
            poly_modulus_degree=degree,
            plain_modulus=plain_modulus,
            coeff_mod_bit_sizes=primes,
            n_threads=THREADS,
        )
        if scale is not None:
            self._context.global_scale = scale

    def upload(self, values: Values) -> int:
        """Bytes of the serialised ciphertexts."""
        return sum(len(each.serialize()) for each in self._chunks(values))

    def check(self, values: Values, name: str) -> None:
        """Raise DifferentResultsError unless they decrypt to the values."""
        opened = [v for each in self._chunks(values) for v in each.decrypt()]
        close(np.array(opened) / 2**BITS, self._input(values) / 2**BITS, 1e-4, name)

    def _chunks(self, values: Values) -> Any:
        for low in range(0, values.size, self.slots):
            piece = self._input(values[low : low + self.slots])
            yield self._encrypted(self._context, piece.tolist())

    def _input(self, values: Values) -> NDArray[Any]:
        """Integers for BFV, and centred real numbers below 2^31 for CKKS."""
        if self._exact:
            return values.astype(np.int64)
        return values.astype(np.float64) - 2.0 ** (BITS - 1)
