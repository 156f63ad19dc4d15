"""Fixed point: spec section 4, one IEEE double at a time."""

import math
from collections.abc import Sequence

from tests.reference.streams import ctr_words


def encode_values(
    fixed: tuple[int, float, int, int], values: Sequence[float], weight: int, key: bytes, iv: bytes
) -> list[int]:
    """IEEE doubles as in the docstring of `secagg.encoding`, one value at a time."""
    bits, clip = fixed[:2]
    scale = (2**bits - 1) / (2 * clip)
    out = []
    for x, word in zip(values, ctr_words(key, iv), strict=False):
        exact = weight * ((x + clip) * scale)
        whole = math.floor(exact)
        up = whole + ((exact - whole) + word / 2**32 >= 1)
        out.append(min(max(up, 0), weight * (2**bits - 1)))
    return [*out, weight]


def modulus_bits(bits: int, max_weight: int, max_clients: int) -> int:
    """The smallest k for which bits are left over the sum of all weights."""
    k = 0
    while 2**k < max_weight * max_clients:
        k += 1
    return bits + k
