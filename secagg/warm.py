"""Calls every kernel once on a few words, so that it is compiled or loaded."""

from collections.abc import Iterator

import numpy as np

from secagg import kdf, lpr, packing, prg, ringset, rlwe, shamir, x25519
from secagg.ed25519 import MOST_ALONE
from secagg.encoding import FixedPoint
from secagg.rng import SEED_BYTES
from secagg.signing import ED25519, Claim, Identity, verify_all

_KEY = prg.StreamKey(bytes(prg.KEY_BYTES), bytes(prg.IV_BYTES))
_NINE = (9).to_bytes(x25519.BYTES, "little")


def warm_up() -> Iterator[str]:
    """Compile or load every kernel that the default backends use, yielding each name before."""
    from secagg.kernels import _jit  # noqa: PLC0415 - numba, after the cache folder is chosen

    for name in _jit.aes_kernels()[:1]:
        yield f"masks of 32-bit words, {name}"
        _mask(np.zeros(1, np.uint32), name)
        yield f"masks of 64-bit words, {name}"
        _mask(np.zeros(1, np.uint64), name)
    for bits in (17, 33):
        yield f"packing of {bits // 32 * 32 + 32}-bit words"
        packing.pack(packing.unpack(bytes(bits), bits, 8), bits)
    yield "secret sharing"
    shares = shamir.deal([bytes(shamir.SECRET_BYTES)], [1, 2], 2, _KEY)
    shamir.reconstruct([1, 2], [[of for (of,) in shares]])
    yield "key derivation"
    rows = np.zeros((kdf.LEAST_TOGETHER, kdf.DIGEST_BYTES), np.uint8)
    kdf.derive_many(rows, "", rows)
    kdf.digests("", rows)
    yield "key agreement"
    x25519.agreed(bytes(x25519.BYTES), [_NINE] * (x25519.MOST_ALONE + 1))
    yield "signatures"
    _signatures()
    yield "key-additive encryption"
    _encryption()
    yield "public-key encryption"
    _public_key()
    for bits in (17, 32):
        yield f"fixed point in {bits // 32 * 32 + 32}-bit words"
        _round_trip(FixedPoint(bits, 1.0, 2, 1))


def _mask(acc: prg.Words, name: str) -> None:
    """One stream under a key of zeros, which protects nothing."""
    prg.add_masks(acc, [_KEY], [1], backend=name)


def _signatures() -> None:
    """As many as are verified together, under keys of public seeds; then one of them alone."""
    keys = [Identity.from_seed(ED25519, bytes([n]) * SEED_BYTES) for n in range(MOST_ALONE + 1)]
    claims = [Claim("", key.public, key.sign(b""), b"") for key in keys]
    verify_all(claims)
    claims[0].public.verify(claims[0].signature, b"")


def _encryption() -> None:
    """One small vector of each word, encrypted under a key of a seed of zeros, and opened."""
    zeros = bytes(32)
    for largest in (1, 2**32):
        plan = ringset.choose(2, 1, largest)
        key, total = rlwe.draw_key(zeros, zeros, plan), rlwe.zero_sum(plan)
        (data,) = rlwe.encrypt(plan, zeros, zeros, np.zeros(1, np.uint64), key, 1)
        rlwe.check_piece(plan, range(1), data)
        rlwe.add_chunks(plan, total, range(1), data)
        rlwe.open_sum(plan, total, zeros, key.astype(np.int64), 1)


def _public_key() -> None:
    """One message of zeros under a key of zeros, which hides nothing."""
    ring = lpr.Ring(1024, 18433, 12289)
    key = lpr.PublicKey(ring, np.zeros((2, 2, ring.degree), np.uint64))
    zeros = np.zeros((1, ring.degree), np.uint64)
    lpr.encrypt(key, zeros, _KEY, flat=True)
    lpr.scale_up(ring.transforms[0].inverse(zeros), ring.prime, 3)


def _round_trip(encoding: FixedPoint) -> None:
    """Both kinds of floats in, the mean out."""
    for dtype in (np.float32, np.float64):
        encoding.decode(encoding.encode_words(np.zeros(1, dtype), 1, _KEY).words)
