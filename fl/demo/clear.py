"""The federation's training in clear and in memory: by itself, and for who checks another engine.

Training is deterministic, so the same client, round and model give the same update here and in
whatever process trained before.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fl.data import load_silo, load_test
from fl.models import Vector, build, load_vector, to_vector
from fl.round import training_seed
from fl.runner.frames import Verdict
from fl.settings import Settings
from fl.training import Metrics, evaluate, train

Model = NDArray[np.float64]
FLOAT32 = 2.0**-22
"""How far a few roundings to float32 take a value of a model, relative to its largest."""


def start(settings: Settings) -> Vector:
    """The model (d,) that the first round begins with."""
    return to_vector(build(settings.dataset.widths, settings.seed))


def trained(settings: Settings, client: int, number: int, model: NDArray[np.floating]) -> Vector:
    """What `client` makes of `model` (d,) in round `number`."""
    silo = load_silo(settings.data, client - 1, seed=settings.seed, clients=len(settings.roster))
    config, network = settings.round_config(number), build(settings.dataset.widths, settings.seed)
    load_vector(network, model)
    train(
        network,
        silo.x,
        silo.y,
        epochs=config.epochs,
        lr=config.lr,
        batch_size=config.batch_size,
        seed=training_seed(config, client),
    )
    return to_vector(network)


def update(settings: Settings, client: int, number: int, model: NDArray[np.floating]) -> Vector:
    """The change (d,) that `client` makes to `model` in round `number`."""
    change: Vector = trained(settings, client, number, model) - model.astype(np.float32)
    return change


def score(settings: Settings, model: NDArray[np.floating]) -> Metrics:
    """Of `model` (d,) on the public test set."""
    network = build(settings.dataset.widths, settings.seed)
    load_vector(network, model)
    return evaluate(network, *load_test(settings.data, clients=len(settings.roster)))


def alone(settings: Settings, client: int, rounds: int) -> Metrics:
    """Of a client that trains by itself for as many rounds."""
    model = start(settings)
    for number in range(1, rounds + 1):
        model = trained(settings, client, number, model)
    return score(settings, model)


class Check:
    """The same federation without protection, and each secure mean against that in floats."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._plain: Model = start(settings).astype(np.float64)

    def round(self, number: int, clients: Sequence[int], before: Vector, after: Vector) -> Verdict:
        """Train again what `clients` trained from `before` (d,), average, compare with `after`.

        The sum itself is not seen: `max_abs_error` is None where the mean is as near as rounding
        allows, and else by how many steps it is off.
        """
        error, steps, clipped = 0.0, None, 0
        if clients:
            encoding = self._settings.encoding
            changes = [update(self._settings, who, number, before) for who in clients]
            clipped = sum(int((np.abs(each) > encoding.clip).sum()) for each in changes)
            wanted = self._mean(
                clients, [np.clip(c, -encoding.clip, encoding.clip) for c in changes]
            )
            got = after.astype(np.float64) - before.astype(np.float64)
            error = float(np.abs(got - wanted).max())
            off = (error - FLOAT32 * max(1.0, float(np.abs(after).max()))) * encoding.scale
            steps = int(np.ceil(off)) if off > 1 else None
            model = self._plain.astype(np.float32)
            plain = [update(self._settings, who, number, model) for who in clients]
            mean = self._mean(clients, plain)
            self._plain = self._settings.strategy.next_model(self._plain, mean)
        metrics = score(self._settings, self._plain)
        return Verdict(number, steps, error, clipped, metrics.accuracy, metrics.auc)

    def _mean(self, clients: Sequence[int], changes: Sequence[Vector]) -> Model:
        """Weighted by the clients' numbers of records."""
        settings, n = self._settings, len(self._settings.roster)
        weights = [
            len(load_silo(settings.data, who - 1, seed=settings.seed, clients=n).y)
            for who in clients
        ]
        mean: Model = np.average(np.stack(changes).astype(np.float64), axis=0, weights=weights)
        return mean
