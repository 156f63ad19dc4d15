"""Membership in the final model: a record on which the loss is small was probably trained on."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks.security.attack import Attack, Case, Effort
from benchmarks.security.learning import Change, Data, federate, noisy, silos
from benchmarks.security.stats import bootstrap_auc
from benchmarks.security.targets import Target
from benchmarks.security.verdict import Measured, Rule
from benchmarks.security.views import Floats
from fl.training import auc

CLIENTS, ROWS = 5, 40
WIDTHS = (64, 32, 10)


def losses(model: torch.nn.Module, data: Data) -> Floats:
    """The loss on each record."""
    x, y = data
    with torch.no_grad():
        each = cross_entropy(model(torch.tensor(x)), torch.tensor(y), reduction="none")
    return np.asarray(each.numpy(), np.float64)


def _spoiled(parts: list[Data]) -> list[Data]:
    """Two fifths of the labels wrong, as in real records: what is memorised then shows."""
    random = np.random.default_rng(2)
    spoiled = []
    for x, y in parts:
        wrong = random.random(len(y)) < 0.4
        spoiled.append((x, np.where(wrong, random.integers(0, 10, len(y)), y)))
    return spoiled


def _case(sigma: float = 0.0):  # type: ignore[no-untyped-def]
    change: Change = lambda u, update: noisy(update, 1.0, sigma, int(abs(update[0]) * 1e9) + u)  # noqa: E731

    def measure(target: Target, effort: Effort) -> Measured:
        half = CLIENTS * ROWS
        parts = _spoiled(silos(CLIENTS, ROWS) + silos(CLIENTS, ROWS, start=half))
        how = {"epochs": 8, "lr": 0.3, "batch_size": 8}
        rounds = effort.of(5, 8)
        keep = change if sigma else lambda _u, update: update
        model = federate(target, WIDTHS, parts[:CLIENTS], rounds, keep, clip=4.0, **how)
        members = np.concatenate([losses(model, part) for part in parts[:CLIENTS]])
        others = np.concatenate([losses(model, part) for part in parts[CLIENTS:]])
        scores = -np.concatenate([members, others])
        positive = np.arange(2 * half) < half
        low, high = bootstrap_auc(scores, positive)
        note = f"{rounds} rounds, {half} members"
        return Measured(auc(scores, positive), low, high, "bootstrap", note)

    return measure


_RULE = Rule(bar=0.6, baseline=0.5, scope="beyond")
ATTACK = Attack(
    "membership in the final model",
    "From the loss of the final model on a record: was it trained on?",
    "Yeom et al., CSF 2018",
    "AUC",
    (
        Case("as trained", _RULE, _case()),
        Case("clip 1 + noise", _RULE, _case(0.3), control="as trained"),
    ),
)
