"""Which of two updates is in the sum: a server that knows both, and nothing of the others.

Ngo et al. (arXiv:2403.17775) show that secure aggregation is no differential privacy. The
score is the sum's component along the difference of the two candidates. All trials are in one
session, one after the other in one long vector: a sum is a sum in each coordinate.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.security.attack import Attack, Case, Effort
from benchmarks.security.learning import clipped, digits, local_update, noisy
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
    return np.array(
        [local_update(model, start, (x[a : a + ROWS], y[a : a + ROWS])) for a in cuts]
    )


def trials(n: int, count: int, sigma: float) -> tuple[list[Floats], Floats, NDArray[np.bool_]]:
    """The clients' long vectors, the differences (count, d), and which candidate is in."""
    updates, random = pool(), np.random.default_rng([4, n])
    chosen = np.array([random.permutation(len(updates))[: n + 1] for _ in range(count)])
    first = np.arange(count) % 2 == 0
    gaps = updates[chosen[:, 0]] - updates[chosen[:, 1]]
    target = np.where(first, chosen[:, 0], chosen[:, 1])
    members = np.column_stack([target, chosen[:, 2:]])
    vectors = []
    for u in range(n):
        rows = updates[members[:, u]]
        if sigma:
            rows = np.array([noisy(row, 1.0, sigma / np.sqrt(n), 100 * u + i)
                             for i, row in enumerate(rows)])
            gaps = gaps if u else np.array([clipped(updates[a], 1.0) - clipped(updates[b], 1.0)
                                            for a, b in chosen[:, :2]])
        vectors.append(rows.ravel())
    return vectors, gaps, first


def _case(n: int, sigma: float = 0.0):  # type: ignore[no-untyped-def]
    def measure(target: Target, effort: Effort) -> Measured:
        count = effort.of(200, 400)
        vectors, gaps, first = trials(n, count, sigma)
        clip = max(float(np.abs(each).max()) for each in vectors)
        view = observe(target, dict(enumerate(vectors, 1)), clip, bits=20)
        sums = view.mean.reshape(count, -1) * n
        middle = 0.5 * (np.linalg.norm(gaps, axis=1) ** 0)  # the candidates are drawn alike
        scores = (sums * gaps).sum(axis=1) / np.linalg.norm(gaps, axis=1) * 2 * middle
        low, high = bootstrap_auc(scores, first)
        return Measured(auc(scores, first), low, high, "bootstrap", f"{count} sums of {n}")

    return measure


ATTACK = Attack(
    "which of two updates is in the sum",
    "The server knows two updates and that one of them is in the sum. Can it tell which?",
    "Ngo et al., arXiv:2403.17775",
    "AUC",
    (
        Case("the sum of 2", Rule(0.65, 0.5, scope="beyond"), _case(2)),
        Case("the sum of 20", Rule(0.65, 0.5, scope="beyond"), _case(20)),
        Case("the sum of 20, clip 1 + noise 3", Rule(0.65, 0.5, scope="beyond"),
             _case(20, SIGMA), control="the sum of 20"),
    ),
)
