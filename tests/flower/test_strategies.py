"""Flower's own strategies over five rounds: how far the protection may move the model.

A client's update is rounded by less than one integer, so a round's mean is off by less than
(survivors / sum of weights) quantisation steps. Floats add their own rounding, with protection
or without. What a strategy makes of both over the rounds follows from its constants and from
the run without protection: `bounds` is that proof, and no tolerance was found by trying.
"""

import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import fixedclipping_mod
from flwr.serverapp import strategy as flower
from numpy.typing import NDArray

from fl.flower import Protection, SecureGrid, secure, secure_mod, values
from fl.flower.protection import METRIC_BITS
from fl.updates import Mean, decode_sum
from secagg.encoding import FixedPoint
from secagg.errors import ProtocolAborted
from tests.flower.support import NODES, PATIENCE, FakeGrid, Fault

Floats = NDArray[np.float64]
Model = dict[str, Floats]

ROUNDS = 5
HALF = 8  # of an array's coordinates
EPSILONS = {"single": 2.0**-23, "double": 2.0**-52}
RATE = 0.1  # of the way to its own target that a client goes in a round
WEIGHTS = {node: 10 * node for node in NODES}
EVERYBODY = {"min_available_nodes": 5, "min_train_nodes": 5, "min_evaluate_nodes": 5}
CLIPPED = flower.DifferentialPrivacyClientSideFixedClipping

STRATEGIES: dict[str, Callable[[], Any]] = {
    "FedAvg": lambda: flower.FedAvg(**EVERYBODY),
    "FedProx": lambda: flower.FedProx(proximal_mu=0.5, **EVERYBODY),
    "FedAvgM": lambda: flower.FedAvgM(server_momentum=0.9, **EVERYBODY),  # 0 would be FedAvg
    "FedAdam": lambda: flower.FedAdam(**EVERYBODY),
    "FedYogi": lambda: flower.FedYogi(**EVERYBODY),
    "FedAdagrad": lambda: flower.FedAdagrad(**EVERYBODY),
    "clipping": lambda: CLIPPED(flower.FedAvg(**EVERYBODY), 1.0, 0.1, len(NODES)),
}

LOSSES = {
    1: {(33, "share"): Fault.ERROR},
    2: {(11, "upload"): Fault.LOSE_REPLY},
    4: {(22, "upload"): Fault.RESTART, (44, "upload"): Fault.ERROR},
}
CRASH = (2, 55)  # the round and the node in which the app itself fails while it trains

# --- what is trained -----------------------------------------------------------------------


def target(node: int) -> Floats:
    """Where a node's training leads; the first half: where everybody's does."""
    common = np.random.default_rng(0).uniform(-0.25, 0.25, HALF)
    return np.concatenate([common, np.random.default_rng(node).uniform(-0.25, 0.25, HALF)])


def mean_target(nodes: tuple[int, ...]) -> Floats:
    return np.average([target(n) for n in nodes], axis=0, weights=[WEIGHTS[n] for n in nodes])


def start() -> ArrayRecord:
    """From 1e-8 to 0.3 away from everybody's target: updates far below tau, and far above."""
    away = np.tile(np.geomspace(1e-8, 0.3, HALF), 2)
    first = (mean_target(NODES) + away).reshape(2, HALF)
    return ArrayRecord({"single": Array(first.astype(np.float32)), "double": Array(first)})


def learner(name: str, *mods: Any, crashes: bool) -> ClientApp:
    """An app for the strategy `name`: it goes towards its target, less far with FedProx."""
    app = ClientApp(mods=list(mods))

    @app.train(mods=[fixedclipping_mod] if name == "clipping" else [])
    def train(message: Message, context: Context) -> Message:
        config, node = message.content["config"], context.node_id
        if crashes and (config["server-round"], node) == CRASH:
            raise RuntimeError("out of memory")
        rate = RATE / (1 + config.get("proximal-mu", 0.0))
        arrays = {}
        for key, array in message.content["arrays"].items():
            old = array.numpy()
            new = old + rate * (target(node).reshape(old.shape) - old)
            arrays[key] = Array(np.asarray(new, old.dtype))
        metrics = {"loss": 1 / node, "by-class": [0.5, node / 100], "num-examples": WEIGHTS[node]}
        content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord(metrics)})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        mean = float(message.content["arrays"]["double"].numpy().mean())
        metrics = {"off": mean - context.node_id, "num-examples": WEIGHTS[context.node_id]}
        return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)

    return app


# --- a run ---------------------------------------------------------------------------------


@dataclass
class Run:
    """Models, and the strategy's m and v: after each round, the start first."""

    models: list[Model]
    states: list[list[Model]]
    result: Any


def run(strategy: Any, inner: FakeGrid, grid: Any, losses: Mapping[int, Any]) -> Run:
    models: list[Model] = []
    states: list[list[Model]] = []

    def between(number: int, arrays: ArrayRecord) -> None:
        inner.now += 1000.0  # whoever owes an answer owes it no longer
        inner.faults = dict(losses.get(number + 1, {}))
        models.append(flat({name: array.numpy() for name, array in arrays.items()}))
        nothing = {name: x * 0 for name, x in models[0].items()}
        states.append([flat(getattr(strategy, each, None) or nothing) for each in ("m_t", "v_t")])

    result = strategy.start(grid, start(), num_rounds=ROUNDS, evaluate_fn=between)
    return Run(models, states, result)


def flat(arrays: Mapping[str, Any]) -> Model:
    return {name: array.astype(np.float64).ravel() for name, array in arrays.items()}


def run_protected(name: str, shared: Protection, dropouts: bool) -> tuple[Run, SecureGrid]:
    strategy = STRATEGIES[name]()
    inner = FakeGrid({n: learner(name, secure_mod(shared), crashes=dropouts) for n in NODES})
    grid = secure(strategy, inner, shared, patience=PATIENCE, clock=inner.clock)
    np.random.seed(6)  # the wrapper's noise
    return run(strategy, inner, grid, LOSSES if dropouts else {}), grid


def run_unprotected(name: str, dropouts: bool) -> tuple[Any, Run]:
    """The same nodes lost in the same rounds, as Flower would report them."""
    strategy, kinds = STRATEGIES[name](), ("train", "evaluate")
    inner = FakeGrid({n: learner(name, crashes=dropouts) for n in NODES})
    losses = {r: {(n, kind): Fault.ERROR for n, _ in LOSSES[r] for kind in kinds} for r in LOSSES}
    np.random.seed(6)
    return strategy, run(strategy, inner, inner, losses if dropouts else {})


def survivors(number: int, dropouts: bool) -> tuple[int, ...]:
    lost = {node for node, _ in LOSSES.get(number, {})} | {n for r, n in [CRASH] if r == number}
    return tuple(node for node in NODES if not dropouts or node not in lost)


# --- the bound -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Off:
    """Most that two runs differ: in the model x, in the momentum m, in the second moment v."""

    x: Floats
    m: Floats
    v: Floats


@dataclass(frozen=True)
class Round:
    """A round of the run without protection, and how far off the mean may be.

    change: the mean update; m, v: the strategy's after the round, and v before it; quantum: off
    by the encoding; ulps: by the floats of both runs. A client maps x to x + RATE (target - x),
    so means differ by no more than models do, and mean updates by no more than RATE times that.
    """

    number: int
    change: Floats
    m: Floats
    v: Floats
    v_before: Floats
    quantum: float
    ulps: float = 0.0

    @property
    def step(self) -> float:
        return self.quantum + self.ulps


def averaged(strategy: Any, off: Off, at: Round) -> Off:
    return replace(off, x=off.x + at.step)


def with_momentum(strategy: Any, off: Off, at: Round) -> Off:
    m = strategy.server_momentum * off.m + RATE * off.x + at.step
    return replace(off, m=m, x=off.x + strategy.server_learning_rate * m + at.ulps)


def clipped(strategy: Any, off: Off, at: Round) -> Off:
    """x + P(RATE (target - x)), P the projection on a ball, maps no two x further apart, in the
    norm of all coordinates of both arrays.
    """
    return replace(off, x=off.x + at.step * np.sqrt(2 * off.x.size))


def adaptive(strategy: Any, off: Off, at: Round) -> Off:
    """x + eta m / (sqrt(v) + tau), with another v for each strategy."""
    update = RATE * off.x + at.step
    square, more = at.change**2, (2 * np.abs(at.change) + update) * update
    m = strategy.beta_1 * off.m + (1 - strategy.beta_1) * update + at.ulps
    v = SECOND_MOMENTS[type(strategy)](strategy, off.v, at.v_before, square, more)
    v = v + at.ulps * (at.v + square)  # v rounds in proportion to its own size
    root = np.sqrt(at.v) + strategy.tau
    least = np.sqrt(np.maximum(at.v - v, 0)) + strategy.tau
    ratio = m / least + np.abs(at.m) * (root - least) / (least * root)
    return Off(off.x + learning_rate(strategy, at.number) * ratio + at.ulps, m, v)


def learning_rate(strategy: Any, number: int) -> float:
    """Flower corrects the bias of FedAdam only."""
    one, two = (1 - beta ** (number + 1) for beta in (strategy.beta_1, strategy.beta_2))
    return float(strategy.eta * (np.sqrt(two) / one if type(strategy) is flower.FedAdam else 1))


def adam(strategy: Any, off: Floats, v: Floats, square: Floats, more: Floats) -> Floats:
    return strategy.beta_2 * off + (1 - strategy.beta_2) * more


def adagrad(strategy: Any, off: Floats, v: Floats, square: Floats, more: Floats) -> Floats:
    return off + more


def yogi(strategy: Any, off: Floats, v: Floats, square: Floats, more: Floats) -> Floats:
    """v - (1 - beta_2) square sign(v - square): it jumps where the sign may be the other."""
    jump = np.where(np.abs(v - square) <= off + more, 2 * square + more, 0)
    return off + (1 - strategy.beta_2) * (more + jump)


SECOND_MOMENTS = {flower.FedAdam: adam, flower.FedAdagrad: adagrad, flower.FedYogi: yogi}
GROWTH = {
    flower.FedAvg: averaged,
    flower.FedProx: averaged,
    flower.FedAvgM: with_momentum,
    CLIPPED: clipped,
    **dict.fromkeys(SECOND_MOMENTS, adaptive),
}


def bounds(
    strategy: Any, plain: Run, array: str, shared: Protection, dropouts: bool, eps: float
) -> list[Floats]:
    """Most that the coordinates of `array` are off after each round, in floats of this `eps`."""
    zeros = np.zeros(plain.models[0][array].size)
    off, found = Off(zeros, zeros, zeros), []
    for number in range(1, ROUNDS + 1):
        at = the_round(strategy, plain, array, number, survivors(number, dropouts))
        at = replace(at, quantum=at.quantum * step_of(shared), ulps=ulps(eps))
        if used(strategy, number, dropouts):
            off = GROWTH[type(strategy)](strategy, off, at)
        found.append(off.x)
    return found


def the_round(strategy: Any, plain: Run, array: str, number: int, there: tuple[int, ...]) -> Round:
    """`quantum` in steps."""
    (_, before), (m, v) = plain.states[number - 1 : number + 1]
    rate = RATE / (1 + getattr(strategy, "proximal_mu", 0.0))
    change = rate * (mean_target(there) - plain.models[number - 1][array])
    quantum = len(there) / sum(WEIGHTS[node] for node in there)
    return Round(number, change, m[array], v[array], before[array], quantum)


def step_of(shared: Protection) -> float:
    """The quantisation step: what one integer is worth for a client of weight 1."""
    return shared.clip / shared.encoding(len(NODES)).scale


def ulps(eps: float) -> float:
    """Rounding of both runs, of numbers within ±1. In each, a mean of n replies takes a product,
    a weight and a sum for each, and training, encoding and decoding, or a line of the strategy,
    take fewer than 20 operations more; each is off by eps / 2.
    """
    return 2 * (3 * len(NODES) + 20) * eps / 2


def used(strategy: Any, number: int, dropouts: bool) -> bool:
    """The wrapper takes no round with errors."""
    return survivors(number, dropouts) == NODES or not isinstance(strategy, CLIPPED)


# --- the tests -----------------------------------------------------------------------------


def masking(bits: int = 32, **options: Any) -> Protection:
    """The defaults, with the suite that takes less time."""
    return Protection(options={"suite": "X25519", **options}, modulus_bits=bits)


STEP = step_of(masking())
CASES = [*((name, 32) for name in STRATEGIES), ("FedAdagrad", 64)]
BOTH = pytest.mark.parametrize("dropouts", [False, True], ids=["all stay", "dropouts"])


def check_same(name: str, shared: Protection, dropouts: bool) -> Run:
    """The same nodes in the sums, and the same models and metrics after every round."""
    strategy, plain = run_unprotected(name, dropouts)
    ours, grid = run_protected(name, shared, dropouts)
    reports = (each for each in grid.rounds if each.kind == "train")
    for number, report in enumerate(reports, 1):
        in_use = used(strategy, number, dropouts)
        assert report.survivors == (survivors(number, dropouts) if in_use else ())
        assert (report.clipped or 0.0) < 1e-9
    check_models(strategy, ours, plain, shared, dropouts)
    check_metrics(ours, plain, {n for n in range(1, ROUNDS + 1) if used(strategy, n, dropouts)})
    return plain


def check_models(strategy: Any, ours: Run, plain: Run, shared: Protection, dropouts: bool) -> None:
    norm = isinstance(strategy, CLIPPED)
    for array, eps in EPSILONS.items():
        worst = max(EPSILONS.values()) if norm else eps  # of the arrays that have a part in it
        limits = bounds(strategy, plain, array, shared, dropouts, worst)
        for number, limit in enumerate(limits, 1):
            mine, other = ours.models[number], plain.models[number]
            assert np.abs(other[array]).max() < 0.9
            apart = np.abs(mine[array] - other[array])
            if norm:
                apart = np.linalg.norm([mine[each] - other[each] for each in EPSILONS])
            assert (apart <= limit).all(), f"{array} is too far in round {number}"


def check_metrics(ours: Run, plain: Run, trained: set[int]) -> None:
    """To 48 bits of their range. That of the evaluation is no further off than the model is."""
    precision = 2 * Protection().metric_range / 2**METRIC_BITS
    for kind in ("train", "evaluate"):
        mine, other = (getattr(each.result, f"{kind}_metrics_clientapp") for each in (ours, plain))
        # where rounds need everybody, a node that restarted is missing in an evaluation as well
        exact = kind == "train" or len(trained) == ROUNDS
        assert set(mine) == trained if exact else set(mine) <= trained
        for number, metrics in mine.items():
            assert set(metrics) == set(other[number])
            off = np.abs(ours.models[number]["double"] - plain.models[number]["double"]).max()
            atol = precision + off * (kind == "evaluate")
            for key, value in metrics.items():
                np.testing.assert_allclose(value, other[number][key], rtol=0, atol=atol)


@BOTH
@pytest.mark.parametrize(("name", "bits"), CASES)
def test_five_rounds_give_the_model_that_they_give_unprotected(
    name: str, bits: int, dropouts: bool
) -> None:
    shared = masking(bits, **({"floor": 5} if name == "clipping" else {}))  # see the last test
    plain = check_same(name, shared, dropouts)
    exact = bounds(STRATEGIES[name](), plain, "double", shared, dropouts, eps=0.0)
    within_a_step = all((limit <= STEP).all() for limit in exact)
    assert within_a_step == ((name, bits) != ("FedAdagrad", 32))


@BOTH
def test_so_they_do_with_lattice(dropouts: bool) -> None:
    check_same("FedAvg", Protection(protocol="lattice"), dropouts)


@pytest.mark.parametrize("steps", [4, -4])
@pytest.mark.parametrize(("name", "bits"), CASES)
def test_a_mean_that_is_four_steps_off_is_noticed(
    name: str, bits: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, in the third round."""
    calls = itertools.count(1)

    def decode(total: Any, encoding: FixedPoint) -> Mean:
        mean = decode_sum(total, encoding)
        if next(calls) == 5:  # training and evaluation of two rounds were before
            mean.update[: 4 * HALF] += steps / encoding.scale
        return mean

    monkeypatch.setattr(values, "decode_sum", decode)
    with pytest.raises(AssertionError, match="too far in round 3"):
        check_same(name, Protection(protocol="plain", modulus_bits=bits), dropouts=False)


def test_fedadagrad_multiplies_small_differences_protected_or_not() -> None:
    """Far below tau, in each round, by eta / tau: float32 does as much with nodes in another
    order, and the bound for 32 bits is no idle one.
    """
    models = []
    for seed in range(2):
        random.seed(seed)
        models.append(run_unprotected("FedAdagrad", dropouts=False)[1].models[-1])
    models.append(run_protected("FedAdagrad", Protection("plain"), dropouts=False)[0].models[-1])
    first, reordered, protected = models
    assert np.abs(first["single"] - reordered["single"]).max() > STEP
    assert np.abs(first["double"] - reordered["double"]).max() < STEP / 1000
    assert np.abs(first["double"] - protected["double"]).max() > STEP


def test_a_wrapper_that_drops_rounds_with_errors_needs_everybody_in_the_sum() -> None:
    """Else it would ask for a second sum over the model whose first sum it did not take."""
    with pytest.raises(ProtocolAborted, match="start again from another model"):
        run_protected("clipping", masking(), dropouts=True)
