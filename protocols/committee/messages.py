"""What crosses the wire in `committee`, in the order of the stages, and what binds it."""

from collections.abc import Iterable

from protocols.base import Message
from secagg.codec import Bytes32, Count, PartyId, Value
from secagg.context import bound_context, cohort_context
from secagg.kdf import digest, label
from secagg.merkle import root


class DecryptorKey(Value, frozen=True):
    """A decryptor's fresh public key as it is published."""

    party: PartyId
    public: bytes


class Announcement(Message, frozen=True, tag="committee-key"):
    """Stage `keys`, decryptor to server: a fresh public key, bound to `context0`."""

    public: bytes


class Committee(Message, frozen=True, tag="committee"):
    """Stage `upload`, server to client: the decryptors, in order.

    application: a hint that names a mismatch; the sealed context decides.
    """

    application: Bytes32
    keys: tuple[DecryptorKey, ...]


class Upload(Message, frozen=True, tag="committee-upload"):
    """Stage `upload`, client to server: a piece of the ciphertext. Pieces come in order,
    numbered by `index`; the last has, for each decryptor in order, the shares sealed for it.
    """

    index: Count
    packed: bytes
    sealed: tuple[bytes, ...]


class Delivered(Value, frozen=True):
    """What one client sealed for the recipient."""

    sender: PartyId
    sealed: bytes


class Delivery(Message, frozen=True, tag="committee-delivery"):
    """Stage `report`, server to decryptor, bound to `context0`: what makes up `context2`, and
    the sealed shares of every client that uploaded, in order.
    """

    application: Bytes32
    keys: tuple[DecryptorKey, ...]
    delivered: tuple[Delivered, ...]


class Report(Message, frozen=True, tag="committee-report"):
    """Stage `report`, decryptor to server: whose shares opened, in order."""

    opened: tuple[PartyId, ...]


class OpenRequest(Message, frozen=True, tag="committee-open"):
    """Stage `open`, server to decryptor: U3, in order."""

    survivors: tuple[PartyId, ...]


class Answer(Message, frozen=True, tag="committee-answer"):
    """Stage `open`, decryptor to server: the sum of its shares over U3, 31 bits an element."""

    total: bytes


def context_of(context0: bytes, application: bytes, keys: Iterable[DecryptorKey]) -> bytes:
    """`context2`: session, the keys that shares are sealed to, application."""
    leaves = [digest("decryptor", key.party, key.public) for key in keys]
    return bound_context(cohort_context(context0, bytes(32), root(leaves)), application)


def info(context2: bytes, client: int, decryptor: int) -> bytes:
    """What a client's shares for a decryptor are sealed under."""
    return label("committee shares", context2, client, decryptor)
