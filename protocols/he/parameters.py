"""Public parameters of `ckks` and `bfv`: how the ring, the limbs and the fields are chosen.

One ciphertext prime of 60 bits and one of 49 that SEAL encrypts under and divides away, so that
a fresh ciphertext carries rounding noise only. The degree follows from the security level
(Homomorphic Encryption Standard, 2018, table 1, ternary secrets: log2 of the product of *all*
primes at most so much).
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from protocols.base import Parameters
from protocols.he.packing import Packing, Words
from secagg.errors import ParameterError
from secagg.ring import MAX_BITS
from secagg.seal import suite

PRIME_BITS = (60, 49)
CHUNK = 8
MOST_BITS_OF_PRIMES = {  # security -> degree -> bits
    128: {4096: 109, 8192: 218},
    192: {4096: 75, 8192: 152},
    256: {4096: 58, 8192: 118},
}
SECURITY = 128
Vector = NDArray[np.unsignedinteger[Any]]
Scheme = Literal["ckks", "bfv"]


def degree_of(security: int) -> int:
    """The smallest ring degree N with this many bits of (classical) security. Or ParameterError."""
    if security not in MOST_BITS_OF_PRIMES:
        raise ParameterError(f"security {security} is not offered; choose 128, 192 or 256")
    table = MOST_BITS_OF_PRIMES[security]
    return min(degree for degree, bits in table.items() if bits >= sum(PRIME_BITS))


class HeParameters(Parameters, frozen=True):
    """Parameters of both schemes.

    suite: what uploads are sealed with; security: 128, 192 or 256 bits; limb: bits of a limb
    (w); fields: limbs of different values in one slot (F); chunk: most ciphertexts of a message,
    at least one block.
    """

    suite: str
    security: int
    limb: int
    fields: int
    chunk: int

    @property
    def stages(self) -> tuple[str, ...]:
        """Who is there, and under which key; the ciphertexts; the sum."""
        return ("join", "upload", "open")

    @property
    def client_stages(self) -> tuple[str, ...]:
        """Clients are gone when the sum is opened."""
        return ("join", "upload")

    @property
    def helpers(self) -> int:
        """The key holder."""
        return 1

    @property
    def helper_role(self) -> str:
        """See `helpers`."""
        return "key holder"

    @property
    def holder(self) -> int:
        """The key holder's number."""
        return self.clients + 1

    @property
    def degree(self) -> int:
        """N."""
        return degree_of(self.security)

    @property
    def slots(self) -> int:
        """Slots of a ciphertext."""
        raise NotImplementedError

    @property
    def scheme(self) -> Scheme:
        """Which of TenSEAL's schemes."""
        raise NotImplementedError

    @property
    def packing(self) -> Packing:
        """How values lie in slots."""
        return Packing(self.modulus_bits, self.limb, self.fields, self.clients, self.slots)

    def spread(self, values: Vector) -> Words:
        """The slots of one client's values: (ciphertexts, slots)."""
        return self.packing.spread(values)

    def collect(self, slots: Words, length: int) -> Words:
        """The sums modulo 2^k of so many values, from sums of slots."""
        return self.packing.collect(slots, length)

    def ciphertexts(self, index: int) -> int:
        """How many ciphertexts the piece of this index has."""
        piece = self.pieces[index]
        return self.packing.ciphertexts(piece.stop - piece.start)

    @property
    def pieces(self) -> tuple[slice, ...]:
        """The values of each message: whole blocks, at most `chunk` ciphertexts."""
        packing = self.packing
        step = max(1, self.chunk // packing.limbs) * packing.values
        starts = range(0, self.length, step)
        return tuple(slice(at, min(at + step, self.length)) for at in starts)

    def check(self) -> None:
        """Raise ParameterError, in one sentence with the way out."""
        super().check()
        suite(self.suite)
        degree_of(self.security)
        if not 1 <= self.limb <= self.modulus_bits or self.fields < 1:
            raise ParameterError("a limb has 1 to modulus_bits bits, and a slot at least one field")
        if self.chunk < 1:
            raise ParameterError(f"chunk is {self.chunk}; choose at least one ciphertext")
        self.check_budget()

    def check_budget(self) -> None:
        """Raise ParameterError unless a ciphertext holds the sum with room for its noise."""
        raise NotImplementedError


def default_floor(clients: int, floor: int | None) -> int:
    """A majority, unless something else is asked for."""
    return max(clients // 2 + 1, 2) if floor is None else floor


def cheapest(
    clients: int, length: int, bits: int, slots: int, holds: Callable[[Packing], bool]
) -> Packing:
    """The packing with the fewest ciphertexts for `length` values of so many bits among those
    that `holds` accepts, and of those the one with the fewest limbs. ParameterError where there
    is none. (Whatever else is wrong with the arguments is for `check` to say.)
    """
    clients, bits = max(clients, 1), min(max(bits, 1), MAX_BITS)
    found = [p for p in _candidates(clients, bits, slots) if holds(p)]
    if not found:
        raise ParameterError(
            f"sums of {clients} clients do not fit one ciphertext prime of {PRIME_BITS[0]} bits "
            "beside their noise; take fewer clients"
        )
    return min(found, key=lambda p: (p.ciphertexts(max(length, 1)), p.limbs, p.fields))


def _candidates(clients: int, modulus_bits: int, slots: int) -> Iterator[Packing]:
    seen = set()
    for limbs in range(1, modulus_bits + 1):
        limb = -(-modulus_bits // limbs)
        if limb in seen:
            continue
        seen.add(limb)
        one = Packing(modulus_bits, limb, 1, clients, slots)
        for fields in range(1, PRIME_BITS[0] // one.radix + 1):
            yield Packing(modulus_bits, limb, fields, clients, slots)
