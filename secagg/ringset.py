"""Which ring a federation encrypts in, how values share a coefficient, and the noise budget.

The modulus q of a set is within the post-quantum 128-bit bounds of the Homomorphic Encryption
Standard (Albrecht et al. 2018, table for BKZ.qsieve) for errors of standard deviation 3.2,
which is what is left of 6.4 once sums are known (docs/lattice.md, which has other estimates).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod

from secagg import ntt
from secagg.errors import ParameterError
from secagg.gaussian import BOUND

MOST_COEFFICIENTS = 2**29
"""Of a key and a ciphertext together: for more, 3.2 would not be above the smoothing bound."""

GROUP = 16
"""Coefficients come in whole groups: 60 bytes for each prime."""


@dataclass(frozen=True)
class RingSet:
    """Z_q[X] / (X^degree + 1), q the product of `count` primes; at most 2^most_bits is safe."""

    name: str
    degree: int
    count: int
    most_bits: int

    @property
    def primes(self) -> tuple[int, ...]:
        """Largest first."""
        return ntt.primes(self.count)

    @property
    def modulus(self) -> int:
        """q."""
        return prod(self.primes)

    @property
    def bits(self) -> int:
        """What a coefficient takes on the wire."""
        return self.count * ntt.PRIME_BITS


SETS = {each.name: each for each in (RingSet("A", 4096, 3, 101), RingSet("B", 8192, 6, 202))}


@dataclass(frozen=True)
class Plan:
    """How vectors of `length` values, none above `largest`, of at most `clients` clients are
    encrypted and added. Raises ParameterError where the sum would not fit.

    A coefficient carries M = sum_j v_j 2^(radix j) for `fields` values; the sum of the
    ciphertexts carries delta * M + noise, and is exact while that is below q.
    """

    ring: RingSet
    clients: int
    length: int
    largest: int

    def __post_init__(self) -> None:
        if self.clients < 1 or self.length < 1 or self.largest < 1:
            raise ParameterError("a plan needs clients, values, and a largest value of 1 or more")
        if self.delta >= 2**32:
            raise ParameterError(f"{self.clients} clients are too many: at most {MOST_CLIENTS}")
        if self.fields < 1:
            raise ParameterError(
                f"sums of {self.clients} values up to {self.largest} do not fit ring set "
                f"{self.ring.name}; choose another set, fewer clients or smaller values"
            )
        if self.ring.degree + self.coefficients > MOST_COEFFICIENTS:
            raise ParameterError(
                f"a vector of {self.length} values is too long: at most "
                f"{self.fields * (MOST_COEFFICIENTS - self.ring.degree - GROUP)} of this size"
            )
        if self.delta * self.most_message + 2 * self.noise >= self.ring.modulus:
            raise ParameterError("the noise budget does not hold; this is a bug")

    @property
    def noise(self) -> int:
        """nB: no sum of n errors, and no coefficient of a sum of n keys, is beyond."""
        return self.clients * BOUND

    @property
    def delta(self) -> int:
        """What a message is multiplied by: more than the noise can reach."""
        return 2 * self.noise + 1

    @property
    def radix(self) -> int:
        """Bits of a field: those of the largest sum, so that nothing carries."""
        return (self.clients * self.largest).bit_length()

    @cached_property
    def fields(self) -> int:
        """Values in a coefficient: as many as are exact."""
        room, fields = (self.ring.modulus - 1 - 2 * self.noise) // self.delta, 0
        while self._message(fields + 1) <= room:
            fields += 1
        return fields

    @property
    def most_message(self) -> int:
        """The largest sum of messages."""
        return self._message(self.fields)

    def _message(self, fields: int) -> int:
        return self.clients * self.largest * sum(1 << (self.radix * j) for j in range(fields))

    @property
    def spare_bits(self) -> float:
        """How many times q / 2 holds what must fit, as a power of two: the budget left."""
        used = self.delta * self.most_message + 2 * self.noise
        return float(self.ring.modulus.bit_length() - used.bit_length())

    @cached_property
    def carriers(self) -> int:
        """Coefficients that carry values; the canary is in the one after them."""
        return -(-self.length // self.fields)

    @cached_property
    def coefficients(self) -> int:
        """Of the ciphertext: the carriers, the canary, and zeros up to a whole group."""
        return -(-(self.carriers + 1) // GROUP) * GROUP

    @cached_property
    def chunks(self) -> int:
        """Polynomials; of the last, only the coefficients that are needed are sent."""
        return -(-self.coefficients // self.ring.degree)

    def width(self, chunk: int) -> int:
        """Coefficients of a chunk."""
        return min(self.ring.degree, self.coefficients - chunk * self.ring.degree)

    def residues(self, chunks: Iterable[int]) -> int:
        """Residues of these chunks."""
        return self.ring.count * sum(self.width(chunk) for chunk in chunks)

    def bytes_of(self, chunks: Iterable[int]) -> int:
        """Bytes of these chunks."""
        return self.residues(chunks) * ntt.PRIME_BITS // 8

    @property
    def ciphertext_bytes(self) -> int:
        """Bytes of a client's ciphertext."""
        return self.coefficients * self.ring.bits // 8

    @property
    def key_bits(self) -> int:
        """Bits of a sum of n coefficients, shifted by B, of short keys."""
        return (2 * self.noise).bit_length()


MOST_CLIENTS = (2**32 - 2) // (2 * BOUND)
"""So that delta is below 2^32."""


def choose(clients: int, length: int, largest: int) -> Plan:
    """The plan of the set that takes fewest bytes, the short key's included.

    Raises ParameterError where none holds the sum.
    """
    plans, refusal = [], None
    for ring in SETS.values():
        try:
            plans.append(Plan(ring, clients, length, largest))
        except ParameterError as error:
            refusal = error
    if not plans:
        assert refusal is not None  # noqa: S101 - there are sets
        raise refusal
    return min(plans, key=lambda p: p.ciphertext_bytes + p.ring.degree * p.key_bits // 8)


def named(name: str, clients: int, length: int, largest: int) -> Plan:
    """The plan for the set called `name`, or for the best one where it is empty."""
    if not name:
        return choose(clients, length, largest)
    if name not in SETS:
        raise ParameterError(f"no ring set {name!r}; choose one of {', '.join(SETS)}")
    return Plan(SETS[name], clients, length, largest)
