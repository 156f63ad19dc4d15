"""Polynomials modulo X^N + 1 over prime fields, multiplied by number-theoretic transforms.

A prime p = 1 mod 2N below 2^30 has a 2N-th root of unity psi. The transform of f is f at all
odd powers of psi, so products modulo X^N + 1 are products value by value (Pollard 1971;
Lyubashevsky et al., SWIFFT, FSE 2008, section 4). The order of the values is internal: it is
the one in which the kernel of `secagg.kernels.ntt` leaves them, see `Transform.exponents`.

Polynomials are uint32 arrays whose last axis holds the N coefficients, each below p. Where the
kernels cannot be used, NumPy does the same, slowly; it is also their reference.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg.errors import LocalError, ParameterError

Residues = NDArray[np.uint32]
Wide = NDArray[np.uint64]

DEGREES = (1024, 2048, 4096, 8192, 16384)
PRIME_BITS = 30
"""Lazy butterflies need two bits of a 32-bit word to spare."""

_BLOCK, _LANES = 256, 16
_STEP = 2 * max(DEGREES)


@cache
def primes(count: int) -> tuple[int, ...]:
    """The `count` largest primes below 2^30 that are 1 mod 2^15, largest first.

    They serve every degree. Raises ParameterError where there are not so many.
    """
    found: list[int] = []
    candidate = 2**PRIME_BITS + 1
    while len(found) < count:
        candidate -= _STEP
        if candidate < 2 ** (PRIME_BITS - 1):
            raise ParameterError(f"there are only {len(found)} primes of {PRIME_BITS} bits")
        if is_prime(candidate):
            found.append(candidate)
    return tuple(found)


def is_prime(n: int) -> bool:
    """Miller and Rabin's test; these bases decide below 3,215,031,751 (Jaeschke 1993)."""
    if n < 2 or n >= 3_215_031_751:
        raise LocalError("primality is decided for 2 to 3215031750")
    odd = n - 1
    twos = (odd & -odd).bit_length() - 1
    return all(n == base or _passes(n, base, odd >> twos, twos) for base in (2, 3, 5, 7))


def _passes(n: int, base: int, odd: int, twos: int) -> bool:
    value = pow(base, odd, n)
    if value in {1, n - 1}:
        return True
    return any((value := value * value % n) == n - 1 for _ in range(twos - 1))


def quotients(factors: Residues, prime: int) -> Residues:
    """Shoup's `floor(w * 2^32 / p)` of factors w below p, without a division: they are secret.

    Barrett's estimate `w * floor(2^62 / p) / 2^30` is the quotient or one less.
    """
    wide, p = factors.astype(np.uint64), np.uint64(prime)
    estimate = (wide * np.uint64(2**62 // prime)) >> np.uint64(30)
    rest = (wide << np.uint64(32)) - estimate * p
    return (estimate + (rest >= p)).astype(np.uint32)


@dataclass(frozen=True, eq=False)
class Transform:
    """The transform of one degree and prime, with its tables. Made by `transform`.

    powers, inverse_powers: psi^brv(i) and its inverse, (N,), brv reversing log2 N bits;
    exponents: value k of a transform is the polynomial at psi^exponents[k]; scale: 1/N and its
    quotient.
    """

    degree: int
    prime: int
    powers: Wide = field(repr=False)
    inverse_powers: Wide = field(repr=False)
    exponents: NDArray[np.int64] = field(repr=False)
    tables: tuple[Residues, Residues, Residues, Residues] = field(repr=False)
    scale: tuple[np.uint32, np.uint32] = field(repr=False)

    def forward(self, values: Residues) -> None:
        """Transform polynomials (..., N), coefficients below p, in place."""
        rows = self._rows(values)
        if (compiled := kernels()) is None:
            rows[:] = self.forward_reference(rows)
            return
        roots, last, _, _ = self.tables
        for row in rows:
            compiled.forward(row, roots, last, np.uint32(self.prime))

    def inverse(self, values: Residues) -> None:
        """Undo `forward`, in place, of values below 2p; residues below p."""
        rows = self._rows(values)
        if (compiled := kernels()) is None:
            rows[:] = self.inverse_reference(rows)
            return
        _, _, roots, last = self.tables
        for row in rows:
            compiled.inverse(row, roots, last, np.uint32(self.prime), *self.scale)

    def forward_reference(self, values: Residues) -> Residues:
        """What `forward` does, in 64-bit words with one division an operation."""
        p, n = np.uint64(self.prime), self.degree
        x = values.astype(np.uint64).reshape(-1, n)
        blocks = 1
        while blocks < n:
            halves = x.reshape(len(x), blocks, 2, -1)
            root = self.powers[blocks : 2 * blocks, None]
            low, high = halves[:, :, 0], halves[:, :, 1] * root % p
            x = np.stack([(low + high) % p, (low + p - high) % p], axis=2).reshape(-1, n)
            blocks *= 2
        done: Residues = _swapped(x).astype(np.uint32).reshape(values.shape)
        return done

    def inverse_reference(self, values: Residues) -> Residues:
        """What `inverse` does."""
        p, n = np.uint64(self.prime), self.degree
        x = _swapped(values.astype(np.uint64).reshape(-1, n))
        blocks = n // 2
        while blocks:
            halves = x.reshape(len(x), blocks, 2, -1)
            root = self.inverse_powers[blocks : 2 * blocks, None]
            low, high = halves[:, :, 0], halves[:, :, 1]
            pair = [(low + high) % p, (low + p - high) * root % p]
            x = np.stack(pair, axis=2).reshape(-1, n)
            blocks //= 2
        done: Residues = (x * np.uint64(self.scale[0]) % p).astype(np.uint32).reshape(values.shape)
        return done

    def _rows(self, values: Residues) -> Residues:
        if values.dtype != np.uint32 or not values.flags.carray or values.shape[-1] != self.degree:
            raise LocalError(f"polynomials are contiguous uint32 arrays of {self.degree} words")
        return values.reshape(-1, self.degree)


@cache
def transform(degree: int, prime: int) -> Transform:
    """The transform for X^degree + 1 modulo a prime that is 1 mod 2^15. Or ParameterError."""
    if degree not in DEGREES:
        raise ParameterError(f"degree {degree} is none of {DEGREES}")
    if prime >= 2**PRIME_BITS or prime % _STEP != 1 or not is_prime(prime):
        raise ParameterError(f"{prime} is not a prime below 2^{PRIME_BITS} and 1 mod {_STEP}")
    psi = _root_of_minus_one(degree, prime)
    order = reversed_bits(degree)
    powers = _powers(psi, degree, prime)[order]
    inverses = _powers(pow(psi, -1, prime), degree, prime)[order]
    tables = (*_tables(powers, prime), *_tables(inverses, prime))
    exponents = _swapped(2 * order.reshape(1, -1) + 1)[0]
    scale = pow(degree, -1, prime)
    pair = np.uint32(scale), np.uint32((scale << 32) // prime)
    return Transform(degree, prime, powers, inverses, exponents, tables, pair)


def _root_of_minus_one(degree: int, prime: int) -> int:
    """psi with psi^N = -1, of the smallest base that gives one."""
    candidates = (pow(base, (prime - 1) // (2 * degree), prime) for base in range(2, prime))
    return next(psi for psi in candidates if pow(psi, degree, prime) == prime - 1)


def _powers(base: int, count: int, prime: int) -> Wide:
    """base^0 to base^(count - 1) mod p, for a power of two of them."""
    result = np.ones(1, np.uint64)
    while result.size < count:
        step = np.uint64(pow(base, result.size, prime))
        result = np.concatenate([result, result * step % np.uint64(prime)])
    return result


def reversed_bits(count: int) -> NDArray[np.int64]:
    """i with its log2(count) bits in the other order, for each i."""
    result = np.zeros(1, np.int64)
    while result.size < count:
        result = np.concatenate([2 * result, 2 * result + 1])
    return result


def _tables(powers: Wide, prime: int) -> tuple[Residues, Residues]:
    """Roots with their quotients, as the kernels want them.

    First (N / 8,) by turns, for the stages of long strides; then for each block of 256 words
    its 15 rows, 16 roots and 16 quotients each, for the last four stages.
    """
    degree = powers.size
    both = np.stack([powers.astype(np.uint32), quotients(powers.astype(np.uint32), prime)])
    rows = []
    for parts in (1, 2, 4, 8):
        blocks = parts * degree // _LANES
        of_stage = both[:, blocks : 2 * blocks].reshape(2, degree // _BLOCK, _LANES, parts)
        rows.append(of_stage.transpose(1, 3, 0, 2))
    first = both[:, : degree // _LANES].T
    last = np.concatenate(rows, axis=1)
    return np.ascontiguousarray(first).ravel(), np.ascontiguousarray(last).ravel()


def _swapped(values: Any) -> Any:
    """Each block of 256 values as a square of 16 by 16, transposed: its own inverse."""
    squares = values.reshape(len(values), -1, _LANES, _LANES)
    return squares.swapaxes(2, 3).reshape(values.shape)


@cache
def kernels() -> Any:
    """The compiled kernels, or None where they cannot be used. Imports numba when called."""
    try:
        from secagg.kernels import ntt  # noqa: PLC0415
    except ImportError:
        return None
    return ntt if ntt.compiles() else None
