"""The states of the server of `masking`: what it holds while it waits for each stage."""

from typing import ClassVar

from protocols.base import BadAnswer, State, Terminal
from protocols.masking.messages import Keys, Shares, UnmaskAnswer
from secagg.codec import Bytes16, Bytes32, Value
from secagg.ring import RingVector


class Dealt(Value, frozen=True):
    """What the server keeps of a client's `Shares` once they are delivered: the commitments
    to its seeds, and the fingerprints, 16 bytes for each of its neighbours in U1 in order.
    """

    mask_commitment: Bytes32
    self_commitment: Bytes32
    own_fingerprint: Bytes16
    mask_fingerprints: bytes
    self_fingerprints: bytes

    @classmethod
    def by(cls, message: Shares) -> "Dealt":
        """Without what was sealed."""
        return cls(
            message.mask_commitment,
            message.self_commitment,
            message.own_fingerprint,
            message.mask_fingerprints,
            message.self_fingerprints,
        )


class Advertising(State, frozen=True, tag="advertising"):
    """Collecting U1. `owners` maps every public key seen to the client that sent it."""

    stage: ClassVar[str] = "advertise"
    context: Bytes32
    graph_seed: Bytes32
    adverts: dict[int, Keys]
    owners: dict[bytes, int]

    @property
    def expected_context(self) -> bytes:
        """`context0`."""
        return self.context


class Fixed(State, frozen=True):
    """Base of the states after U1 is fixed. `context` is `context1`."""

    context: Bytes32
    graph_seed: Bytes32
    members: frozenset[int]


class Sharing(Fixed, frozen=True, tag="sharing"):
    """Collecting U2: what each client has for its neighbours."""

    stage: ClassVar[str] = "share"
    posted: dict[int, Shares]

    @property
    def expected_context(self) -> bytes:
        """`context1`."""
        return self.context


class Prepared(Fixed, frozen=True, tag="prepared"):
    """U2 is fixed and has its keys; what is trained has not been said yet."""

    stage: ClassVar[str] = "upload"
    dealt: dict[int, Dealt]


class Summing(Fixed, frozen=True):
    """Base of the states that have a sum, masked under `bound`, which is `context2`.

    `links` has those of each client that is in it.
    """

    bound: Bytes32
    dealt: dict[int, Dealt]
    links: dict[int, bytes]
    total: RingVector

    @property
    def expected_context(self) -> bytes:
        """`context2`."""
        return self.bound

    @property
    def carried(self) -> "_Carried":
        """These fields in order, for the next state."""
        cohort = (self.context, self.graph_seed, self.members)
        return (*cohort, self.bound, self.dealt, self.links, self.total)


_Carried = tuple[
    bytes, bytes, frozenset[int], bytes, dict[int, Dealt], dict[int, bytes], RingVector
]


class Collecting(Summing, frozen=True, tag="collecting"):
    """Collecting U3: one running sum, whatever the number of clients.

    `pieces` keeps what came of uploads that are not complete: none of it may be in the sum.
    """

    stage: ClassVar[str] = "upload"
    pieces: dict[int, tuple[bytes, ...]]


class Summed(Summing, frozen=True):
    """Base of the states after U3, the clients that have `links`, is fixed."""


class Confirming(Summed, frozen=True, tag="confirming"):
    """Collecting what the members of U3 sign (active mode)."""

    stage: ClassVar[str] = "consistency"
    confirmations: dict[int, bytes]


class Unmasking(Summed, frozen=True, tag="unmasking"):
    """Collecting the answers of those who were asked; then the masks come off in one pass."""

    stage: ClassVar[str] = "unmask"
    asked: frozenset[int]
    answers: dict[int, UnmaskAnswer]


class Finished(Terminal, frozen=True, tag="finished"):
    """The sum is known."""

    stage: ClassVar[str] = "finished"
    total: RingVector
    contributors: tuple[int, ...]
    dropped: dict[int, str]
    bad_answers: tuple[BadAnswer, ...]
