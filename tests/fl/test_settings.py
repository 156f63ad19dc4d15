"""Wrong configuration is refused before anything starts, in one sentence with the way out."""

import pytest

from fl.schedule import default_script, scripted
from fl.settings import Settings
from fl.strategy import FedAvg, check_served
from secagg.errors import ParameterError, SecaggError

STAGES = ("advertise", "share", "upload", "unmask")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"data": "mnist"}, "choose one of wearables"),
        ({"protocol": "rot13"}, "choose one of bfv, ckks, committee, lattice, masking, plain"),
        ({"suite": "RSA"}, "choose one of X25519"),
        ({"clients": 1}, "needs at least 2"),
        ({"clients": 11}, "use digits"),
        ({"clients": -1}, "negative"),
        ({"rounds": -1}, "negative"),
        ({"drops": {"lunch": 1}}, "choose from advertise, share, upload, unmask"),
        ({"drops": {"upload": 0}}, "positive number"),
        ({"drops": {"upload": 3, "share": 2}}, "drop at most 4"),
        ({"protocol": "plain", "drops": {"share": 1}}, "choose from upload"),
    ],
)
def test_wrong_settings_are_refused_with_the_way_out(options: dict, says: str) -> None:
    with pytest.raises(SecaggError, match=says) as refused:
        Settings(**options)
    assert "\n" not in str(refused.value)


def test_a_strategy_that_looks_at_individuals_is_refused_under_masking() -> None:
    class Median(FedAvg):
        name = "Median"
        needs = "individuals"

    with pytest.raises(ParameterError, match="Median looks at individuals"):
        check_served(Median(), "masking")
    check_served(Median(), "plain")


def test_the_encoding_fills_the_modulus_and_holds_the_sum() -> None:
    settings = Settings()
    encoding = settings.encoding
    assert encoding.modulus_bits == 32
    top = encoding.max_weight * (2**encoding.bits - 1) * len(settings.roster)
    assert top < 2**32
    assert settings.max_weight >= settings.dataset.rows


def test_the_default_script_hits_every_stage_and_spares_enough() -> None:
    kills = default_script(STAGES, 10, 4, 12, seed=0)
    assert {k.stage for k in kills} == set(STAGES)
    for number in range(1, 13):
        now = [k for k in kills if k.round <= number < k.round + k.away]
        assert len({k.client for k in now}) <= 4
        assert len({k.client for k in kills if k.round == number}) == sum(
            k.round == number for k in kills
        )


def test_a_script_kills_as_many_as_asked_in_every_second_round() -> None:
    kills = scripted({"upload": 2, "share": 1}, STAGES, 10, 5, seed=3)
    assert [(k.round, k.stage) for k in kills] == [
        (r, s) for r in (2, 4) for s in ("share", "upload", "upload")
    ]
    assert len({k.client for k in kills if k.round == 2}) == 3


def test_the_command_names_what_was_asked_for() -> None:
    settings = Settings(data="opt", rounds=2, drops={"share": 1}, suite="X25519", seed=4)
    assert settings.command == (
        "secagg demo --data opt --protocol masking --suite X25519 --clients 4 --rounds 2 "
        "--seed 4 --drop share=1"
    )


def test_a_single_round_is_hit_too() -> None:
    assert {k.round for k in scripted({"unmask": 1}, STAGES, 3, 1, seed=0)} == {1}


def test_the_script_depends_on_the_seed_only() -> None:
    runs = [default_script(STAGES, 10, 4, 12, seed=s) for s in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_who_is_revived_is_killed_besides_those_who_are_dropped() -> None:
    settings = Settings(data="opt", drops={"upload": 1}, revives={"upload": 2, "unmask": 1})
    for number in {k.round for k in settings.kills}:
        kills = [k for k in settings.kills if k.round == number]
        assert len({k.client for k in kills}) == 4
        assert [(k.stage, k.away) for k in kills] == [
            ("upload", 1), ("upload", 0), ("upload", 0), ("unmask", 0)
        ]  # fmt: skip
    assert settings.command.endswith("--drop upload=1 --revive upload=2 --revive unmask=1")
    with pytest.raises(ParameterError, match="a round kills at most its 4 clients"):
        Settings(data="opt", revives={"upload": 5})
    with pytest.raises(ParameterError, match="has no stage 'lunch'"):
        Settings(data="opt", revives={"lunch": 1})


def test_the_default_script_shows_one_client_that_is_back_in_time() -> None:
    kills = Settings().kills
    assert [(k.round, k.stage) for k in kills if k.away == 0] == [(3, "upload")]
