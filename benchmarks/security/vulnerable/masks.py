"""Masks of the weak protocol: SplitMix64 under a short seed, or AES-128-CTR under a long one.

SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) passes the statistical test batteries; that a
stream looks random says nothing about how many seeds there are.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg import prg
from secagg.kdf import derive

Words = NDArray[np.uint64]

GOLDEN = 0x9E3779B97F4A7C15
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
SPREAD = 0xD1342543DE82EF95
"""Keeps the streams of neighbouring seeds apart."""
_MASK = 2**64 - 1


def splitmix(seed: int, length: int, start: int = 0) -> Words:
    """Words `start` to `start + length - 1` of the stream of a seed."""
    base = np.uint64((seed * SPREAD) & _MASK)
    z: Any = base + (np.arange(start + 1, start + length + 1, dtype=np.uint64) * np.uint64(GOLDEN))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(FIRST)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(SECOND)
    mixed: Words = z ^ (z >> np.uint64(31))
    return mixed


def mask(seed: int, length: int, weak: bool) -> Words:
    """The mask of a seed."""
    if weak:
        return splitmix(seed, length)
    raw = derive(seed.to_bytes(32, "big"), "vulnerable mask", length=28)
    return prg.stream(prg.StreamKey(raw[:16], raw[16:]), length, np.uint64)


def shortened(secret: bytes, bits: int) -> int:
    """The seed in a secret of 32 bytes: its lowest bits."""
    return int.from_bytes(secret, "big") & (2**bits - 1)
