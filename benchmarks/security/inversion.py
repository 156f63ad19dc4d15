"""Analytic gradient inversion: dividing the first layer's rows by its bias returns the record."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.security.attack import Attack, Case, Effort, proportion
from benchmarks.security.learning import digits, noisy
from benchmarks.security.targets import Target
from benchmarks.security.verdict import Measured, Rule
from benchmarks.security.views import Floats, observe
from fl.inversion import candidates, one_record_update, psnr
from fl.models import build, signature

HIDDEN = 128
CLEAR = 30.0
"""Decibels from which on the eye sees no difference."""
SIGMA = 1.0
CLIP = 0.5


def records(count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Test images, one a client."""
    _, (x, y) = digits()
    return x[:count], y[:count]


@lru_cache(maxsize=4)
def gradients(count: int) -> NDArray[np.float64]:
    """What a client with one image sends after one step: (count, d)."""
    model = build((64, HIDDEN, 10), seed=3)
    x, y = records(count)
    each = [one_record_update(model, a, b, lr=1.0) for a, b in zip(x, y, strict=True)]
    return np.asarray(each, np.float64)


def best_guesses(update: Floats, originals: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """For each original, the unit's quotient that comes closest, and its PSNR in dB."""
    guesses = candidates(update, signature(build((64, HIDDEN, 10), seed=3)))
    scores = np.array([[psnr(x, g) for g in guesses] for x in originals])
    return guesses[scores.argmax(axis=1)], scores.max(axis=1)


def sums(target: Target, n: int, trials: int, sigma: float) -> tuple[Floats, Floats]:
    """`trials` sums of n clients, all in one session, and their clients' first reconstructions:
    (trials · n, 64) and the PSNR of each.
    """
    update = gradients(n * trials)
    if sigma:
        update = np.array([noisy(each, CLIP, sigma, i) for i, each in enumerate(update)])
    stacked = {u + 1: update[u::n].ravel() for u in range(n)}
    view = observe(target, stacked, clip=float(np.abs(update).max()))
    total = view.mean.reshape(trials, -1) * n
    x, _ = records(n * trials)
    found = [best_guesses(total[t], x[n * t : n * t + n]) for t in range(trials)]
    images, scores = zip(*found, strict=True)
    return np.concatenate(images), np.concatenate(scores)


def messages(target: Target, clients: int) -> tuple[Floats, Floats]:
    """The same of each client's own message."""
    update = gradients(clients)
    clip = float(np.abs(update).max())
    view = observe(target, dict(enumerate(update, 1)), clip, individuals=True)
    x, _ = records(clients)
    found = [best_guesses(view.updates[u], x[u - 1 : u]) for u in view.updates]
    images, scores = zip(*found, strict=True)
    return np.concatenate(images), np.concatenate(scores)


def _share(scores: Floats) -> Measured:
    note = f"median {np.median(scores):.0f} dB"
    return proportion(int((scores > CLEAR).sum()), len(scores), note)


def _message(target: Target, effort: Effort) -> Measured:
    return _share(messages(target, effort.of(12, 30))[1])


def _sum(n: int, sigma: float = 0.0):  # type: ignore[no-untyped-def]
    def measure(target: Target, effort: Effort) -> Measured:
        trials = effort.of(max(1, 20 // n), max(1, 60 // n))
        return _share(sums(target, n, trials, sigma)[1])

    return measure


_BEYOND = Rule(bar=0.02, baseline=0.0, scope="beyond")
ATTACK = Attack(
    "analytic gradient inversion",
    "A client with one image takes one step. Does the image come back out of what the server has?",
    "Phong et al., IEEE TIFS 2018; Geiping et al., NeurIPS 2020",
    "images back above 30 dB",
    (
        Case("one client's message", Rule(bar=0.25, baseline=0.0), _message),
        Case("the sum of 2", _BEYOND, _sum(2)),
        Case("the sum of 10", _BEYOND, _sum(10)),
        Case("the sum of 50", _BEYOND, _sum(50)),
        Case(
            "the sum of 10, clip + noise",
            Rule(0.25, 0.0, scope="beyond"),
            _sum(10, SIGMA),
            control="the sum of 10",
        ),
    ),
)
