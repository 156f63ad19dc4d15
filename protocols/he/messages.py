"""What crosses the wire in `ckks` and `bfv`, in the order of the stages."""

from protocols.base import Message
from secagg.codec import Bytes32, Count, Value


class Present(Message, frozen=True, tag="he-present"):
    """Stage join, client to server: it takes part. Bound to `context0`."""


class PublicKey(Message, frozen=True, tag="he-key"):
    """Stage join, key holder to server: a new public key, a SEAL object. Bound to `context0`."""

    key: bytes


class Offer(Message, frozen=True, tag="he-offer"):
    """Stage join, server to client: the key to encrypt under, and the server's own to seal for.

    application: a hint that names a mismatch; the contexts of what follows decide.
    """

    application: Bytes32
    key: bytes
    sealing_key: bytes


class Batch(Value, frozen=True):
    """Ciphertexts, each a SEAL object: the plaintext of what is sealed."""

    ciphertexts: tuple[bytes, ...]


class Upload(Message, frozen=True, tag="he-upload"):
    """Stage upload, client to server: a piece, numbered, sealed for the server."""

    index: Count
    sealed: bytes


class Aggregate(Message, frozen=True, tag="he-aggregate"):
    """Stage upload, server to key holder: a piece of the sum over so many clients."""

    index: Count
    contributors: Count
    ciphertexts: tuple[bytes, ...]


class Opened(Message, frozen=True, tag="he-opened"):
    """Stage open, key holder to server: the sum modulo 2^k, k bits a coordinate."""

    packed: bytes
