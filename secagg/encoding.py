"""Fixed-point encoding of real vectors into integers that a ring can sum.

A client with integer weight w encodes each coordinate x in [-clip, clip] as the integer
w * (x + clip) * scale, rounded up or down at random so that its expectation is exact, with
scale = (2^bits - 1) / (2 clip). The weight follows in a coordinate of its own. The sum of n
such vectors gives the weighted mean, and its own weights with it:
mean = sum / (scale * sum of weights) - clip.

Both directions take one pass over the vector, in pieces that all cores share: the random words
of a piece are made where its encoding will be, and are in the cache when they are used. The
arithmetic is compiled where numba is (`secagg.kernels.encode`), and NumPy elsewhere.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secagg import checks, kernels, prg
from secagg.errors import LocalError, ParameterError
from secagg.ring import word

MAX_BITS = 32
MAX_MODULUS_BITS = 64
MAX_WEIGHT = 2**20  # 32 bits times 20 bits is exact in float64

_PIECE = 1 << 17  # stays in the second-level cache with its encoding
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_WORDS = (np.dtype(np.uint32), np.dtype(np.uint64))


class Encoded(NamedTuple):
    """The d + 1 integers of a vector and its weight; how many coordinates were clipped."""

    words: prg.Words
    clipped: int

    def __repr__(self) -> str:
        return f"<Encoded vector of {len(self.words) - 1} values>"


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
        counts = (self.bits, self.max_weight, self.max_clients)
        if not all(isinstance(count, int) for count in counts):
            raise ParameterError("bits, max_weight and max_clients must be whole numbers")
        if not 1 <= self.bits <= MAX_BITS:
            raise ParameterError(f"bits is {self.bits}; choose 1 to {MAX_BITS}")
        finite = isinstance(self.clip, Real) and 0 < self.clip < 2 * self.clip < math.inf
        if not (finite and 0 < self.scale < math.inf):
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
        needed = _headroom(max_weight, max_clients) + 1
        if needed > modulus_bits:
            more = f"use at least {needed} bits or " if needed <= MAX_MODULUS_BITS else ""
            raise ParameterError(
                f"a modulus of {modulus_bits} bits is too small for the sum of {max_clients} "
                f"weights up to {max_weight}; {more}lower max_weight"
            )
        return cls(min(modulus_bits + 1 - needed, MAX_BITS), clip, max_weight, max_clients)

    @property
    def modulus_bits(self) -> int:
        """k = bits + ceil(log2(max_clients * max_weight)): no sum wraps modulo 2^k."""
        return self.bits + _headroom(self.max_weight, self.max_clients)

    @property
    def scale(self) -> float:
        """Integer steps in one unit of a value."""
        return float(2**self.bits - 1) / (2 * self.clip)

    def encode(
        self,
        values: NDArray[np.floating],
        weight: int,
        coins: prg.StreamKey,
        *,
        threads: int | None = None,
    ) -> NDArray[np.uint64]:
        """The d + 1 integers of a vector (d,) with its weight, rounded with `coins`.

        `threads` defaults to all cores numba may use; the result is the same for any. Raises
        LocalError for a wrong shape, NaN, infinity, a value beyond the clip or a weight outside
        1..max_weight; clip beforehand, and count what you clip.
        """
        how = _How(np.uint64, clip=False, threads=checks.threads(threads))
        words: Any = self._encode(values, weight, coins, how).words
        return np.asarray(words, np.uint64)

    def encode_words(
        self,
        values: NDArray[np.floating],
        weight: int,
        coins: prg.StreamKey,
        *,
        clip: bool = False,
        threads: int | None = None,
    ) -> Encoded:
        """The same integers in the ring's own word, uint32 where modulus_bits is at most 32.

        With `clip`, a finite value beyond the clip is clipped and counted instead of refused.
        Beside the vector and its encoding nothing of their size is allocated.
        """
        how = _How(word(self.modulus_bits), clip=clip, threads=checks.threads(threads))
        return self._encode(values, weight, coins, how)

    def decode(
        self, total: NDArray[np.unsignedinteger], *, threads: int | None = None
    ) -> tuple[NDArray[np.float64], int]:
        """The weighted mean (d,) and the sum of the weights of a sum (d + 1,) of encodings.

        `threads` as for `encode`. Raises LocalError where the sum holds no weight, more than all
        clients have, or a value beyond what its weights allow.
        """
        if not isinstance(total, np.ndarray) or total.dtype.kind != "u" or total.ndim != 1:
            raise LocalError("a sum is a vector of unsigned integers")
        if total.size < 2:
            raise LocalError("a sum has at least one value, and the weights")
        weights = int(total[-1])
        if not 1 <= weights <= self.max_clients * self.max_weight:
            raise LocalError(f"the weights sum to {weights}, which no cohort can have")
        mean = np.empty(total.size - 1, np.float64)
        compiled = _compiled() if kernels.worth(10 * mean.size) else None
        scaled = getattr(compiled, "decode", _decode_numpy)
        divisor, highest = self.scale * weights, []

        def piece(low: int, high: int) -> None:
            part = _plain(total[low:high], _WORDS)
            highest.append(scaled(part, divisor, float(self.clip), mean[low:high]))

        _spread(piece, mean.size, checks.threads(threads), alone=compiled is None)
        if max(map(int, highest)) > weights * (2**self.bits - 1):
            raise LocalError("a value of the sum is beyond what the weights in it allow")
        return mean, weights

    def _encode(
        self, values: NDArray[np.floating], weight: int, coins: prg.StreamKey, how: "_How"
    ) -> Encoded:
        whole = self._checked_weight(weight)
        _check_values(values)
        words: Any = np.zeros(values.size + 1, how.dtype)
        words[-1] = whole
        beyond, broken = self._round(values, whole, coins, words[:-1], how.threads)
        if broken:
            raise LocalError("values contain NaN or infinity")
        if beyond and not how.clip:
            raise LocalError(f"values exceed the clip of {self.clip}")
        return Encoded(words, beyond)

    def _round(
        self,
        values: NDArray[np.floating],
        weight: int,
        coins: prg.StreamKey,
        words: prg.Words,
        threads: int | None,
    ) -> tuple[int, int]:
        """Fill `words`, zeros, with the encoding; how many values are beyond the clip, how
        many of them not finite.
        """
        compiled = _compiled() if kernels.worth(10 * values.size) else None
        rounded = getattr(compiled, "encode", _encode_numpy)
        top = float(weight * (2**self.bits - 1))
        setting = float(self.clip), self.scale, float(weight), top
        counts: list[tuple[int, int]] = []

        def piece(low: int, high: int) -> None:
            part = words[low:high]
            _add_coins(part, coins, low)
            counts.append(rounded(_plain(values[low:high], _FLOATS), part, *setting))

        _spread(piece, values.size, threads, alone=compiled is None)
        return sum(each[0] for each in counts), sum(each[1] for each in counts)

    def _checked_weight(self, weight: int) -> int:
        try:
            whole = operator.index(weight)
        except TypeError:
            raise LocalError("a weight is a whole number") from None
        if not 1 <= whole <= self.max_weight:
            raise LocalError(f"weight {weight} is outside 1..{self.max_weight}")
        return whole


class _How(NamedTuple):
    """What a caller chooses beside the encoding."""

    dtype: type[np.uint32] | type[np.uint64]
    clip: bool
    threads: int | None


def _spread(
    piece: Callable[[int, int], None], size: int, threads: int | None, *, alone: bool
) -> None:
    """`piece(low, high)` for all of `range(size)`; `alone`: without kernels, in this thread."""
    if alone:
        for low in range(0, size, _PIECE // 4):  # with its float64 it stays there too
            piece(low, min(low + _PIECE // 4, size))
        return
    from secagg.kernels import _parallel  # noqa: PLC0415 - imports numba

    _parallel.spread(piece, size, _PIECE, threads)


@cache
def _compiled() -> Any:
    """The compiled kernels, or None where they cannot be used. Imports numba when called."""
    try:
        from secagg.kernels import encode  # noqa: PLC0415
    except ImportError:
        return None
    return encode if encode.compiles() else None


def _check_values(values: object) -> None:
    if not isinstance(values, np.ndarray) or (values.ndim, values.dtype.kind) != (1, "f"):
        raise LocalError("values must be a non-empty vector of floats")
    if values.size == 0:
        raise LocalError("values must be a non-empty vector of floats")


def _encode_numpy(
    values: Any, words: prg.Words, clip: float, scale: float, weight: float, top: float
) -> tuple[int, int]:
    """Reference: `secagg.kernels.encode.encode`."""
    exact = values.astype(np.float64)
    beyond = int(np.count_nonzero(~(np.abs(exact) <= clip)))
    broken = int(np.count_nonzero(~np.isfinite(exact))) if beyond else 0
    if beyond:
        exact = np.where(exact < clip, exact, clip)
        exact = np.where(exact > -clip, exact, -clip)
    exact += clip
    exact *= scale
    exact *= weight
    whole = np.floor(exact)
    exact -= whole
    exact += words * 2.0**-32
    whole += exact >= 1  # not floor(shifted + coin): it would round
    # at x = clip a float error of one unit in the last place must not leave the range
    words[:] = np.minimum(whole, top, out=whole)
    return beyond, broken


def _decode_numpy(total: Any, divisor: float, clip: float, mean: NDArray[np.float64]) -> int:
    """Reference: `secagg.kernels.encode.decode`."""
    np.divide(total, divisor, out=mean)
    mean -= clip
    return int(total.max(initial=0))


def _add_coins(words: Any, coins: prg.StreamKey, start: int) -> None:
    """Add 32-bit words `start` and following of the stream, whatever the ring."""
    fresh = words if words.dtype == np.uint32 else np.zeros(words.size, np.uint32)
    prg.add_masks(fresh, [coins], [1], start=start, threads=1)
    if fresh is not words:
        words += fresh


def _plain(part: Any, types: tuple[np.dtype[Any], ...]) -> Any:
    """`part` in the machine's own layout, of the last type unless it has one of `types`."""
    with np.errstate(over="ignore"):  # what is too large for float64 is beyond any clip
        dtype: Any = part.dtype if part.dtype in types else types[-1]
        plain = np.require(part, dtype, ["C", "A"]).view(np.ndarray)
    plain.flags.writeable = False  # numba compiles a kernel once more for each kind of array
    return plain


def _headroom(max_weight: int, max_clients: int) -> int:
    return (max_clients * max_weight - 1).bit_length()
