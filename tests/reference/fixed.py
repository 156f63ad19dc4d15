"""Fixed point: spec section 4, one IEEE double at a time."""

import math
from collections.abc import Sequence

from tests.reference.errors import Local, Parameter
from tests.reference.streams import ctr_words

Fixed = tuple[int, float, int, int]
"""bits, clip, max_weight, max_clients"""


def modulus_bits(bits: int, max_weight: int, max_clients: int) -> int:
    """The smallest k for which bits are left over the sum of all weights."""
    k = 0
    while 2**k < max_weight * max_clients:
        k += 1
    return bits + k


def scale_of(fixed: Fixed) -> float:
    return (2 ** fixed[0] - 1) / (2 * fixed[1])


def checked(fixed: Fixed) -> Fixed:
    """The same. Or Parameter."""
    bits, clip, max_weight, max_clients = fixed
    if not 1 <= bits <= 32:
        raise Parameter(f"bits is {bits}; choose 1 to 32")
    if not (0 < clip < math.inf and 0 < scale_of(fixed) < math.inf):
        raise Parameter(f"clip is {clip}; choose a positive finite range")
    if not 1 <= max_weight <= 2**20 or max_clients < 1:
        raise Parameter("max_weight must be 1 to 2^20, max_clients at least 1")
    k = modulus_bits(bits, max_weight, max_clients)
    if k > 64:
        raise Parameter(f"needs {k} bits; lower bits ({bits})")
    return fixed


def filling(k: int, clip: float, max_weight: int, max_clients: int) -> Fixed:
    """The most bits for a modulus of at most k bits. Or Parameter."""
    above = modulus_bits(0, max_weight, max_clients)
    if k <= above:
        raise Parameter(f"use at least {above + 1} bits, or lower max_weight or max_clients")
    return checked((min(32, k - above), clip, max_weight, max_clients))


def encode_values(
    fixed: Fixed, values: Sequence[float], weight: int, key: bytes, iv: bytes
) -> list[int]:
    """Each value times the weight, rounded by its coin; then the weight. Or Local."""
    bits, clip, max_weight, _ = checked(fixed)
    if not 1 <= weight <= max_weight:
        raise Local(f"weight {weight} is outside 1..{max_weight}")
    if not values or any(type(x) is not float for x in values):
        raise Local("not one or more floats")
    if not all(map(math.isfinite, values)):
        raise Local("NaN or infinity")
    if any(abs(x) > clip for x in values):
        raise Local("a value outside [-clip, clip]")
    scale, out = scale_of(fixed), []
    for x, word in zip(values, ctr_words(key, iv), strict=False):
        exact = weight * ((x + clip) * scale)
        whole = math.floor(exact)
        up = whole + ((exact - whole) + word / 2**32 >= 1)
        out.append(min(max(up, 0), weight * (2**bits - 1)))
    return [*out, weight]


def decode_sum(fixed: Fixed, total: Sequence[int]) -> list[float]:
    """The weighted mean. Or Local."""
    bits, clip, max_weight, max_clients = checked(fixed)
    if len(total) < 2:
        raise Local("a sum has at least one value, and the weights")
    *values, weights = total
    if not 1 <= weights <= max_weight * max_clients:
        raise Local(f"weights {weights}, which no cohort can have")
    if max(values) > weights * (2**bits - 1):
        raise Local("a value beyond what the weights in it allow")
    return [value / (scale_of(fixed) * weights) - clip for value in values]
