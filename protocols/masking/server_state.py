"""The states of the server of `masking`: what it holds while it waits for each stage."""

from collections.abc import Collection
from typing import ClassVar

from protocols.base import BadAnswer, State, Terminal
from protocols.masking.messages import Keys, Shares, UnmaskAnswer
from secagg.codec import Bytes16, Bytes32, Value
from secagg.ring import RingVector


class Dealt(Value, frozen=True):
    """What the server keeps of a client's `Shares`: the commitment to its self-mask seed,
    the fingerprints by holder, and the sealed contributions by recipient.
    """

    commitment: Bytes32
    mask_fingerprints: dict[int, Bytes16]
    self_fingerprints: dict[int, Bytes16]
    contributions: dict[int, bytes]

    @classmethod
    def by(cls, dealer: int, message: Shares, sharers: Collection[int]) -> "Dealt":
        """Without the sealed shares, which are delivered, and what clients outside U2 got."""
        posted = [p for p in message.posted if p.to in sharers]
        own = {dealer: message.own_fingerprint}
        return cls(
            message.commitment,
            {p.to: p.mask_fingerprint for p in posted},
            {p.to: p.self_fingerprint for p in posted} | own,
            {p.to: p.contribution for p in posted},
        )

    def keep_for_dropped(self, survivors: Collection[int]) -> "Dealt":
        """Once U3 is fixed: only contributions to dropped clients are still of use."""
        kept = {v: sealed for v, sealed in self.contributions.items() if v not in survivors}
        return Dealt(self.commitment, self.mask_fingerprints, self.self_fingerprints, kept)


class Advertising(State, frozen=True, tag="advertising"):
    """Collecting U1. `owners` maps every public key seen to the client that sent it."""

    stage: ClassVar[str] = "advertise"
    context: Bytes32
    graph_seed: Bytes32
    application: bytes
    adverts: dict[int, Keys]
    owners: dict[bytes, int]

    @property
    def expected_context(self) -> bytes:
        """`context0`."""
        return self.context


class Fixed(State, frozen=True):
    """Base of the states after U1 is fixed."""

    context: Bytes32
    graph_seed: Bytes32
    adverts: dict[int, Keys]

    @property
    def expected_context(self) -> bytes:
        """`context1`."""
        return self.context


class Sharing(Fixed, frozen=True, tag="sharing"):
    """Collecting U2: what each client posted for its neighbours."""

    stage: ClassVar[str] = "share"
    posted: dict[int, Shares]


class Collecting(Fixed, frozen=True, tag="collecting"):
    """Collecting U3: one running sum, whatever the number of clients.

    `pieces` keeps what came of uploads that are not complete: none of it may be in the sum.
    """

    stage: ClassVar[str] = "upload"
    dealt: dict[int, Dealt]
    uploaded: frozenset[int]
    pieces: dict[int, tuple[bytes, ...]]
    total: RingVector


class Unmasking(Fixed, frozen=True, tag="unmasking"):
    """Collecting the answers of U3; then the masks come off in one pass."""

    stage: ClassVar[str] = "unmask"
    dealt: dict[int, Dealt]
    uploaded: frozenset[int]
    total: RingVector
    answers: dict[int, UnmaskAnswer]


class Finished(Terminal, frozen=True, tag="finished"):
    """The sum is known."""

    stage: ClassVar[str] = "finished"
    total: RingVector
    contributors: tuple[int, ...]
    dropped: dict[int, str]
    bad_answers: tuple[BadAnswer, ...]
