"""The demonstration attack: exact on one clear update, noise on what a server really sees."""

import numpy as np
import pytest

from fl.data import find, load_silo
from fl.inversion import (
    PSNR_CAP,
    candidates,
    closest,
    correlation,
    invert_linear,
    one_record_update,
    psnr,
)
from fl.models import build, signature, to_vector
from fl.training import configure, train
from secagg.errors import ParameterError

NAMES = ("wearables", "digits", "opt")


@pytest.fixture(autouse=True)
def _one_thread():
    configure(threads=1)


def victim(name, row=0):
    data, silo = find(name), load_silo(name, 0)
    model = build(data.widths, 0)
    return model, silo.x[row], silo.y[row], data.training.lr


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("row", range(5))
def test_one_record_is_recovered_exactly(name, row):
    model, x, y, lr = victim(name, row)
    before = to_vector(model)
    guess = invert_linear(one_record_update(model, x, y, lr), signature(model))
    assert correlation(x, guess) > 0.999999
    assert psnr(x, guess) > 60
    np.testing.assert_array_equal(to_vector(model), before)


@pytest.mark.parametrize("name", NAMES)
def test_a_masked_upload_yields_nothing_but_finite_noise(name):
    model, x, _, _ = victim(name)
    random = np.random.default_rng(1)
    for _ in range(10):
        masked = random.integers(0, 2**32, len(to_vector(model)), dtype=np.uint64).astype(float)
        guess = invert_linear(masked, signature(model))
        assert np.isfinite(guess).all()
        assert abs(correlation(x, guess)) < 0.6
        assert psnr(x, guess) < 20


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -np.inf, 1e308, 5e-324])
def test_any_garbage_gives_something_finite(value):
    model = build((6, 4, 2), 0)
    garbage = np.full(len(to_vector(model)), value)
    garbage[24:28] = [1e-300, 0.0, -value, 1.0]
    guesses = candidates(garbage, signature(model))
    assert guesses.shape == (4, 6)
    assert np.isfinite(guesses).all()
    assert np.isfinite(invert_linear(garbage, signature(model))).all()
    match = closest(guesses, np.ones((2, 6)))
    assert np.isfinite([match.correlation, match.psnr]).all()


@pytest.mark.parametrize(("name", "least"), [("wearables", 0.8), ("digits", 0.99), ("opt", 0.6)])
def test_a_whole_fedavg_update_still_leaks_a_record(name, least):
    # Several epochs over hundreds of records: a unit that only one record excites gives that
    # record away all the same. A masked update stays far below.
    data, silo = find(name), load_silo(name, 0)
    settings, model = data.training, build(data.widths, 0)
    update = train(
        model,
        silo.x,
        silo.y,
        epochs=settings.epochs,
        lr=settings.lr,
        batch_size=settings.batch_size,
        seed=0,
    )
    noise = np.random.default_rng(0).uniform(-1, 1, len(update))
    clear = closest(candidates(update, signature(model)), silo.x)
    masked = closest(candidates(noise, signature(model)), silo.x)
    assert clear.correlation > least
    assert clear.correlation > masked.correlation + 0.2


def test_wrong_lengths_and_models_are_refused():
    model = build((6, 4, 2), 0)
    with pytest.raises(ParameterError, match="shape"):
        invert_linear(np.zeros(5), signature(model))
    with pytest.raises(ParameterError, match="linear layer and bias"):
        invert_linear(np.zeros(6), (("0.weight", "float32", (2, 3)),))
    convolution = (("0.weight", "float32", (2, 1, 3)), ("0.bias", "float32", (2,)))
    with pytest.raises(ParameterError, match="linear layer and bias"):
        invert_linear(np.zeros(8), convolution)


def test_measures():
    x = np.array([0.0, 1.0, 2.0])
    assert psnr(x, x) == PSNR_CAP
    assert psnr(x, x + 0.2) == pytest.approx(20)
    assert correlation(x, 5 * x - 3) == pytest.approx(1)
    assert correlation(x, -x) == pytest.approx(-1)
    assert correlation(x, np.ones(3)) == 0
    match = closest(np.array([[3.0, 1.0, 2.0], [0.0, 2.0, 4.0]]), np.array([[9.0, 1.0, 1.0], x]))
    assert (match.unit, match.record) == (1, 1)
    assert match.correlation == pytest.approx(1)
