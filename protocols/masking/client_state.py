"""The states of a client of `masking`: one for each thing it waits for.

Each holds only the secrets that are still needed: seeds until the shares are out, pair secrets
until the upload, the shares of the neighbours until it has answered once.
"""

from typing import ClassVar

from protocols.base import State, Terminal
from protocols.masking.keys import Seeds
from protocols.masking.messages import Keys, Share
from secagg.codec import Bytes32, PartyId, Value


class Idle(State, frozen=True, tag="idle"):
    """Before the session."""

    stage: ClassVar[str] = "advertise"
    seeds: Seeds


class Advertised(State, frozen=True, tag="advertised"):
    """Its key is out; it waits for the cohort."""

    stage: ClassVar[str] = "share"
    context: Bytes32
    seeds: Seeds
    advert: Keys

    @property
    def expected_context(self) -> bytes:
        """Adverts and the cohort are bound to `context0`."""
        return self.context


class Joined(State, frozen=True):
    """Base of the states after stage 0: bound to `context1`, and from `Bound` on to `context2`."""

    context: Bytes32

    @property
    def expected_context(self) -> bytes:
        """The same."""
        return self.context


class Shared(Joined, frozen=True, tag="shared"):
    """Its shares are out; it waits for those of its neighbours.

    agreed: the secret with each neighbour, in their order.
    """

    stage: ClassVar[str] = "upload"
    seeds: Seeds
    own_share: Share
    neighbours: tuple[PartyId, ...]
    agreed: tuple[Bytes32, ...]


class Peer(Value, frozen=True):
    """A neighbour that shared, and the shares that it entrusted to us."""

    party: PartyId
    mask_share: Share
    self_share: Share


class Keyed(Joined, frozen=True):
    """Base of the states in which it has what masks are made from: `pair_secrets` stand in the
    order of `peers`; `links` is what it will publish of them.
    """

    stage: ClassVar[str] = "upload"
    own_seed: Bytes32
    own_share: Share
    peers: tuple[Peer, ...]
    pair_secrets: tuple[Bytes32, ...]
    links: bytes


class Ready(Keyed, frozen=True, tag="ready"):
    """It has all keys, and has not said yet what it trains."""


class Bound(Keyed, frozen=True, tag="bound"):
    """It knows what is trained, and can mask one vector."""


class Uploaded(Joined, frozen=True, tag="uploaded"):
    """Its masked vector is out; no mask can be made from what it still holds."""

    stage: ClassVar[str] = "unmask"
    own_share: Share
    peers: tuple[Peer, ...]


class Unconfirmed(Joined, frozen=True, tag="unconfirmed"):
    """Its masked vector is out, and it waits for U3 (active mode)."""

    stage: ClassVar[str] = "consistency"
    own_share: Share
    peers: tuple[Peer, ...]


class Confirmed(Joined, frozen=True, tag="confirmed"):
    """It has signed one U3, and waits for the signatures of others (active mode)."""

    stage: ClassVar[str] = "unmask"
    own_share: Share
    peers: tuple[Peer, ...]
    survivors: bytes


class Done(Terminal, frozen=True, tag="done"):
    """It has answered, once. It holds no secret any more."""

    stage: ClassVar[str] = "done"
