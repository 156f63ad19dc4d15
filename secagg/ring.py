"""Vectors over the ring Z / 2^k, k from 1 to 64, as arrays of 32- or 64-bit words.

Arithmetic wraps at the word, and as 2^k divides 2^32 or 2^64 the low k bits are right
throughout: they are cut to k bits only where a vector is packed or read.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg import packing, prg
from secagg.checks import whole
from secagg.errors import DecodeError, LocalError

MAX_BITS = 64


def word(bits: int) -> type[np.uint32] | type[np.uint64]:
    """The machine word that holds one value of k bits. Raises LocalError out of 1..64."""
    return np.uint32 if whole(bits, "a modulus", 1, MAX_BITS, " bits") <= 32 else np.uint64


def check_vector(values: Any, length: int | None = None) -> None:
    """Raise LocalError unless `values` is an unsigned array of shape (length,)."""
    plain = isinstance(values, np.ndarray) and not isinstance(values, np.ma.MaskedArray)
    if not plain or values.dtype.kind != "u" or values.ndim != 1:
        raise LocalError("a vector is a one-dimensional array of unsigned integers")
    if length is not None and len(values) != length:
        raise LocalError(f"a vector of {len(values)} values; expected {length}")


class RingVector:
    """A vector of `length` values modulo 2^`bits` that is added to in place.

    The one mutable thing in a machine's state, because a server adds one upload after the
    other: it is changed last, when nothing can fail any more.
    """

    __slots__ = ("_words", "bits")

    def __init__(self, bits: int, words: NDArray[np.unsignedinteger[Any]]) -> None:
        self.bits = bits
        self._words: Any = words

    def __repr__(self) -> str:
        return f"<RingVector of {len(self)} values modulo 2^{self.bits}>"

    def __len__(self) -> int:
        return int(self._words.size)

    @classmethod
    def zeros(cls, bits: int, length: int) -> "RingVector":
        """The neutral element. Raises LocalError for bits or a length that there is not."""
        return cls(bits, np.zeros(whole(length, "a length", 0, unit=" values"), word(bits)))

    @classmethod
    def of(cls, bits: int, values: NDArray[np.unsignedinteger[Any]]) -> "RingVector":
        """A copy of `values`: one-dimensional, unsigned, each below 2^bits. Or LocalError."""
        kind = word(bits)
        check_vector(values)
        if bits < 8 * values.itemsize and int(values.max(initial=0)) >> bits:
            raise LocalError(f"a value does not fit in {bits} bits")
        return cls(bits, values.astype(kind))

    def add_masks(
        self,
        streams: Sequence[prg.StreamKey],
        signs: Sequence[int] | NDArray[np.signedinteger[Any]],
        *,
        start: int = 0,
    ) -> None:
        """Add or subtract each stream from its word `start` on, in place."""
        prg.add_masks(self._words, streams, signs, start=start)

    def add_packed(self, data: bytes, *, start: int = 0, count: int | None = None) -> None:
        """Add `count` packed values (all that follow) from `start` on, in place.

        Raises DecodeError for another length and for padding that is not zero, and LocalError
        for values that are not all there.
        """
        first = whole(start, "start", 0, len(self))
        rest = len(self) - first
        more = rest if count is None else whole(count, "a count", 0, rest, " values")
        packing.add_packed(self._words[first : first + more], data, self.bits)

    def pack(self) -> bytes:
        """The values at exactly `bits` bits each."""
        return packing.pack(self.values(), self.bits)

    def values(self) -> NDArray[np.unsignedinteger[Any]]:
        """The values, each below 2^bits: a view that cannot be written to."""
        if self.bits < 8 * self._words.itemsize:
            self._words &= self._words.dtype.type(2**self.bits - 1)
        view: NDArray[np.unsignedinteger[Any]] = self._words.view()
        view.flags.writeable = False
        return view

    @property
    def words(self) -> Any:
        """The words themselves, for kernels that work in them."""
        return self._words

    def head(self, length: int) -> "RingVector":
        """The first `length` values, in the same memory: the whole is not used any more."""
        return RingVector(self.bits, self._words[: whole(length, "a length", 0, len(self))])

    def fits(self, bits: int, length: int) -> bool:
        """Whether this is a vector of that ring and length."""
        return (self.bits, len(self)) == (bits, length)

    def to_state(self) -> tuple[int, memoryview]:
        """What a store keeps: k, and the words, little-endian, in the same memory."""
        little = self._words.dtype.newbyteorder("<")
        return self.bits, memoryview(self._words.astype(little, copy=False)).cast("B")

    @classmethod
    def from_state(
        cls, bits: int, raw: bytes | bytearray | memoryview, *, adopt: bool = False
    ) -> "RingVector":
        """The inverse of `to_state`; with `adopt`, in the same memory if it can be written to.

        Raises DecodeError for no whole number of words.
        """
        little = np.dtype(word(bits)).newbyteorder("<")
        if len(raw) % little.itemsize:
            raise DecodeError("a stored vector is not a whole number of words")
        stored = np.frombuffer(raw, little)
        shared = adopt and stored.flags.writeable
        words: Any = stored.astype(word(bits), copy=not shared)
        return cls(bits, words)
