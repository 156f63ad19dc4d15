"""Sharing polynomials and Lagrange interpolation over GF(p), p = 2^31 - 1.

A Mersenne prime: the bits above the 31st are folded onto the low ones, so nothing divides.
There is no branch and no address that depends on a value; points, and so the basis, are
public anyway. One core does it: a thousand parties take a few milliseconds.
`secagg.shamir` and `secagg.field` hold the reference, and the callers check the shapes.
"""

from typing import Any

import numpy as np

from secagg.kernels._jit import compiles, kernel

__all__ = ["compiles", "evaluate", "interpolate", "lagrange"]

_P, _1, _31, _LOW = (np.uint64(n) for n in (2**31 - 1, 1, 31, 2**32 - 1))


@kernel
def _fold(value: Any) -> Any:
    """The same residue: from 64 bits below 2^33 + 2^31, from 63 below 2^32 + 2^31."""
    return (value & _P) + (value >> _31)


@kernel
def _product(one: Any, other: Any) -> Any:
    """A residue of at most 2^31 + 1; the factors are below 2^32, their product below 2^63.

    Masked, which changes nothing, so that the compiler sees a 32-bit multiplication.
    """
    return _fold(_fold((one & _LOW) * (other & _LOW)))


@kernel
def _reduced(value: Any) -> Any:
    """The residue below p of any 64-bit value."""
    most = _fold(_fold(_fold(value)))  # at most p
    return (most + ((most + _1) >> _31)) & _P


@kernel
def _inverse(value: Any) -> Any:
    """Fermat: value^(p - 2), where p - 2 is 29 ones, a zero and a one."""
    result = value
    for place in range(30):
        result = _product(result, result)
        if place != 28:
            result = _product(result, value)
    return result


@kernel
def evaluate(constant: Any, coefficients: Any, points: Any, out: Any) -> None:
    """`out[i, l]`: polynomial l at point i, by Horner's rule.

    Row 0 of `coefficients` belongs to the highest power. All below p; `out` has 32 bits.
    """
    value = np.empty(points.size, np.uint64)
    for limb in range(constant.size):
        value[:] = 0
        for power in range(coefficients.shape[0]):
            coefficient = coefficients[power, limb]
            for place in range(points.size):
                value[place] = _product(value[place] + coefficient, points[place])
        for place in range(points.size):
            out[place, limb] = np.uint32(_reduced(value[place] + constant[limb]))


@kernel
def lagrange(points: Any, out: Any) -> None:
    """`out[i] = prod_{j != i} x_j / (x_j - x_i)` for distinct points in [1, p).

    That is X / d_i with X the product of all points and d_i = x_i prod_{j != i} (x_j - x_i).
    All d_i are inverted at the price of one inversion and three products each.
    """
    count = points.size
    before = np.empty(count, np.uint64)  # the product of d_0 to d_{i-1}
    out[:] = points
    for other in range(count):
        raised = points[other] + _P
        for place in range(other):
            out[place] = _product(out[place], raised - points[place])
        for place in range(other + 1, count):
            out[place] = _product(out[place], raised - points[place])
    numerator, denominators = _1, _1
    for place in range(count):
        before[place] = denominators
        numerator = _product(numerator, points[place])
        denominators = _product(denominators, out[place])
    inverse = _product(_inverse(denominators), numerator)
    for place in range(count - 1, -1, -1):
        following = _product(inverse, out[place])
        out[place] = _reduced(_product(inverse, before[place]))
        inverse = following


@kernel
def interpolate(shares: Any, weights: Any, out: Any) -> Any:
    """`out[s, l] = sum_j weights[j] * shares[s, j, l]` mod p; returns the largest share limb.

    `shares` are any 32-bit values, `weights` below p. No sum wraps for up to 2^31 points.
    """
    highest = np.uint32(0)
    for secret in range(shares.shape[0]):
        out[secret, :] = 0
        for share in range(shares.shape[1]):
            for limb in range(shares.shape[2]):
                value = shares[secret, share, limb]
                highest = max(highest, value)
                out[secret, limb] += _fold(np.uint64(value) * weights[share])
        for limb in range(shares.shape[2]):
            out[secret, limb] = _reduced(out[secret, limb])
    return highest
