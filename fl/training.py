"""Local training and evaluation: deterministic, on one CPU thread, in float32.

The same model, records, settings and seed give the same update to the last bit on the same
machine and torch build, whatever else the process does with torch's global generator. The
number of threads can change the order of a sum: call `configure` first in every process that
must agree with another.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from fl.models import Vector, to_vector
from secagg.errors import ParameterError


@dataclass(frozen=True)
class Metrics:
    """Share of right answers, area under the ROC curve, mean cross-entropy in nats.

    `auc` is that of class 1 for two classes and the unweighted mean of one class against the
    rest for more; None where the records lack a class.
    """

    accuracy: float
    auc: float | None
    loss: float


def configure(threads: int = 1) -> None:
    """Make torch reproducible in this process: `threads` threads, deterministic kernels only."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True)


def train(
    model: nn.Module,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    *,
    epochs: int,
    lr: float,
    batch_size: int,
    seed: int,
) -> Vector:
    """Train `model` in place and return its update, new − old parameters, shape (d,).

    Plain SGD on the cross-entropy (McMahan et al. 2017, ClientUpdate): `epochs` passes over
    x (rows, features) and y (rows,), each in a new order drawn from `seed`, in batches of
    `batch_size`, the last one possibly smaller. Raises ParameterError on settings that train
    nothing and on a loss that diverges.
    """
    if len(x) == 0 or len(x) != len(y) or min(epochs, batch_size) < 1 or not lr > 0:
        raise ParameterError(
            "training needs records, one label each, epochs, batch_size and lr > 0"
        )
    before = to_vector(model)
    inputs, labels = torch.tensor(x), torch.tensor(y)
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        shuffled = torch.randperm(len(labels), generator=order)
        for start in range(0, len(labels), batch_size):
            batch = shuffled[start : start + batch_size]
            _step(model, inputs[batch], labels[batch], lr)
    update = to_vector(model) - before
    if not np.isfinite(update).all():
        raise ParameterError(f"training diverged: choose a learning rate below {lr}")
    return update


def _step(model: nn.Module, x: torch.Tensor, y: torch.Tensor, lr: float) -> None:
    parameters = tuple(model.parameters())
    gradients = torch.autograd.grad(cross_entropy(model(x), y), parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(gradient, alpha=lr)


def evaluate(model: nn.Module, x: NDArray[np.float32], y: NDArray[np.int64]) -> Metrics:
    """Metrics of `model` on x (rows, features) and y (rows,); ParameterError without records."""
    if len(y) == 0:
        raise ParameterError("evaluation needs at least one record")
    with torch.no_grad():
        logits = model(torch.tensor(x)).double()
    scores = torch.softmax(logits, dim=1).numpy()
    loss = float(cross_entropy(logits, torch.tensor(y)))
    return Metrics(float((scores.argmax(axis=1) == y).mean()), macro_auc(scores, y), loss)


def macro_auc(scores: NDArray[np.float64], y: NDArray[np.int64]) -> float | None:
    """AUC of scores (rows, classes): class 1 of two, or the mean of each class against the rest."""
    classes = scores.shape[1]
    if len(np.unique(y)) < classes:
        return None
    asked = [1] if classes == 2 else range(classes)
    return float(np.mean([auc(scores[:, label], y == label) for label in asked]))


def auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Probability that a positive scores above a negative, ties half (Mann–Whitney U / n₁n₀)."""
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(sizes) - (sizes - 1) / 2
    n = int(positive.sum())
    u = mean_rank[group[positive]].sum() - n * (n + 1) / 2
    return float(u / (n * (len(scores) - n)))
