"""The canary: coordinates whose sum is known, so that a wrong mask is an error, not a model."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.masking.parameters import MaskingParameters
from secagg.errors import LocalError

Vector = NDArray[np.unsignedinteger[Any]]


def with_canary(values: Vector, parameters: MaskingParameters) -> Vector:
    """`values` followed by the zeros and the one. Raises LocalError for another shape."""
    if np.shape(values) != (parameters.length,):
        raise LocalError(f"a vector of shape {np.shape(values)}; expected ({parameters.length},)")
    tail = np.zeros(parameters.canary_zeros + 1, values.dtype)
    tail[-1] = 1
    return np.concatenate([values, tail])


def split_canary(total: Vector, parameters: MaskingParameters, uploads: int) -> Vector | None:
    """The sum without its canary, or None where the canary of `uploads` vectors is not there."""
    zeros, ones = total[parameters.length : -1], int(total[-1])
    intact = not np.any(zeros) and ones == uploads % 2**parameters.modulus_bits
    return total[: parameters.length] if intact else None
