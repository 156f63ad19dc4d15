"""The demo's check of another engine: right means pass, and one step too much does not."""

import numpy as np
import pytest

from fl.demo import clear
from fl.demo.engines import with_defaults
from fl.settings import Settings
from fl.training import configure
from fl.updates import decode_sum, encode_update
from secagg.errors import ParameterError
from secagg.rng import SystemSource

SETTINGS = Settings(data="opt", rounds=1, suite="X25519")
CLIENTS = (1, 2, 4)


@pytest.fixture(scope="module")
def means() -> tuple[clear.Vector, clear.Vector, list[clear.Vector]]:
    """Before, after a round of what the clients encoded, and their updates."""
    configure(threads=1)
    before, encoding, source = clear.start(SETTINGS), SETTINGS.encoding, SystemSource()
    updates = [clear.update(SETTINGS, who, 1, before) for who in CLIENTS]
    weights = [len(clear.load_silo("opt", who - 1, clients=4).y) for who in CLIENTS]
    words = [
        encode_update(change, weight, encoding, source).words.astype(np.uint64)
        for change, weight in zip(updates, weights, strict=True)
    ]
    mean = decode_sum(np.sum(words, axis=0, dtype=np.uint64), encoding).update
    return before, (before + mean).astype(np.float32), updates


def test_the_mean_of_what_was_encoded_is_as_in_clear(means) -> None:
    before, after, _ = means
    verdict = clear.Check(SETTINGS).round(1, CLIENTS, before, after)
    assert verdict.max_abs_error is None
    assert 0 < verdict.quantisation_error < 1.5 / SETTINGS.encoding.scale
    assert verdict.plain_accuracy == clear.score(SETTINGS, after).accuracy


@pytest.mark.parametrize("wrong", ["one coordinate", "a client less", "unweighted"])
def test_another_mean_is_off(means, wrong: str) -> None:
    before, after, updates = means
    changed, clients = after.copy(), CLIENTS
    if wrong == "one coordinate":
        changed[7] += np.float32(4 / SETTINGS.encoding.scale)
    elif wrong == "a client less":
        clients = CLIENTS[:2]
    else:
        changed = (before + np.mean(updates, axis=0)).astype(np.float32)
    verdict = clear.Check(SETTINGS).round(1, clients, before, changed)
    assert verdict.max_abs_error is not None
    assert verdict.max_abs_error >= 1


def test_a_round_without_a_sum_leaves_the_model_in_clear_as_it_was(means) -> None:
    before, _, _ = means
    verdict = clear.Check(SETTINGS).round(1, (), before, before)
    assert verdict.max_abs_error is None
    assert verdict.plain_accuracy == clear.score(SETTINGS, before).accuracy


def test_engines_have_defaults_of_their_own() -> None:
    assert with_defaults("local", {"data": "", "clients": 0})["data"] == "wearables"
    with pytest.raises(ParameterError, match="choose local, flower"):
        with_defaults("ray", {"data": ""})


def test_without_flower_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fl.demo.engines.find_spec", lambda name: None)
    with pytest.raises(ParameterError, match=r"pip install 'secagg\[flower\]'"):
        with_defaults("flower", {"data": ""})


def test_on_flower_there_are_fewer_clients_and_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fl.demo.engines.find_spec", lambda name: object())
    found = with_defaults("flower", {"data": "", "clients": 0, "rounds": 5})
    assert found == {"data": "opt", "clients": 4, "rounds": 5}
