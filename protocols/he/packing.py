"""Many values in one ciphertext: limbs of a value in several slots, or several values in one.

A value of k bits is cut into limbs of w bits; a slot holds one limb of each of F values, r bits
apart: M = sum over f of limb_f 2^(r f). As r bits hold the sum of n limbs, nothing carries, and
a sum of slots is taken apart again exactly.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]


def powers_of_three(degree: int) -> NDArray[np.int64]:
    """3^i mod 2N for i below N / 2: slot i is the polynomial at that power of a root of unity
    (and, of a row of a BFV ciphertext, at its inverse).
    """
    powers = np.ones(1, np.int64)
    while powers.size < degree // 2:
        step = pow(3, powers.size, 2 * degree)
        powers = np.concatenate([powers, powers * step % (2 * degree)])
    return powers


@dataclass(frozen=True)
class Packing:
    """bits: k; limb: w, at most k; fields: F; clients: n, the most summands; slots: of one
    ciphertext. A block of ciphertexts, one for each limb, holds `fields * slots` values.
    """

    bits: int
    limb: int
    fields: int
    clients: int
    slots: int

    @property
    def limbs(self) -> int:
        """Limbs of a value, and ciphertexts of a block."""
        return -(-self.bits // self.limb)

    @property
    def radix(self) -> int:
        """r: bits that hold the sum of n limbs."""
        return (self.clients * ((1 << self.limb) - 1)).bit_length()

    @property
    def values(self) -> int:
        """Values of a block."""
        return self.fields * self.slots

    @cached_property
    def largest(self) -> int:
        """The largest content of one client's slot."""
        return sum((2**self.limb - 1) << (self.radix * field) for field in range(self.fields))

    def ciphertexts(self, length: int) -> int:
        """Ciphertexts of `length` values."""
        return -(-length // self.values) * self.limbs

    def spread(self, values: NDArray[np.unsignedinteger[Any]]) -> Words:
        """The slots of so many values below 2^k: (ciphertexts, slots). Unused ones are 0."""
        blocks = -(-values.size // self.values)
        padded = np.zeros(blocks * self.values, np.uint64)
        padded[: values.size] = values
        whole = padded.reshape(blocks, self.fields, self.slots)
        out = np.zeros((blocks, self.limbs, self.slots), np.uint64)
        for limb in range(self.limbs):
            part = whole >> np.uint64(limb * self.limb) & np.uint64(2**self.limb - 1)
            for field in range(self.fields):
                out[:, limb] |= part[:, field] << np.uint64(field * self.radix)
        return out.reshape(-1, self.slots)

    def collect(self, sums: Words, length: int) -> Words:
        """The inverse for sums of slots, (ciphertexts, slots): `length` values modulo 2^k."""
        parts = sums.reshape(-1, self.limbs, self.slots)
        out = np.zeros((len(parts), self.fields, self.slots), np.uint64)
        for limb in range(self.limbs):
            for field in range(self.fields):
                moved = parts[:, limb] >> np.uint64(field * self.radix)
                digit = moved & np.uint64(2**self.radix - 1)
                out[:, field] += digit << np.uint64(limb * self.limb)
        return out.reshape(-1)[:length] & np.uint64(2**self.bits - 1)
