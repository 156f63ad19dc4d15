"""Primes for number-theoretic transforms: p = 1 modulo 2N."""

from functools import cache

from secagg.errors import ParameterError

_BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
_EXACT_BELOW = 2**64


def is_prime(n: int) -> bool:
    """Miller-Rabin with the first twelve primes: exact below 2^64 (Sorenson, Webster 2017)."""
    if not 1 < n < _EXACT_BELOW:
        raise ParameterError(f"{n} is not between 2 and 2^64")
    if any(n % base == 0 for base in _BASES):
        return n in _BASES
    return all(_passes(n, base) for base in _BASES)


def _passes(n: int, base: int) -> bool:
    twos = (n - 1 & 1 - n).bit_length() - 1
    power = pow(base, (n - 1) >> twos, n)
    if power in (1, n - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % n
        if power == n - 1:
            return True
    return False


@cache
def prime_below(bound: int, degree: int) -> int:
    """The largest prime below `bound` that is 1 modulo 2N."""
    step = 2 * degree
    candidate = (bound - 2) // step * step + 1
    while candidate > 1:
        if is_prime(candidate):
            return candidate
        candidate -= step
    raise ParameterError(f"no prime below {bound} is 1 modulo {step}")


@cache
def prime_above(bound: int, degree: int) -> int:
    """The smallest prime above `bound` that is 1 modulo 2N. ParameterError beyond 64 bits."""
    step = 2 * degree
    candidate = bound // step * step + 1
    while candidate <= bound or not is_prime(candidate):
        candidate += step
    return candidate
