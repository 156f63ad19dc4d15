"""The public parameters of `bfv`, and why its sums are exact."""

from protocols.he.noise import coefficient_noise
from protocols.he.packing import Packing
from protocols.he.parameters import (
    CHUNK,
    PRIME_BITS,
    SECURITY,
    HeParameters,
    Scheme,
    cheapest,
    default_floor,
    degree_of,
)
from protocols.he.primes import is_prime, prime_above, prime_below
from secagg.errors import ParameterError
from secagg.seal import DEFAULT_SUITE


class BfvParameters(HeParameters, frozen=True):
    """With plain_modulus: t, a prime that is 1 modulo 2N and above twice every sum of slots."""

    plain_modulus: int

    @property
    def scheme(self) -> Scheme:
        """TenSEAL's BFV."""
        return "bfv"

    @property
    def slots(self) -> int:
        """Integers modulo t of a ciphertext."""
        return self.degree

    def check_budget(self) -> None:
        """Raise ParameterError unless t holds the sum and the prime holds t and the noise."""
        t = self.plain_modulus
        if not 2 < t < 2 ** PRIME_BITS[0] or t % (2 * self.degree) != 1 or not is_prime(t):
            raise ParameterError(
                f"a plaintext modulus is a prime that is 1 modulo {2 * self.degree}"
            )
        if not _fits(self.packing, self.degree, self.length, t):
            raise ParameterError(
                f"a plaintext modulus of {t.bit_length()} bits does not hold these sums below "
                "their noise; leave it, limb and fields to protocols.bfv.configure"
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
) -> BfvParameters:
    """Checked parameters with the fewest ciphertexts that hold the sums of all clients, and the
    smallest plaintext modulus for them. Raises ParameterError.
    """
    degree = degree_of(security)

    def holds(packing: Packing) -> bool:
        return _fits(packing, degree, length, prime_above(_most(packing), degree))

    chosen = cheapest(clients, length, modulus_bits, degree, holds)
    parameters = BfvParameters(
        clients=clients,
        floor=default_floor(clients, floor),
        length=length,
        modulus_bits=modulus_bits,
        suite=suite,
        security=security,
        limb=chosen.limb,
        fields=chosen.fields,
        chunk=chunk,
        plain_modulus=prime_above(_most(chosen), degree),
    )
    parameters.check()
    return parameters


def _most(packing: Packing) -> int:
    """Twice the largest sum of slots: under another key, half of all slots decrypt to more than
    any sum, so that not one ciphertext in 2^N that is not of this key passes.
    """
    return 2 * packing.clients * packing.largest


def _fits(packing: Packing, degree: int, length: int, t: int) -> bool:
    """t above twice every sum, and t times the noise below q / 2: rounding is right."""
    coefficients = packing.ciphertexts(max(length, 1)) * degree
    noise = coefficient_noise(packing.clients, degree, coefficients)
    return t > _most(packing) and 2 * t * noise < prime_below(2 ** PRIME_BITS[0], degree)
