"""Public-key encryption over rings: `(b u + e0 + m, a u + e1)` for a public key `(b, a)`.

Lyubashevsky, Peikert, Regev, EUROCRYPT 2010, with what the homomorphic encryption library SEAL
makes of it, step for step: u is uniform in {-1, 0, 1}, errors are centred binomial of 2 x 21 coins
(standard deviation 3.24), encryption is modulo the product of two primes of which the second is
divided away, rounding, and the message, modulo the first, is added afterwards. So a fresh
ciphertext carries rounding noise and little else. SEAL opens it, and tests have it do so.

Coefficient i of ciphertext c takes words 3 N c + i, + N and + 2 N of a stream of 64-bit words:
for u, e0 and e1. An error is the number of set bits among the lowest 21 less that among the next
21; u is `floor(3 w / 2^64) - 1`, which is within 2^-62 of uniform.

A transform has at place k the polynomial at psi^(2 brv(k) + 1), psi being the least primitive
2N-th root of unity and brv reversing log2 N bits. Polynomials are uint64 arrays whose last axis
holds N residues. Where the kernels cannot be used, Python's integers do the same, slowly; they
are also their reference.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg import prg
from secagg.checks import whole
from secagg.errors import LocalError, ParameterError
from secagg.ntt import DEGREES, reversed_bits

Residues = NDArray[np.uint64]

COINS = 21
WORDS = 3
"""Words of the stream that a coefficient takes."""
PRIME_BITS = 61

_WORD = 2**64
_FORWARD, _INVERSE = 0, 1
_ROWS = 16


@dataclass(frozen=True, eq=False)
class Transform:
    """The transform of one degree and prime; `transform` makes it.

    powers: psi^brv(i) and psi^-brv(i), except that the first of the latter is 1/N; (2, N).
    """

    degree: int
    prime: int
    powers: NDArray[Any] = field(repr=False)

    @cached_property
    def tables(self) -> tuple[Residues, Residues]:
        """For the kernels: the powers and their quotients, (2, 2, N), and of both, (2, 2, 15,
        N / 16), those of the four stages of the shortest strides, by stage and place in a block.
        """
        whole_table = np.stack([shoup(each, self.prime) for each in self.powers])
        blocks, stages = self.degree // _ROWS, []
        for parts in (1, 2, 4, 8):
            of_stage = whole_table[..., blocks * parts : 2 * blocks * parts]
            stages.append(of_stage.reshape(2, 2, blocks, parts).swapaxes(2, 3))
        return whole_table, np.ascontiguousarray(np.concatenate(stages, axis=2))

    def forward(self, values: Residues) -> Residues:
        """The transforms of polynomials (..., N), residues. Or LocalError."""
        self.check(values)
        if (compiled := _compiled()) is None:
            return self.forward_reference(values)
        return self._rows(values, compiled.forward, _FORWARD)

    def inverse(self, values: Residues) -> Residues:
        """What `forward` was given. Or LocalError."""
        self.check(values)
        if (compiled := _compiled()) is None:
            return self.inverse_reference(values)
        return self._rows(values, compiled.inverse, _INVERSE)

    def forward_reference(self, values: Residues) -> Residues:
        """`forward`, in Python's integers."""
        x, blocks = self._wide(values), 1
        while blocks < self.degree:
            halves = x.reshape(len(x), blocks, 2, -1)
            low = halves[:, :, 0]
            high = halves[:, :, 1] * self.powers[_FORWARD, blocks : 2 * blocks, None]
            x = np.stack([low + high, low - high], axis=2).reshape(len(x), -1) % self.prime
            blocks *= 2
        return _words(x, values.shape)

    def inverse_reference(self, values: Residues) -> Residues:
        """`inverse`, in Python's integers."""
        x, blocks = self._wide(values), self.degree // 2
        while blocks:
            halves = x.reshape(len(x), blocks, 2, -1)
            low, high = halves[:, :, 0], halves[:, :, 1]
            pair = [low + high, (low - high) * self.powers[_INVERSE, blocks : 2 * blocks, None]]
            x = np.stack(pair, axis=2).reshape(len(x), -1) % self.prime
            blocks //= 2
        return _words(x * self.powers[_INVERSE, 0] % self.prime, values.shape)

    def check(self, values: Residues) -> None:
        """Raise LocalError unless these are polynomials (..., N) of residues."""
        if values.dtype != np.uint64 or values.shape[-1:] != (self.degree,):
            raise LocalError(f"polynomials are arrays of {self.degree} uint64 each")
        if values.size and int(values.max()) >= self.prime:
            raise LocalError("a residue is not below its prime")

    def _rows(self, values: Residues, compiled: Any, way: int) -> Residues:
        done, tables = values.copy(order="C"), [table[way] for table in self.tables]
        for row in done.reshape(-1, self.degree):
            compiled(row, *tables, np.uint64(self.prime))
        return done

    def _wide(self, values: Residues) -> NDArray[Any]:
        return values.astype(object).reshape(-1, self.degree)


@cache
def transform(degree: int, prime: int) -> Transform:
    """The transform for X^degree + 1 modulo a prime that is 1 mod 2 degree. Or ParameterError."""
    if degree not in DEGREES:
        raise ParameterError(f"degree {degree} is none of {DEGREES}")
    if prime >> PRIME_BITS or prime % (2 * degree) != 1:
        raise ParameterError(f"{prime} is not 1 mod {2 * degree}, or has over {PRIME_BITS} bits")
    psi = _least_root(degree, prime)
    order = reversed_bits(degree)
    powers = np.stack([_powers(base, degree, prime)[order] for base in (psi, pow(psi, -1, prime))])
    powers[_INVERSE, 0] = pow(degree, -1, prime)
    return Transform(degree, prime, powers)


@dataclass(frozen=True)
class Ring:
    """Ciphertexts of degree N modulo `prime`, fresh ones also modulo `special`, the smaller.

    Raises ParameterError.
    """

    degree: int
    prime: int
    special: int

    def __post_init__(self) -> None:
        if not 2 * COINS < self.special < self.prime:
            raise ParameterError("the prime that is divided away is the smaller one, and above 42")

    @property
    def transforms(self) -> tuple[Transform, Transform]:
        """Of both primes."""
        return transform(self.degree, self.prime), transform(self.degree, self.special)

    @property
    def inverse(self) -> int:
        """Of `special`, modulo `prime`."""
        return pow(self.special, -1, self.prime)


class PublicKey:
    """A public key, ready for use.

    residues: (2, 2, N), transformed: first b, then a, each modulo both primes. Raises LocalError.
    """

    def __init__(self, ring: Ring, residues: Residues) -> None:
        primes = ring.prime, ring.special
        if residues.dtype != np.uint64 or residues.shape != (2, 2, ring.degree):
            raise LocalError(f"a public key is (2, 2, {ring.degree}) words of 64 bits")
        if any(int(residues[:, at].max()) >= prime for at, prime in enumerate(primes)):
            raise LocalError("a residue of a public key is not below its prime")
        self.ring, self.residues = ring, residues
        large = residues[:, 0].astype(object) * ring.inverse % ring.prime
        rows = np.stack([large, residues[:, 1].astype(object)], axis=1)
        tables = [[shoup(*pair) for pair in zip(row, primes, strict=True)] for row in rows]
        self.tables: Residues = np.array(tables)

    def __repr__(self) -> str:
        return f"<PublicKey of degree {self.ring.degree}>"


def encrypt(
    key: PublicKey, messages: Residues, coins: prg.StreamKey, *, first: int = 0, flat: bool
) -> Residues:
    """A ciphertext for each message, (messages, 2, N).

    messages: (messages, N) residues, added as they are; coins: a stream for nothing else; first:
    the number of the first ciphertext; flat: whether messages and ciphertexts are coefficients
    (SEAL's BFV). Otherwise ciphertexts are transforms (CKKS), messages coefficients all the same.
    Raises LocalError.
    """
    ring = key.ring
    if messages.ndim != 2:
        raise LocalError("messages are rows of residues")
    ring.transforms[0].check(messages)
    begin, words = whole(first, "a ciphertext's number", 0), WORDS * ring.degree
    out = np.empty((len(messages), 2, ring.degree), np.uint64)
    one = _with_kernel(key, flat) if _compiled() else _with_integers(key, flat)

    def work(low: int, high: int) -> None:
        for row in range(low, high):
            drawn = np.zeros(words, np.uint64)
            prg.add_masks(drawn, [coins], [1], start=(begin + row) * words, threads=1)
            one(drawn, messages[row], out[row])
            drawn.fill(0)

    _spread(work, len(messages))
    return out


_One = Callable[[Residues, Residues, Residues], None]


def _with_kernel(key: PublicKey, flat: bool) -> _One:
    """What encrypts one message, by the kernel."""
    compiled, ring = _compiled(), key.ring
    factor = shoup(np.array([ring.inverse], object), ring.prime).ravel()
    numbers = np.array([ring.prime, ring.special, *factor], np.uint64)
    (roots, last), tables, form = _roots(ring), key.tables, np.uint64(flat)

    def one(words: Residues, message: Residues, out: Residues) -> None:
        compiled.encrypt(words, message, tables, roots, last, numbers, form, out)

    return one


def _with_integers(key: PublicKey, flat: bool) -> _One:
    """The same by the definition."""
    ring = key.ring

    def one(words: Residues, message: Residues, out: Residues) -> None:
        u, *errors = short_polynomials(words)
        for part, error in enumerate(errors):
            products = [
                _product(each, u, row)
                for each, row in zip(ring.transforms, key.residues[part], strict=True)
            ]
            sums = [
                (product + error) % each.prime
                for product, each in zip(products, ring.transforms, strict=True)
            ]
            row = _divided(ring, *sums) + (0 if part else message.astype(object))
            residues = (row % ring.prime).astype(np.uint64)
            whole_form = residues if flat else ring.transforms[0].forward_reference(residues)
            out[part] = whole_form

    return one


def short_polynomials(words: Residues) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """u, e0 and e1 that 3 N words stand for, as arrays of Python's integers."""
    drawn = words.astype(object).reshape(WORDS, -1)
    mask = 2**COINS - 1
    count = np.frompyfunc(int.bit_count, 1, 1)
    errors = (count(row & mask) - count(row >> COINS & mask) for row in drawn[1:])
    e0, e1 = errors
    return drawn[0] * 3 // _WORD - 1, e0, e1


def scale_up(values: Residues, prime: int, modulus: int) -> Residues:
    """`floor((prime v + (t + 1) / 2) / t)`, prime v / t rounded, for each v below an odd t of up
    to 61 bits: SEAL's way to lift a BFV plaintext. In constant time.
    """
    rest = prime % modulus
    if (compiled := _compiled()) is None:
        wide = values.astype(object)
        lifted = prime // modulus * wide + (rest * wide + (modulus + 1) // 2) // modulus
        return _words(lifted, values.shape)
    done = values.copy()
    numbers = (prime // modulus, rest, rest * _WORD // modulus, modulus)
    compiled.scale_up(done.reshape(-1), *(np.uint64(each) for each in numbers))
    return done


def shoup(factors: NDArray[Any], prime: int) -> Residues:
    """Public factors below p, and `floor(w * 2^64 / p)` of each, (2, ...)."""
    wide = factors.astype(object)
    return np.stack([wide, wide * _WORD // prime]).astype(np.uint64)


def _product(over: Transform, short: NDArray[Any], transformed: Residues) -> NDArray[Any]:
    """A short polynomial times a transformed one, coefficients."""
    one = over.forward_reference((short % over.prime).astype(np.uint64))
    both = one.astype(object) * transformed % over.prime
    return over.inverse_reference(both.astype(np.uint64)).astype(object)


def _divided(ring: Ring, large: NDArray[Any], small: NDArray[Any]) -> NDArray[Any]:
    """A polynomial that is known modulo both primes, divided by the second and rounded."""
    half = ring.special // 2
    rest = (small + half) % ring.special - half
    done: NDArray[Any] = (large - rest) * ring.inverse % ring.prime
    return done


def _words(integers: NDArray[Any], shape: tuple[int, ...]) -> Residues:
    """Python's integers as words."""
    words: Residues = integers.astype(np.uint64).reshape(shape)
    return words


@cache
def _roots(ring: Ring) -> tuple[Residues, Residues]:
    whole_tables, last = zip(*(each.tables for each in ring.transforms), strict=True)
    return np.stack(whole_tables), np.stack(last)


def _least_root(degree: int, prime: int) -> int:
    """The least psi with psi^N = -1."""
    candidates = (pow(base, (prime - 1) // (2 * degree), prime) for base in range(2, prime))
    psi = next(each for each in candidates if pow(each, degree, prime) == prime - 1)
    return int((_powers(psi * psi % prime, degree, prime) * psi % prime).min())


def _powers(base: int, count: int, prime: int) -> NDArray[Any]:
    """base^0 to base^(count - 1) mod p, for a power of two of them."""
    result = np.ones(1, object)
    while result.size < count:
        step = pow(base, result.size, prime)
        result = np.concatenate([result, result * step % prime])
    return result


def _spread(work: Callable[[int, int], None], total: int) -> None:
    """`work` on each of `range(total)`, on all cores where there are kernels."""
    if _compiled() is None:
        work(0, total)
        return
    from secagg.kernels import _parallel  # noqa: PLC0415 - imports numba

    _parallel.spread(work, total, 1, None)


@cache
def _compiled() -> Any:
    """The compiled kernels, or None where they cannot be used. Imports numba when called."""
    try:
        from secagg.kernels import lpr  # noqa: PLC0415
    except ImportError:
        return None
    return lpr if lpr.compiles() else None
