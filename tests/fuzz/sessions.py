"""An honest session, with machines as they were before each kind of message that they get."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from protocols import masking
from protocols.base import SERVER, Envelope, Machine, Message
from secagg.codec import encode
from tests.protocols.active_support import Round, active, secrets_of

N, LENGTH, BITS = 3, 3, 12


@dataclass(frozen=True)
class Held:
    """`machine` once stood at `snapshot`, and `due` was what came next from `sender`."""

    machine: Machine
    state: str
    snapshot: bytes
    due: bytes
    sender: int
    secrets: tuple[bytes, ...]


@dataclass(frozen=True)
class Recorded:
    """For each state of client 1 and of the server the last such moment; and all messages."""

    held: tuple[Held, ...]
    corpus: tuple[bytes, ...]


def parameters(*, is_active: bool, suite: str = "X25519") -> Any:
    """Three clients, of whom two are enough."""
    if is_active:
        return active(N, LENGTH, BITS, corrupt=0, suite=suite)
    return masking.configure(N, LENGTH, BITS, threshold=2, floor=2, suite=suite)


@dataclass
class _Recording(Round):
    """Writes down what arrives, and where."""

    corpus: list[bytes] = field(default_factory=list)
    held: dict[str, Held] = field(default_factory=dict)

    def tell(self, u: int, body: Message | bytes, sender: int = SERVER) -> tuple[Envelope, ...]:
        data = body if isinstance(body, bytes) else encode(body)
        self._note(self.machine(u), data, sender)
        return super().tell(u, body, sender)

    def hear(self, envelopes: Iterable[Envelope]) -> None:
        for each in envelopes:
            self._note(self.server, each.data, each.sender)
            super().hear([each])

    def _note(self, machine: Machine, data: bytes, sender: int) -> None:
        self.corpus.append(data)
        if machine.me not in (SERVER, 1):
            return
        name = type(machine.state).__name__
        secrets = tuple(secrets_of(machine.state)) if machine.me else ()
        self.held[name] = Held(machine, name, machine.snapshot(), data, sender, secrets)


@cache
def recorded(is_active: bool) -> Recorded:
    """One session to its end; client 3 shares its keys and does not upload."""
    played = _Recording(parameters(is_active=is_active))
    told = played.uploads(played.inboxes(), without={3})
    played.finish(played.proofs(told) if is_active else told)
    return Recorded(tuple(played.held.values()), tuple(played.corpus))
