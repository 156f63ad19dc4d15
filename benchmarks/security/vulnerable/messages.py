"""What crosses the wire in the weak protocol."""

from protocols.base import Message
from secagg.codec import Bytes32, PartyId, Value


class Key(Value, frozen=True):
    """A client's public key."""

    party: PartyId
    public: bytes
    signature: bytes


class Advert(Message, frozen=True, tag="weak-advert"):
    """Stage advertise, client to server."""

    public: bytes
    signature: bytes


class Cohort(Message, frozen=True, tag="weak-cohort"):
    """Stage advertise, server to client: everybody's key."""

    application: Bytes32
    keys: tuple[Key, ...]


class Parcel(Value, frozen=True):
    """What is sealed for, or came from, `party`."""

    party: PartyId
    sealed: bytes


class Shares(Message, frozen=True, tag="weak-shares"):
    """Stage share, client to server."""

    parcels: tuple[Parcel, ...]


class Inbox(Message, frozen=True, tag="weak-inbox"):
    """Stage share, server to client."""

    parcels: tuple[Parcel, ...]


class Upload(Message, frozen=True, tag="weak-upload"):
    """Stage upload, client to server."""

    packed: bytes


class Ask(Message, frozen=True, tag="weak-ask"):
    """Stage unmask, server to client: whose self-mask share, and whose key share, it wants."""

    survivors: tuple[PartyId, ...]
    dropped: tuple[PartyId, ...]


class Piece(Value, frozen=True):
    """A share of a secret of `party`."""

    party: PartyId
    share: bytes


class Answer(Message, frozen=True, tag="weak-answer"):
    """Stage unmask, client to server."""

    own: tuple[Piece, ...]
    keys: tuple[Piece, ...]
