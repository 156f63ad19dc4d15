"""Contexts, what the sealing of uploads is bound to, and what encryption draws from."""

from secagg.context import bound_context, cohort_context
from secagg.kdf import derive, digest, label
from secagg.prg import STREAM_KEY_BYTES, StreamKey
from secagg.seal import KeyPair, Suite

_NOTHING = digest("no cohort")


def upload_context(context0: bytes, application: bytes, key: bytes, sealing_key: bytes) -> bytes:
    """`context2` of clients and server: both keys, and what is trained."""
    both = digest("he public key", key), digest("he sealing key", sealing_key)
    return bound_context(cohort_context(context0, *both), application)


def opening_context(context0: bytes, key: bytes) -> bytes:
    """What server and key holder are bound to: the key; the key holder knows no model."""
    return cohort_context(context0, digest("he public key", key), _NOTHING)


def sealing_keys(suite: Suite, seed: bytes, context0: bytes) -> KeyPair:
    """The server's key pair of one session."""
    return suite.key_pair(derive(seed, "he server", context0, length=suite.seed_bytes))


def coins(seed: bytes, context2: bytes) -> StreamKey:
    """What a client's 32-byte seed is to the encryption of its one upload."""
    return StreamKey.of(derive(seed, "he coins", context2, length=STREAM_KEY_BYTES))


def sealing_info(context2: bytes, client: int, index: int) -> bytes:
    """Everything that a sealed piece is bound to."""
    return label("he upload", context2, client, index)
