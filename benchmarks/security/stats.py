"""Intervals and scores: every figure of the suite comes with one of these."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl.training import auc

Array = NDArray[np.float64]
Interval = tuple[float, float]

Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


def wilson(hits: int, trials: int) -> Interval:
    """The 95 % interval of a proportion (Wilson, JASA 1927): good near 0 and 1."""
    if trials < 1 or not 0 <= hits <= trials:
        raise ValueError(f"{hits} hits in {trials} trials")
    share = hits / trials
    centre = share + Z * Z / (2 * trials)
    half = Z * math.sqrt(share * (1 - share) / trials + Z * Z / (4 * trials * trials))
    scale = 1 + Z * Z / trials
    low = 0.0 if hits == 0 else (centre - half) / scale
    high = 1.0 if hits == trials else (centre + half) / scale
    return low, high


def clopper_pearson(hits: int, trials: int) -> Interval:
    """The exact 95 % interval of a proportion (Clopper and Pearson, Biometrika 1934)."""
    if trials < 1 or not 0 <= hits <= trials:
        raise ValueError(f"{hits} hits in {trials} trials")
    low = 0.0 if hits == 0 else _solve(lambda p: 1 - _binomial(hits - 1, trials, p), 0.025)
    high = 1.0 if hits == trials else _solve(lambda p: 1 - _binomial(hits, trials, p), 0.975)
    return low, high


def _binomial(most: int, trials: int, p: float) -> float:
    """P(X <= most) for X ~ B(trials, p)."""
    return sum(math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(most + 1))


def _solve(rising: Callable[[float], float], value: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return (low + high) / 2


def bootstrap(values: Array, seed: int = 0, rounds: int = 2000) -> Interval:
    """The 95 % percentile bootstrap interval of a mean (Efron 1979)."""
    random = np.random.default_rng(seed)
    picks = random.integers(0, len(values), (rounds, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def bootstrap_auc(
    scores: Array, positive: NDArray[np.bool_], seed: int = 0, rounds: int = 400
) -> Interval:
    """The 95 % percentile bootstrap interval of an AUC, each class drawn by itself."""
    random = np.random.default_rng(seed)
    yes, no = scores[positive], scores[~positive]
    truth = np.arange(len(scores)) < len(yes)
    found = [
        auc(np.concatenate([random.choice(yes, len(yes)), random.choice(no, len(no))]), truth)
        for _ in range(rounds)
    ]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def welch(one: Array, other: Array) -> float:
    """Welch's t of two samples; 0 where neither varies and the means agree."""
    gap = float(one.mean() - other.mean())
    spread = math.sqrt(one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
    if spread == 0:
        return 0.0 if gap == 0 else math.copysign(math.inf, gap)
    return gap / spread


def correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    """The cosine of two vectors; 0 where one of them is zero."""
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norms if norms else 0.0
