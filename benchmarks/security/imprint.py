"""An imprint layer sent to all: a first layer that sorts records into bins by brightness.

Fowl et al. (ICLR 2022, "Robbing the Fed"). Row i fires where the brightness is above its
threshold; the difference of two neighbouring rows is made by the records between two
thresholds, and a bin with one record gives that record. All clients get the same malicious
model, so nothing that binds to the model helps.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.security.attack import Attack, Case, Effort, proportion
from benchmarks.security.learning import digits, noisy
from benchmarks.security.targets import Target
from benchmarks.security.verdict import Measured, Rule
from benchmarks.security.views import Floats, observe
from fl.inversion import psnr

BINS, ROWS = 256, 8
CLEAR = 30.0


def imprinted(calibration: NDArray[np.float32]) -> nn.Module:
    """The malicious model; thresholds are quantiles of public records."""
    model = nn.Sequential(nn.Linear(64, BINS), nn.ReLU(), nn.Linear(BINS, 10))
    direction = torch.full((64,), 1 / 64)
    levels = np.quantile(calibration.mean(axis=1), np.linspace(0.002, 0.998, BINS))
    steady = torch.linspace(-1, 1, 10)[:, None].expand(10, BINS) / BINS
    with torch.no_grad():
        for parameter, values in zip(
            model.parameters(),
            (direction.expand(BINS, 64), torch.tensor(-levels), steady, torch.zeros(10)),
            strict=True,
        ):
            parameter.copy_(values)
    return model


def first_layer(model: nn.Module, x: NDArray[np.float32], y: NDArray[np.int64]) -> Floats:
    """The gradient of the first layer on a client's records, weights then biases."""
    loss = cross_entropy(model(torch.tensor(x)), torch.tensor(y), reduction="sum")
    weight, bias = torch.autograd.grad(loss, tuple(model.parameters())[:2])
    return np.concatenate([weight.numpy().ravel(), bias.numpy()]).astype(np.float64)


def bins(total: Floats) -> Floats:
    """One guess for each pair of neighbouring rows: (BINS, 64)."""
    weight, bias = total[: BINS * 64].reshape(BINS, 64), total[BINS * 64 :]
    rows = np.diff(weight, axis=0, append=0.0)
    offsets = np.diff(bias, append=0.0)
    safe = np.where(np.abs(offsets) > 1e-9, offsets, np.inf)
    return np.asarray(rows / safe[:, None], np.float64)


def sampled(target: Target, clients: int, sigma: float = 0.0) -> tuple[Floats, Floats]:
    """The best guess for each record in one sum, and its PSNR."""
    (x, y), (public, _) = digits()
    model = imprinted(public)
    own = [(x[u * ROWS : u * ROWS + ROWS], y[u * ROWS : u * ROWS + ROWS]) for u in range(clients)]
    updates = [first_layer(model, a, b) for a, b in own]
    if sigma:
        updates = [noisy(each, 1.0, sigma, u) for u, each in enumerate(updates)]
    clip = max(float(np.abs(each).max()) for each in updates)
    sent = dict(enumerate(updates, 1))
    if clients == 1:
        total = observe(target, sent | {2: np.zeros_like(updates[0])}, clip, bits=32).mean * 2
    else:
        total = observe(target, sent, clip, bits=32).mean * clients
    guesses, records = bins(total), np.concatenate([a for a, _ in own])
    scores = np.array([[psnr(each, guess) for guess in guesses] for each in records])
    return guesses[scores.argmax(axis=1)], scores.max(axis=1)


def _case(clients: int, sigma: float = 0.0):  # type: ignore[no-untyped-def]
    def measure(target: Target, _effort: Effort) -> Measured:
        _, scores = sampled(target, clients, sigma)
        return proportion(int((scores > CLEAR).sum()), len(scores), f"{ROWS} images a client")

    return measure


_RULE = Rule(bar=0.35, baseline=0.0, scope="beyond")
ATTACK = Attack(
    "imprint layer sent to all",
    "Everybody gets the same malicious model. How many images does the sum give away?",
    "Fowl et al., ICLR 2022",
    "images back above 30 dB",
    (
        Case("1 client and an empty one", _RULE, _case(1)),
        Case("10 clients", Rule(0.1, 0.0, scope="beyond"), _case(10)),
        Case(
            "10 clients, clip + noise",
            Rule(0.1, 0.0, scope="beyond"),
            _case(10, 0.1),
            control="10 clients",
        ),
    ),
)
