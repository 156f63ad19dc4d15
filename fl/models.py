"""Small torch models, and their parameters as one flat vector.

A protocol sums vectors; a model is a list of named tensors. `to_vector` and `load_vector`
translate, in the fixed order of `named_parameters`; `signature` is that order with dtypes and
shapes, for the application digest both ends of a round must agree on. The models have no
buffers (no batch normalisation): everything a client learns is in the vector.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from secagg.errors import ParameterError

Vector = NDArray[np.float32]
Signature = tuple[tuple[str, str, tuple[int, ...]], ...]


def build(widths: Sequence[int], seed: int) -> nn.Module:
    """A multilayer perceptron, `widths` from input to output with ReLU between, in float32.

    Its parameters depend on `widths` and `seed` only: weights are He-uniform (He et al. 2015),
    biases zero, and torch's global generator is neither used nor advanced. Raises
    ParameterError on fewer than two widths or one below 1.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ParameterError(f"a model needs two or more positive widths, not {tuple(widths)}")
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [_linear(inputs, outputs, generator), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    bound = math.sqrt(6 / inputs)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.zero_()
    return layer


def to_vector(model: nn.Module) -> Vector:
    """All parameters, flattened in order: a fresh float32 array of shape (d,)."""
    flat = [p.detach().cpu().numpy().ravel() for p in model.parameters()]
    return np.concatenate(flat).astype(np.float32, copy=False)


def load_vector(model: nn.Module, vector: NDArray[np.floating]) -> None:
    """Overwrite the parameters with `vector` (d,); ParameterError on another shape or NaN."""
    sizes = [p.numel() for p in model.parameters()]
    if vector.shape != (sum(sizes),):
        raise ParameterError(f"the model takes a vector of {sum(sizes)}, not {vector.shape}")
    if not np.isfinite(vector).all():
        raise ParameterError("a model cannot be loaded from NaN or inf")
    values, start = torch.from_numpy(vector.astype(np.float32)), 0
    with torch.no_grad():
        for parameter, size in zip(model.parameters(), sizes, strict=True):
            parameter.copy_(values[start : start + size].view_as(parameter))
            start += size


def signature(model: nn.Module) -> Signature:
    """(name, dtype, shape) of each parameter, in the order of the vector."""
    return tuple(
        (name, str(p.dtype).removeprefix("torch."), tuple(p.shape))
        for name, p in model.named_parameters()
    )
