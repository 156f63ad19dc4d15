"""Fixed-point encoding of real vectors into integers that a ring can sum.

A client with integer weight w encodes each coordinate x in [-clip, clip] as the integer
w * (x + clip) * scale, rounded up or down at random so that its expectation is exact, with
scale = (2^bits - 1) / (2 clip). The weight follows in a coordinate of its own. The sum of n
such vectors gives the weighted mean, and its own weights with it:
mean = sum / (scale * sum of weights) - clip.

Both directions take one pass over the vector, in pieces that stay in the cache and on all
cores; the arithmetic is compiled where numba is (`secagg.kernels.encode`), and NumPy elsewhere.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secagg import prg
from secagg.errors import LocalError, ParameterError
from secagg.ring import word

MAX_BITS = 32
MAX_MODULUS_BITS = 64
MAX_WEIGHT = 2**20  # 32 bits times 20 bits is exact in float64

_PIECE = 1 << 16
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_WORDS = (np.dtype(np.uint32), np.dtype(np.uint64))


class Encoded(NamedTuple):
    """The d + 1 integers of a vector and its weight; how many coordinates were clipped."""

    words: prg.Words
    clipped: int


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
        return self._encode(np.uint64, values, weight, coins, clip=False)[0]

    def encode_words(
        self,
        values: NDArray[np.floating],
        weight: int,
        coins: prg.StreamKey,
        *,
        clip: bool = False,
    ) -> Encoded:
        """The same integers in the ring's own word, uint32 where modulus_bits is at most 32.

        With `clip`, a finite value beyond the clip is clipped and counted instead of refused.
        Beside the vector and its encoding nothing of their size is allocated.
        """
        return Encoded(*self._encode(word(self.modulus_bits), values, weight, coins, clip=clip))

    def decode(self, total: NDArray[np.unsignedinteger]) -> tuple[NDArray[np.float64], int]:
        """The weighted mean (d,) and the sum of the weights of a sum (d + 1,) of encodings.

        Raises LocalError where the sum holds no weight, or more than all clients have.
        """
        if not isinstance(total, np.ndarray) or total.dtype.kind != "u" or total.ndim != 1:
            raise LocalError("a sum is a vector of unsigned integers")
        weights = int(total[-1]) if total.size else 0
        if not 1 <= weights <= self.max_clients * self.max_weight:
            raise LocalError(f"the weights sum to {weights}, which no cohort can have")
        mean = np.empty(total.size - 1, np.float64)
        divisor = self.scale * weights
        decode_piece = getattr(_compiled(), "decode", _decode_numpy)

        def piece(low: int, high: int) -> None:
            words = _plain(total[low:high], _WORDS)
            decode_piece(words, divisor, self.clip, mean[low:high])

        _each_piece(piece, mean.size)
        return mean, weights

    def _encode(
        self,
        dtype: type[prg.Word],
        values: NDArray[np.floating],
        weight: int,
        coins: prg.StreamKey,
        *,
        clip: bool,
    ) -> tuple[NDArray[prg.Word], int]:
        whole = self._checked_weight(weight)
        if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind != "f":
            raise LocalError("values must be a non-empty vector of floats")
        words = np.zeros(values.size + 1, dtype)
        words[-1] = whole
        beyond, broken = self._round(values, words[:-1], whole, coins)
        if broken or not values.size:
            raise LocalError("values contain NaN or infinity")
        if beyond and not clip:
            raise LocalError(f"values exceed the clip of {self.clip}")
        return words, beyond

def _headroom(max_weight: int, max_clients: int) -> int:
    return (max_clients * max_weight - 1).bit_length()
