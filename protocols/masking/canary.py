"""The canary: coordinates whose sum is known, so that a wrong mask is an error, not a model."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.masking.parameters import MaskingParameters

Vector = NDArray[np.unsignedinteger[Any]]


def with_canary(values: Vector, parameters: MaskingParameters, piece: slice) -> Vector:
    """A piece of `values` followed by the zeros and the one."""
    part = values[piece]
    tail = np.zeros(max(0, piece.stop - max(piece.start, parameters.length)), part.dtype)
    if piece.stop == parameters.masked_length:
        tail[-1] = 1
    return np.concatenate([part, tail]) if tail.size else part


def canary_intact(total: Vector, parameters: MaskingParameters, uploads: int) -> bool:
    """Whether the sum ends in the canary of so many vectors."""
    zeros, ones = total[parameters.length : -1], int(total[-1])
    return not np.any(zeros) and ones == uploads % 2**parameters.modulus_bits
