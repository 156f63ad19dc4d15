"""The communication graph and the bound on its failure: spec sections 3 and 5.0."""

from fractions import Fraction
from math import comb

from tests.reference.errors import Local, Parameter
from tests.reference.labels import derive
from tests.reference.streams import keystream


def ring(n: int, seed: bytes) -> list[int]:
    """The clients 1..n in the order in which they stand on the ring."""
    raw = derive(seed, "graph permutation", length=28)
    stream = keystream(raw[:16], raw[16:], 16 * n)
    return sorted(range(1, n + 1), key=lambda v: stream[16 * (v - 1) : 16 * v])


def graph_of(n: int, degree: int, seed: bytes) -> dict[int, list[int]]:
    """Each client's neighbours on the roster, in order. Or Parameter, or Local."""
    if n < 2:
        raise Parameter(f"a graph has 2 clients or more, not {n}")
    if not 1 <= degree < n:
        raise Parameter(f"degree {degree} with {n} clients")
    if degree % 2 and degree != n - 1:
        raise Parameter(f"degree {degree} is odd")
    if len(seed) != 32:
        raise Local("a graph seed has 32 bytes")
    if degree == n - 1:
        return {v: [w for w in range(1, n + 1) if w != v] for v in range(1, n + 1)}
    order = ring(n, seed)
    steps = [s for s in range(-(degree // 2), degree // 2 + 1) if s]
    return {v: sorted(order[(at + s) % n] for s in steps) for at, v in enumerate(order)}


def failure(n: int, corrupt: int, dropped: int, degree: int, threshold: int) -> Fraction:
    """Exactly."""
    remaining = n - corrupt - dropped
    pairs = Fraction(remaining * (remaining - 1), 2)
    for i in range(degree):
        pairs *= Fraction(max(n - remaining - i, 0), n - 1 - i)
    ways = sum(
        comb(corrupt, x) * comb(n - 1 - corrupt, degree - x)
        for x in range(threshold, min(degree, corrupt) + 1)
    )
    return pairs + (n - corrupt) * Fraction(ways, comb(n - 1, degree))
