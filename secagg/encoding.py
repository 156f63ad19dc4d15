"""Fixed-point encoding of real vectors into integers that a ring can sum.

A client with integer weight w encodes each coordinate x in [-clip, clip] as the integer
w * (x + clip) * scale, rounded up or down at random so that its expectation is exact, with
scale = (2^bits - 1) / (2 clip). The weight follows in a coordinate of its own. The sum of n
such vectors gives the weighted mean, and its own weights with it:
mean = sum / (scale * sum of weights) - clip.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secagg import prg
from secagg.errors import LocalError, ParameterError

MAX_BITS = 32
MAX_MODULUS_BITS = 64
MAX_WEIGHT = 2**20  # 32 bits times 20 bits is exact in float64


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """The encoding that a whole federation shares.

    bits: resolution of one value, 1..32; clip: largest magnitude, > 0; max_weight: largest
    weight of one client, >= 1; max_clients: most clients in a sum, >= 1. Raises
    ParameterError where the sum would not fit in 64 bits.
    """

    bits: int
    clip: float
    max_weight: int
    max_clients: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= MAX_BITS:
            raise ParameterError(f"bits is {self.bits}; choose 1 to {MAX_BITS}")
        if not (math.isfinite(self.clip) and self.clip > 0):
            raise ParameterError(f"clip is {self.clip}; choose a positive finite range")
        if not (1 <= self.max_weight <= MAX_WEIGHT and self.max_clients >= 1):
            raise ParameterError(f"max_weight must be 1 to {MAX_WEIGHT}, max_clients at least 1")
        if self.modulus_bits > MAX_MODULUS_BITS:
            raise ParameterError(
                f"a sum of {self.max_clients} clients with weights up to {self.max_weight} needs "
                f"{self.modulus_bits} bits; lower bits ({self.bits}) or max_weight"
            )

    @classmethod
    def filling(
        cls, modulus_bits: int, *, clip: float, max_weight: int, max_clients: int
    ) -> "FixedPoint":
        """The finest encoding whose sums fit in `modulus_bits`; ParameterError if none does."""
        bits = min(modulus_bits - _headroom(max_weight, max_clients), MAX_BITS)
        if bits < 1:
            raise ParameterError(
                f"a modulus of {modulus_bits} bits is too small for the sum of {max_clients} "
                f"weights up to {max_weight}; use at least "
                f"{modulus_bits + 1 - bits} bits or lower max_weight"
            )
        return cls(bits, clip, max_weight, max_clients)

    @property
    def modulus_bits(self) -> int:
        """k = bits + ceil(log2(max_clients * max_weight)): no sum wraps modulo 2^k."""
        return self.bits + _headroom(self.max_weight, self.max_clients)

    @property
    def scale(self) -> float:
        """Integer steps in one unit of a value."""
        return float(2**self.bits - 1) / (2 * self.clip)

    def encode(
        self, values: NDArray[np.floating], weight: int, coins: prg.StreamKey
    ) -> NDArray[np.uint64]:
        """The d + 1 integers of a vector (d,) with its weight, rounded with `coins`.

        Raises LocalError for a wrong shape, NaN, infinity, a value beyond the clip or a weight
        outside 1..max_weight; clip beforehand, and count what you clip.
        """
        exact = self._checked(values, weight)
        shifted = weight * ((exact + self.clip) * self.scale)
        fraction = prg.stream(coins, exact.size, np.uint32) * 2.0**-32
        top = weight * (2**self.bits - 1)
        # at x = clip a float error of one unit in the last place must not leave the range
        rounded = np.clip(np.floor(shifted + fraction), 0, top).astype(np.uint64)
        return np.append(rounded, np.uint64(weight))

    def decode(self, total: NDArray[np.unsignedinteger]) -> tuple[NDArray[np.float64], int]:
        """The weighted mean (d,) and the sum of the weights of a sum (d + 1,) of encodings.

        Raises LocalError where the sum holds no weight, or more than all clients have.
        """
        weights = int(total[-1])
        if not 1 <= weights <= self.max_clients * self.max_weight:
            raise LocalError(f"the weights sum to {weights}, which no cohort can have")
        return total[:-1] / (self.scale * weights) - self.clip, weights

    def _checked(self, values: NDArray[np.floating], weight: int) -> NDArray[np.float64]:
        if values.ndim != 1 or values.size == 0 or values.dtype.kind != "f":
            raise LocalError("values must be a non-empty vector of floats")
        if not 1 <= weight <= self.max_weight:
            raise LocalError(f"weight {weight} is outside 1..{self.max_weight}")
        exact = values.astype(np.float64)
        if not np.all(np.isfinite(exact)):
            raise LocalError("values contain NaN or infinity")
        if np.any(np.abs(exact) > self.clip):
            raise LocalError(f"values exceed the clip of {self.clip}")
        return exact


def _headroom(max_weight: int, max_clients: int) -> int:
    return (max_clients * max_weight - 1).bit_length()
