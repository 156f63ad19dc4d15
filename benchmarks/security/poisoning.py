"""Poisoning: 4 of 20 clients lie about their update. A sum cannot be inspected."""

import numpy as np

from benchmarks.security.attack import Attack, Case, Effort, proportion
from benchmarks.security.learning import Change, clipped, digits, federate, silos
from benchmarks.security.targets import Target
from benchmarks.security.verdict import Measured, Rule
from benchmarks.security.views import Floats
from fl.training import evaluate

CLIENTS, LIARS, ROWS = 20, 4, 40
WIDTHS = (64, 32, 10)
NORM = 1.0


def _sign_flip(u: int, update: Floats) -> Floats:
    return -10 * update if u <= LIARS else update


def _sign_flip_clipped(u: int, update: Floats) -> Floats:
    return clipped(_sign_flip(u, update), NORM)


def _out_of_range(u: int, update: Floats) -> Floats:
    return np.full_like(update, 1e6) if u <= LIARS else update


def _out_of_range_clipped(u: int, update: Floats) -> Floats:
    """Honest clients clip; nobody can make a liar clip. The encoding's range still holds."""
    return _out_of_range(u, update) if u <= LIARS else clipped(update, NORM)


def _case(change: Change):  # type: ignore[no-untyped-def]
    def measure(target: Target, effort: Effort) -> Measured:
        rounds = effort.of(4, 6)
        how = {"epochs": 3, "lr": 0.3, "batch_size": 20}
        parts = silos(CLIENTS, ROWS)
        model = federate(target, WIDTHS, parts, rounds, change, clip=2.0, **how)
        _, (x, y) = digits()
        right = round(evaluate(model, x, y).accuracy * len(y))
        return proportion(right, len(y), f"{rounds} rounds")

    return measure


_RULE = Rule(bar=0.6, baseline=0.85, wins="below", scope="beyond")
ATTACK = Attack(
    "poisoning, 4 of 20 clients",
    "A fifth of the clients lie about their update. What is left of the model's accuracy?",
    "Bagdasaryan et al., AISTATS 2020",
    "accuracy of the model",
    (
        Case("sign flip, ten times", _RULE, _case(_sign_flip)),
        Case(
            "sign flip, everybody clips",
            _RULE,
            _case(_sign_flip_clipped),
            control="sign flip, ten times",
        ),
        Case("out of range", _RULE, _case(_out_of_range)),
        Case("out of range, the honest clip", _RULE, _case(_out_of_range_clipped)),
    ),
)
