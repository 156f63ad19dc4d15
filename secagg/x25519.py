"""X25519 (RFC 7748) of one secret scalar with many public points: a client and its neighbours.

Eight points go through the ladder at once (`secagg.kernels.x25519`) where the CPU multiplies
vectors of 52-bit numbers. Elsewhere OpenSSL is as fast, one after the other.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from secagg import kernels
from secagg.errors import LocalError

BYTES = 32
MOST_ALONE = 2
"""Points for which OpenSSL is as fast."""

_AGREEMENT = 36_000  # nanoseconds, with OpenSSL


def agreed(scalar: bytes, points: Sequence[bytes]) -> list[bytes] | None:
    """The secrets, 32 bytes each, of the holder of `scalar` with those of these public keys, all
    of 32 bytes (RFC 7748, section 6.1): empty for a point of low order. None where doing that
    together is not worth it, or not possible. Raises LocalError for other lengths.
    """
    if {len(scalar), *map(len, points)} != {BYTES}:
        raise LocalError(f"scalars and points of X25519 have {BYTES} bytes")
    worth = len(points) > MOST_ALONE and kernels.worth(_AGREEMENT * len(points))
    if not worth or (compiled := _compiled()) is None:
        return None
    out = np.empty((len(points), BYTES // 8), "<u8")
    compiled.ladders(scalar, _limbs(points, compiled.WIDTH, compiled.LIMBS), out)
    whole = np.bitwise_or.reduce(out, axis=1) != 0
    return [row.tobytes() if good else b"" for row, good in zip(out, whole.tolist(), strict=True)]


def _limbs(points: Sequence[bytes], width: int, count: int) -> Any:
    """Numbers of `width * count` bits, whatever else the points have, in limbs: (n, count)."""
    words = np.frombuffer(b"".join(points), "<u8").reshape(len(points), BYTES // 8)
    words = np.concatenate([words, np.zeros_like(words[:, :1])], axis=1)
    first, bits = np.divmod(width * np.arange(count, dtype=np.uint64), np.uint64(64))
    high = words[:, first + np.uint64(1)] << np.uint64(63) - bits << np.uint64(1)
    return (words[:, first] >> bits | high) & np.uint64((1 << width) - 1)


@cache
def _compiled() -> Any:
    """The compiled kernel, or None where OpenSSL is as good. Imports numba when called."""
    try:
        from secagg.kernels import x25519  # noqa: PLC0415
    except ImportError:
        return None
    return x25519 if x25519.usable() else None
