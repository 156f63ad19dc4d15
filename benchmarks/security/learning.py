"""Small federations in memory: real digits, clients that train, and a target that sums."""

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray
from torch import nn

from benchmarks.security.targets import Target
from benchmarks.security.views import observe
from fl.data import load_silo, load_test
from fl.models import build, load_vector, to_vector
from fl.training import configure, train

Floats = NDArray[np.float64]
Data = tuple[NDArray[np.float32], NDArray[np.int64]]
Change = Callable[[int, Floats], Floats]


@cache
def digits() -> tuple[Data, Data]:
    """All training and all test records, in an order of their own."""
    configure(threads=1)
    silos = [load_silo("digits", u) for u in range(10)]
    x = np.concatenate([silo.x for silo in silos])
    y = np.concatenate([silo.y for silo in silos])
    order = np.random.default_rng(7).permutation(len(y))
    return (x[order], y[order]), load_test("digits")


def silos(clients: int, rows: int, start: int = 0) -> list[Data]:
    """`rows` training records for each client."""
    (x, y), _ = digits()
    cuts = range(start, start + clients * rows, rows)
    return [(x[at : at + rows], y[at : at + rows]) for at in cuts]


def noisy(update: Floats, clip: float, sigma: float, seed: int) -> Floats:
    """An update scaled to norm `clip` at most, with Gaussian noise of deviation sigma · clip."""
    norm = float(np.linalg.norm(update))
    scaled = update * min(1.0, clip / norm) if norm else update
    noise = np.random.default_rng(seed).normal(0, sigma * clip, len(update))
    return np.asarray(scaled + noise, np.float64)


def clipped(update: Floats, clip: float) -> Floats:
    """An update scaled to norm `clip` at most."""
    return noisy(update, clip, 0.0, 0)


def local_update(model: nn.Module, start: Floats, data: Data, **how: float) -> Floats:
    """What a client's training adds to the parameters `start`."""
    load_vector(model, start)
    settings = {"epochs": 1, "lr": 0.1, "batch_size": 16, "seed": 0, **how}
    return np.asarray(train(model, *data, **settings), np.float64)  # type: ignore[arg-type]


def federate(
    target: Target,
    widths: tuple[int, ...],
    parts: list[Data],
    rounds: int,
    change: Change = lambda _u, update: update,
    clip: float = 1.0,
    **how: float,
) -> nn.Module:
    """FedAvg over the target's own sums; `change` is what a client does to its update."""
    model = build(widths, seed=1)
    start: Floats = to_vector(model).astype(np.float64)
    for number in range(rounds):
        updates: Mapping[int, Floats] = {
            u: change(u, local_update(model, start, part, seed=number, **how))
            for u, part in enumerate(parts, 1)
        }
        start = start + observe(target, updates, clip, bits=20).mean
    load_vector(model, start)
    return model
