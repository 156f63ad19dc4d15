"""The public parameters of `ckks`, and why its sums are exact."""

import numpy as np

from protocols.he.noise import slot_noise, transform_error
from protocols.he.packing import Packing, Words
from protocols.he.parameters import (
    CHUNK,
    PRIME_BITS,
    SECURITY,
    HeParameters,
    Scheme,
    Vector,
    cheapest,
    default_floor,
    degree_of,
)
from protocols.he.primes import prime_below
from secagg.errors import ParameterError
from secagg.seal import DEFAULT_SUITE

ROOM = 0.25
"""Most error of a slot, in steps of the public grid: half of what rounding could undo."""


class CkksParameters(HeParameters, frozen=True):
    """With scale_bits: the scale is 2^scale_bits; grid_bits: g, clients round their values to
    multiples of 2^g before they encrypt, and every sum is a multiple of 2^g.
    """

    scale_bits: int
    grid_bits: int

    @property
    def scheme(self) -> Scheme:
        """TenSEAL's CKKS."""
        return "ckks"

    @property
    def slots(self) -> int:
        """Real numbers of a ciphertext."""
        return self.degree // 2

    @property
    def packing(self) -> Packing:
        """Of the values divided by 2^g."""
        bits = self.modulus_bits - self.grid_bits
        return Packing(bits, self.limb, self.fields, self.clients, self.slots)

    @property
    def slot_error(self) -> float:
        """Bound on a decrypted slot's error, in steps of the grid, except with 2^-40."""
        return _slot_error(self.packing, self.degree, self.length, self.scale_bits)

    @property
    def error(self) -> int:
        """Bound on |result - sum| modulo 2^k, in units: that of the clients' own rounding. 0
        without a grid: then the sum is exact.
        """
        return self.clients * (1 << self.grid_bits >> 1)

    def spread(self, values: Vector) -> Words:
        """As `HeParameters.spread`, of the multiples of the grid that are nearest."""
        if not self.grid_bits:
            return super().spread(values)
        wide = values.astype(np.uint64)
        half = wide >> np.uint64(self.grid_bits - 1) & np.uint64(1)
        steps = (wide >> np.uint64(self.grid_bits)) + half
        return super().spread(steps & np.uint64(2**self.packing.bits - 1))

    def collect(self, slots: Words, length: int) -> Words:
        """As `HeParameters.collect`: a multiple of the grid."""
        return super().collect(slots, length) << np.uint64(self.grid_bits)

    def check_budget(self) -> None:
        """Raise ParameterError unless the sum fits and the grid is coarser than the error."""
        if not 0 <= self.grid_bits < self.modulus_bits:
            raise ParameterError(f"grid_bits is {self.grid_bits}; choose 0 to modulus_bits - 1")
        if self.limb > self.modulus_bits - self.grid_bits:
            raise ParameterError("a limb is longer than a value divided by the grid")
        if not _fits(self.packing, self.degree, self.length, self.scale_bits):
            raise ParameterError(
                f"a scale of 2^{self.scale_bits} does not hold these sums above their noise; "
                "leave scale_bits, limb and fields to protocols.ckks.configure"
            )


def configure(
    clients: int,
    length: int,
    modulus_bits: int,
    *,
    floor: int | None = None,
    suite: str = DEFAULT_SUITE,
    security: int = SECURITY,
    chunk: int = CHUNK,
    grid_bits: int = 0,
) -> CkksParameters:
    """Checked parameters with the fewest ciphertexts that hold the sums of all clients.

    grid_bits: 0 gives exact sums; more gives smaller ciphertexts and an error of at most
    `clients * 2^(grid_bits - 1)`. Raises ParameterError.
    """
    degree = degree_of(security)

    def holds(packing: Packing) -> bool:
        return _fits(packing, degree, length, _scale_bits(packing, degree, length))

    chosen = cheapest(clients, length, modulus_bits - grid_bits, degree // 2, holds)
    parameters = CkksParameters(
        clients=clients,
        floor=default_floor(clients, floor),
        length=length,
        modulus_bits=modulus_bits,
        suite=suite,
        security=security,
        limb=chosen.limb,
        fields=chosen.fields,
        chunk=chunk,
        scale_bits=_scale_bits(chosen, degree, length),
        grid_bits=grid_bits,
    )
    parameters.check()
    return parameters


def centre(packing: Packing) -> int:
    """What each client subtracts from each slot, so that sums are centred at zero."""
    return (packing.largest + 1) // 2


def _half_range(packing: Packing) -> int:
    """Bound on the absolute value of a sum of centred slots."""
    return packing.clients * centre(packing)


def _scale_bits(packing: Packing, degree: int, length: int) -> int:
    """The largest power of two at which sums fit in half of the ciphertext prime."""
    room = prime_below(2 ** PRIME_BITS[0], degree) // 2 - _noise(packing, degree, length)
    return max(int(room) // _half_range(packing), 1).bit_length() - 1


def _noise(packing: Packing, degree: int, length: int) -> float:
    return slot_noise(packing.clients, degree, _slots(packing, length))


def _slots(packing: Packing, length: int) -> int:
    return packing.ciphertexts(max(length, 1)) * packing.slots


def _slot_error(packing: Packing, degree: int, length: int, scale_bits: int) -> float:
    noise = _noise(packing, degree, length) / 2.0**scale_bits
    return noise + transform_error(degree, _half_range(packing))


def _fits(packing: Packing, degree: int, length: int, scale_bits: int) -> bool:
    """Coefficients are at most as large as the largest slot, times the scale, plus noise."""
    largest = _half_range(packing) * 2**scale_bits + _noise(packing, degree, length)
    within = 2 * largest < prime_below(2 ** PRIME_BITS[0], degree)
    return within and _slot_error(packing, degree, length, scale_bits) < ROOM
