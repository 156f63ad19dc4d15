"""What `secagg.kernels.rlwe` does, in NumPy and Python's integers: its reference, and what
runs where there is no compiler. The functions have the kernels' names, arguments and results.
"""

from typing import Any

import numpy as np

from secagg import packing
from secagg.ntt import PRIME_BITS

_GROUP_BYTES = 16 * PRIME_BITS // 8


def multiply(values: Any, factors: Any, _quotients: Any, prime: Any) -> None:
    """`values[i] *= factors[i]` mod p."""
    values[:] = values.astype(np.uint64) * factors % np.uint64(prime)


def pack(values: Any, raw: Any) -> None:
    """Residues as bytes, 30 bits each."""
    raw[:] = np.frombuffer(packing.pack(values, PRIME_BITS), np.uint8)


def add_packed(acc: Any, raw: Any, degree: int, primes: Any) -> None:
    """Add packed chunks, a row for each prime."""
    other = packing.unpack(raw.tobytes(), PRIME_BITS, acc.size)
    for begin, end, prime in _rows(acc.size, degree, primes):
        acc[begin:end] = (acc[begin:end].astype(np.uint64) + other[begin:end]) % prime


def beyond(raw: Any, residues: int, degree: int, primes: Any) -> int:
    """How many packed residues are not below their primes."""
    values = packing.unpack(raw.tobytes(), PRIME_BITS, residues)
    rows = _rows(residues, degree, primes)
    return sum(int(np.sum(values[begin:end] >= prime)) for begin, end, prime in rows)


def accept(words: Any, prime: Any, out: Any) -> int:
    """The first words whose low 30 bits are below the prime; how many there are."""
    low = words & np.uint32(2**PRIME_BITS - 1)
    kept = low[low < prime][: out.size]
    out[: kept.size] = kept
    return int(kept.size)


def encode(row: Any, noise: Any, values: Any, factors: Any, _quotients: Any, prime: Any) -> None:
    """`row += noise + sum_f factors[f] * values[f]` mod p."""
    p = int(prime)
    total = row.astype(np.int64) + noise
    for field, (low, high) in zip(values.astype(np.uint64), factors.tolist(), strict=True):
        halves = field & np.uint64(2**32 - 1), field >> np.uint64(32)
        for half, factor in zip(halves, (low, high), strict=True):
            total += (half % np.uint64(p) * np.uint64(factor) % np.uint64(p)).astype(np.int64)
    row[:] = total % p


def subtract(row: Any, product: Any, shift: Any, prime: Any) -> None:
    """`product = row - product + shift` mod p."""
    product[:] = (row.astype(np.int64) - product + int(shift)) % int(prime)


def decode(
    rows: Any, primes: Any, _inverses: Any, _quotients: Any, delta: Any, radix: Any, out: Any
) -> int:
    """Digits of each column as an integer, divided by `delta`, by the Chinese remainder
    theorem; returns how many numbers have more digits than `out`.
    """
    modulus = 1
    for prime in primes.tolist():
        modulus *= prime
    idempotents = [modulus // p * pow(modulus // p, -1, p) for p in primes.tolist()]
    spilled = 0
    for at, column in enumerate(rows.T.tolist()):
        products = (one * value for one, value in zip(idempotents, column, strict=True))
        message = sum(products) % modulus // int(delta)
        for field in range(len(out)):
            out[field, at] = (message >> (field * int(radix))) % 2 ** min(64, int(radix))
        spilled += bool(message >> (len(out) * int(radix)))
    return spilled


def _rows(residues: int, degree: int, primes: Any) -> list[tuple[int, int, Any]]:
    """Begin, end and prime of each row: chunk by chunk, the last one being shorter."""
    rows, done = [], 0
    while done < residues:
        width = min(degree, (residues - done) // primes.size)
        for prime in primes:
            rows.append((done, done + width, prime))
            done += width
    return rows
