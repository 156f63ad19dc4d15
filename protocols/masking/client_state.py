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
    """Its key is out; it has not said yet what it trains."""

    stage: ClassVar[str] = "share"
    seeds: Seeds
    advert: Keys


class Bound(State, frozen=True, tag="bound"):
    """It knows what is trained, and waits for the cohort."""

    stage: ClassVar[str] = "share"
    context: Bytes32
    seeds: Seeds
    advert: Keys
    application: Bytes32

    @property
    def expected_context(self) -> bytes:
        """Adverts and the cohort are bound to `context0`."""
        return self.context


class Joined(State, frozen=True):
    """Base of the states after stage 0, when everything is bound to `context1`."""

    context: Bytes32

    @property
    def expected_context(self) -> bytes:
        """`context1`."""
        return self.context


class Shared(Joined, frozen=True, tag="shared"):
    """Its shares are out; it waits for those of its neighbours.

    agreed: the secret with each neighbour, in their order, empty where the suite has none.
    """

    stage: ClassVar[str] = "upload"
    seeds: Seeds
    own_share: Share
    neighbours: tuple[PartyId, ...]
    agreed: tuple[bytes, ...]


class Peer(Value, frozen=True):
    """A neighbour that shared, and the shares that it entrusted to us."""

    party: PartyId
    mask_share: Share
    self_share: Share


class Ready(Joined, frozen=True, tag="ready"):
    """It can mask a vector: `pair_secrets`, from which the masks come, stand in the order of
    `peers`; `links` is what it will publish of them.
    """

    stage: ClassVar[str] = "upload"
    own_seed: Bytes32
    own_share: Share
    peers: tuple[Peer, ...]
    pair_secrets: tuple[Bytes32, ...]
    links: bytes


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
