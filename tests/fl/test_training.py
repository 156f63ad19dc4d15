"""Models as vectors, deterministic training, metrics, and the federations the demo shows."""

import numpy as np
import pytest
import torch

from fl.data import CATALOGUE, find, load_silo, load_test
from fl.models import build, load_vector, signature, to_vector
from fl.training import auc, configure, evaluate, macro_auc, train
from secagg.errors import ParameterError

SETTINGS = {"epochs": 2, "lr": 0.1, "batch_size": 8, "seed": 5}


@pytest.fixture(autouse=True)
def _one_thread():
    configure(threads=1)


@pytest.fixture
def records():
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 6)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int64)


def federate(name, seed=0):
    """FedAvg in clear with the catalogue's settings; in each third round a client is missing."""
    data, settings = find(name), find(name).training
    model, clients = build(data.widths, seed), range(len(data.silos))
    held = [load_silo(name, client, seed=seed) for client in clients]
    theirs = {"epochs": settings.epochs, "lr": settings.lr, "batch_size": settings.batch_size}
    state, largest = to_vector(model).astype(np.float64), 0.0
    for r in range(settings.rounds):
        total, weight = np.zeros_like(state), 0
        for client in clients:
            if r % 3 == 1 and client == r % len(data.silos):
                continue
            load_vector(model, state)
            silo = held[client]
            update = train(model, silo.x, silo.y, seed=1000 * seed + 100 * r + client, **theirs)
            largest = max(largest, float(np.abs(update).max()))
            total, weight = total + len(silo.y) * update.astype(np.float64), weight + len(silo.y)
        state += total / weight
    load_vector(model, state)
    together = evaluate(model, *load_test(name))
    alone = []
    for client in clients:
        model = build(data.widths, seed)
        theirs["epochs"] = settings.epochs * settings.rounds
        train(model, held[client].x, held[client].y, seed=client, **theirs)
        alone.append(evaluate(model, *load_test(name)))
    return together, alone, largest


@pytest.mark.parametrize(
    ("name", "accuracy", "lead"),
    [("wearables", 0.88, 0.12), ("digits", 0.93, 0.15), ("opt", 0.70, 0.01)],
)
def test_the_default_federation_beats_the_clients_alone(name, accuracy, lead):
    together, alone, largest = federate(name)
    assert together.accuracy > accuracy
    assert together.accuracy > np.mean([one.accuracy for one in alone]) + lead
    assert together.auc > np.mean([one.auc for one in alone]) + 0.03
    assert largest < 0.8 * CATALOGUE[name].training.clip


def test_a_model_depends_on_its_seed_alone():
    state = torch.random.get_rng_state()
    first, again, other = (to_vector(build((5, 4, 3), seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("widths", [(), (5,), (5, 0, 2)])
def test_impossible_models_are_refused(widths):
    with pytest.raises(ParameterError, match="widths"):
        build(widths, 0)


def test_a_vector_goes_through_a_model_unchanged():
    model = build((5, 4, 3), 0)
    vector = np.arange(5 * 4 + 4 + 4 * 3 + 3, dtype=np.float64)
    load_vector(model, vector)
    assert to_vector(model).dtype == np.float32
    np.testing.assert_array_equal(to_vector(model), vector)
    assert signature(model) == (
        ("0.weight", "float32", (4, 5)),
        ("0.bias", "float32", (4,)),
        ("2.weight", "float32", (3, 4)),
        ("2.bias", "float32", (3,)),
    )
    assert not list(model.buffers())


@pytest.mark.parametrize("vector", [np.zeros(3), np.zeros((39, 1)), np.full(39, np.nan)])
def test_a_vector_that_is_no_model_is_refused(vector):
    model = build((5, 4, 3), 0)
    with pytest.raises(ParameterError):
        load_vector(model, vector)


def test_training_is_deterministic_and_moves_the_model_by_its_update(records):
    updates = []
    for noise in range(2):
        torch.manual_seed(noise)
        model = build((6, 8, 2), 0)
        before = to_vector(model)
        updates.append(train(model, *records, **SETTINGS))
        np.testing.assert_array_equal(to_vector(model) - before, updates[-1])
    np.testing.assert_array_equal(*updates)
    other = train(build((6, 8, 2), 0), *records, **SETTINGS | {"seed": 6})
    assert (other != updates[0]).any()


def test_one_step_is_gradient_descent(records):
    x, y = records
    model = build((6, 2), 0)
    logits = torch.tensor(x) @ model[0].weight.detach().T
    errors = (torch.softmax(logits, 1) - torch.eye(2)[y]).double().numpy() / len(y)
    expected = -0.1 * np.concatenate([(errors.T @ x).ravel(), errors.sum(axis=0)])
    update = train(model, x, y, epochs=1, lr=0.1, batch_size=len(y), seed=0)
    np.testing.assert_allclose(update, expected, atol=1e-7)


def test_read_only_records_are_accepted(records):
    for array in records:
        array.flags.writeable = False
    train(build((6, 2), 0), *records, **SETTINGS)


@pytest.mark.parametrize(
    "change", [{"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"lr": float("nan")}]
)
def test_settings_that_train_nothing_are_refused(records, change):
    with pytest.raises(ParameterError, match="training needs"):
        train(build((6, 2), 0), *records, **SETTINGS | change)


def test_records_without_labels_are_refused(records):
    x, y = records
    with pytest.raises(ParameterError, match="training needs"):
        train(build((6, 2), 0), x, y[:-1], **SETTINGS)
    with pytest.raises(ParameterError, match="evaluation needs"):
        evaluate(build((6, 2), 0), x[:0], y[:0])


def test_divergence_is_refused(records):
    with pytest.raises(ParameterError, match="diverged"):
        train(build((6, 8, 2), 0), *records, **SETTINGS | {"lr": 1e38})


def test_metrics_of_a_trained_model(records):
    model = build((6, 16, 2), 0)
    train(model, *records, epochs=60, lr=0.5, batch_size=8, seed=0)
    metrics = evaluate(model, *records)
    assert metrics.accuracy > 0.95
    assert metrics.auc > 0.99
    assert 0 < metrics.loss < 0.2


def test_auc_counts_pairs_and_ties_half():
    scores = np.array([0.1, 0.4, 0.4, 0.8, 0.4])
    positive = np.array([False, True, False, True, True])
    pairs = [(p > n) + (p == n) / 2 for p in scores[positive] for n in scores[~positive]]
    assert auc(scores, positive) == pytest.approx(np.mean(pairs))


def test_macro_auc_needs_every_class_and_uses_class_1_of_two():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    assert macro_auc(scores, np.array([0, 1, 0])) == 1.0
    assert macro_auc(scores, np.array([0, 0, 0])) is None
    three = np.eye(3)
    assert macro_auc(three, np.arange(3)) == 1.0
    assert macro_auc(three, np.array([1, 2, 0])) == pytest.approx(0.25)
