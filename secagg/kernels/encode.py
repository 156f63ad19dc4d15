"""Fixed-point encoding and decoding, one pass each: nothing but the result is ever written.

Every operation is the reference's, on the same float64 values in the same order, so that the
results agree to the bit: no multiplication by a reciprocal, no fused multiply-add.
`secagg.encoding` holds the reference.
"""

from typing import Any

import numpy as np

from secagg.kernels._jit import compiles, kernel

__all__ = ["compiles", "decode", "encode"]

_STEP = 2.0**-32
_LARGEST = np.finfo(np.float64).max


@kernel
def encode(values: Any, words: Any, clip: float, scale: float, weight: float, top: float) -> Any:
    """Replace each 32-bit coin in `words` by the encoding of the value beside it.

    Values beyond the clip are clipped. Returns how many there were, those that are not
    finite included, and how many values were NaN or infinite.
    """
    beyond, broken = 0, 0
    for index in range(values.size):
        value: Any = np.float64(values[index])
        beyond += not abs(value) <= clip
        broken += not abs(value) <= _LARGEST
        value = value if value < clip else clip  # also where it is NaN
        value = value if value > -clip else -clip
        shifted = weight * ((value + clip) * scale)
        whole = np.int64(shifted)  # not negative: this is the floor
        up = (shifted - whole) + np.float64(words[index]) * _STEP >= 1.0
        words[index] = words.dtype.type(min(whole + np.int64(up), np.int64(top)))
    return beyond, broken


@kernel
def decode(total: Any, divisor: float, clip: float, out: Any) -> Any:
    """`out = total / divisor - clip`; returns the largest of `total`."""
    highest = total.dtype.type(0)
    for index in range(total.size):
        highest = max(highest, total[index])
        out[index] = np.float64(total[index]) / divisor - clip
    return highest
