"""What follows from sums alone: two rounds that differ by one client, and tiny cohorts."""

import numpy as np

from benchmarks.security.attack import Attack, Case, Effort
from benchmarks.security.learning import local_update, noisy, silos
from benchmarks.security.stats import bootstrap, correlation
from benchmarks.security.targets import Target
from benchmarks.security.verdict import Measured, Rule
from benchmarks.security.views import Floats, observe
from fl.models import build, load_vector, to_vector

WIDTHS = (64, 16, 10)
CLIENTS, ROWS = 6, 20


def two_rounds(target: Target, number: int, sigma: float) -> float:
    """The victim is in round 1 and not in round 2: the cosine of the difference of the two
    sums with the victim's update.
    """
    model = build(WIDTHS, seed=number)
    start: Floats = to_vector(model).astype(np.float64)
    parts = silos(CLIENTS, ROWS, start=20 * number)
    trained = [local_update(model, start, p) for p in parts]
    first = {u: _kept(update, sigma, 100 * number + u) for u, update in enumerate(trained, 1)}
    one = observe(target, first, clip=1.0).mean
    load_vector(model, start + one)
    later = [
        _kept(local_update(model, start + one, p), sigma, 100 * number + 50 + u)
        for u, p in enumerate(parts[1:])
    ]
    two = observe(target, dict(enumerate(later, 1)), clip=1.0).mean
    return correlation(one * CLIENTS - two * (CLIENTS - 1), trained[0])


def _kept(update: Floats, sigma: float, seed: int) -> Floats:
    return noisy(update, 1.0, sigma, seed) if sigma else update


def sum_of_two(target: Target, number: int, sigma: float) -> float:
    """Two clients, one of them works with the server: the cosine of what is left."""
    model = build(WIDTHS, seed=number)
    start: Floats = to_vector(model).astype(np.float64)
    updates = [local_update(model, start, p) for p in silos(2, ROWS, start=40 * number)]
    sent = {u: _kept(update, sigma, u) for u, update in enumerate(updates, 1)}
    mean = observe(target, sent, clip=1.0).mean
    return correlation(2 * mean - sent[2], updates[0])


def _case(trick, sigma: float = 0.0):  # type: ignore[no-untyped-def]
    def measure(target: Target, effort: Effort) -> Measured:
        found = np.array([trick(target, number, sigma) for number in range(effort.of(5, 10))])
        return Measured(float(found.mean()), *bootstrap(found), "bootstrap")

    return measure


_TWO_ROUNDS = Rule(bar=0.3, baseline=0.1, scope="beyond")
_TINY = Rule(bar=0.9, baseline=0.1, scope="beyond")
ATTACK = Attack(
    "differencing and tiny cohorts",
    "Two sums that differ by one client, or a sum of two with one colluding: how well is one "
    "client's update known?",
    "docs/threat-models.md",
    "cosine with the victim's update",
    (
        Case("two rounds, one client less", _TWO_ROUNDS, _case(two_rounds)),
        Case(
            "two rounds, clip + noise",
            _TWO_ROUNDS,
            _case(two_rounds, 0.3),
            control="two rounds, one client less",
        ),
        Case("the sum of 2, one colludes", _TINY, _case(sum_of_two)),
        Case(
            "the sum of 2, clip + noise",
            _TINY,
            _case(sum_of_two, 0.3),
            control="the sum of 2, one colludes",
        ),
    ),
)
