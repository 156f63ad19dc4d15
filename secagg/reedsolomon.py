"""Which of several holders' values are wrong: decoding of a Reed-Solomon code over GF(2^31 - 1).

Values of a polynomial of degree below t at m points are a codeword. Berlekamp and Welch (US
patent 4,633,470, expired): where at most e = (m - t) / 2 of them are wrong, any two polynomials
Q and E, not both zero, of degrees below t + e and at most e, with Q(x_i) = y_i E(x_i) for all i,
satisfy Q = f E; so every y_i is right where E(x_i) is not zero. Nothing here is secret.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from secagg import field
from secagg.field import PRIME, Elements


def trusted(points: Sequence[int], values: Elements, threshold: int) -> list[int]:
    """Places of values that are right, at least `threshold`, if few enough are wrong.

    points: distinct, in [1, p); values: (m,), m >= threshold. Where too many are wrong the
    answer is meaningless: the caller checks it.
    """
    x = np.array(points, np.uint64)
    most = (len(points) - threshold) // 2
    if not most:
        return list(range(len(points)))
    powers = _powers(x, threshold + most)
    negative = field.reduce((np.uint64(PRIME) - values)[:, None] * powers[:, : most + 1])
    solution = _kernel_vector(np.concatenate([powers, negative], axis=1))
    locator = solution[threshold + most :]
    at_points = field.reduce(field.reduce(powers[:, : most + 1] * locator).sum(axis=1))
    return [int(place) for place in np.flatnonzero(at_points)]


def _powers(x: Elements, count: int) -> Elements:
    """x_i^j, (m, count)."""
    columns = [np.ones_like(x)]
    while len(columns) < count:
        columns.append(field.reduce(columns[-1] * x))
    return np.stack(columns, axis=1)


def _kernel_vector(matrix: Elements) -> Elements:
    """A vector that the matrix maps to zero: other than zero where there is one."""
    rows: Any = matrix.copy()
    pivots: list[int] = []
    for column in range(rows.shape[1]):
        place = len(pivots)
        below = np.flatnonzero(rows[place:, column])
        if not below.size:
            break
        rows[[place, place + below[0]]] = rows[[place + below[0], place]]
        inverse = np.uint64(pow(int(rows[place, column]), -1, PRIME))
        rows[place] = field.reduce(rows[place] * inverse)
        others = np.arange(len(rows)) != place
        factor = np.uint64(PRIME) - rows[others, column]
        rows[others] = field.reduce(rows[others] + field.reduce(factor[:, None] * rows[place]))
        pivots.append(column)
    solution = np.zeros(rows.shape[1], np.uint64)
    rank = len(pivots)
    if rank < solution.size:
        solution[rank] = 1
        solution[:rank] = field.reduce(np.uint64(PRIME) - rows[:rank, rank])
    return solution
