"""Which of two updates is in the sum: a server that knows both, and nothing of the others.

Ngo et al. (arXiv:2403.17775) show that secure aggregation is no differential privacy. The
score is a likelihood ratio with what a public pool says of the others. All trials are in one
session, one after the other in one long vector: a sum is a sum in each coordinate.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.security.attack import Attack, Case, Effort
from benchmarks.security.learning import clipped, digits, local_update
from benchmarks.security.stats import bootstrap_auc
from benchmarks.security.targets import Target
from benchmarks.security.verdict import Measured, Rule
from benchmarks.security.views import Floats, observe
from fl.models import build, to_vector
from fl.training import auc

WIDTHS = (64, 4, 10)
SIGMA = 3.0
ROWS = 8


@lru_cache(maxsize=1)
def pool() -> Floats:
    """Real updates of clients with eight images each: (clients, d)."""
    (x, y), _ = digits()
    model = build(WIDTHS, seed=5)
    start = to_vector(model).astype(np.float64)
    cuts = range(0, len(y) - ROWS, ROWS)
    return np.array([local_update(model, start, (x[a : a + ROWS], y[a : a + ROWS])) for a in cuts])


@lru_cache(maxsize=8)
def sent(sigma: float, n: int) -> Floats:
    """What clients send, but for the noise: clipped where there is noise."""
    updates = pool()
    return np.array([clipped(each, 1.0) for each in updates]) if sigma and n else updates


def trials(n: int, count: int, sigma: float) -> tuple[list[Floats], NDArray[np.int64]]:
    """The clients' long vectors, and the candidates (count, 2), of whom the first is in the
    sum in every other trial.
    """
    updates, random = sent(sigma, n), np.random.default_rng([4, n])
    half = len(updates) // 2
    chosen = half + np.array([random.permutation(half)[: n + 1] for _ in range(count)])
    inside = np.where(np.arange(count) % 2 == 0, chosen[:, 0], chosen[:, 1])
    members = np.column_stack([inside, chosen[:, 2:]])
    vectors = [updates[members[:, u]] for u in range(n)]
    noise = sigma / np.sqrt(n)
    return [(rows + random.normal(0, noise, rows.shape)).ravel() for rows in vectors], chosen[:, :2]


def scores(sums: Floats, candidates: NDArray[np.int64], n: int, sigma: float) -> Floats:
    """The log-likelihood ratio where the other updates are normal with mean and covariance of
    a public pool, none of whose clients take part, shrunk (Ledoit and Wolf 2004 with a fixed
    weight).
    """
    updates = sent(sigma, n)
    public = updates[: len(updates) // 2]
    spread = np.cov(public.T)
    scale = float(np.trace(spread)) / len(spread)
    noise = (0.1 * scale * (n - 1) + sigma**2 + 1e-9) * np.eye(len(spread))
    first, second = updates[candidates[:, 0]], updates[candidates[:, 1]]
    rest = sums - (first + second) / 2 - (n - 1) * public.mean(axis=0)
    weighted = np.linalg.solve(0.9 * (n - 1) * spread + noise, (first - second).T).T
    return np.asarray((rest * weighted).sum(axis=1), np.float64)


def _case(n: int, sigma: float = 0.0):  # type: ignore[no-untyped-def]
    def measure(target: Target, effort: Effort) -> Measured:
        count = effort.of(200, 300)
        vectors, candidates = trials(n, count, sigma)
        clip = max(float(np.abs(each).max()) for each in vectors)
        view = observe(target, dict(enumerate(vectors, 1)), clip, bits=20)
        found = scores(view.mean.reshape(count, -1) * n, candidates, n, sigma)
        first = np.arange(count) % 2 == 0
        low, high = bootstrap_auc(found, first)
        return Measured(auc(found, first), low, high, "bootstrap", f"{count} sums of {n}")

    return measure


ATTACK = Attack(
    "which of two updates is in the sum",
    "The server knows two updates and that one of them is in the sum. Can it tell which?",
    "Ngo et al., arXiv:2403.17775",
    "AUC",
    (
        Case("the sum of 2", Rule(0.65, 0.5, scope="beyond"), _case(2)),
        Case("the sum of 20", Rule(0.65, 0.5, scope="beyond"), _case(20)),
        Case(
            "the sum of 20, clip 1 + noise 3",
            Rule(0.65, 0.5, scope="beyond"),
            _case(20, SIGMA),
            control="the sum of 20",
        ),
    ),
)
