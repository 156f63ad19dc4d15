"""Federations with a key holder, which is a process of its own and can be killed as well."""

import os
import signal

import pytest

from fl.runner.events import (
    Answered,
    Event,
    Lost,
    Rejoined,
    RoundEnded,
    RoundStarted,
    StageStarted,
)
from fl.runner.federation import Federation
from fl.runner.pool import Pool
from fl.settings import Settings

HOLDER = 5


def settings_of(protocol: str, **options) -> Settings:
    return Settings(data="opt", protocol=protocol, suite="X25519", **options)


@pytest.mark.parametrize("protocol", ["ckks", "bfv"])
def test_a_federation_with_a_key_holder_gives_exact_sums_although_clients_are_killed(
    protocol: str,
) -> None:
    settings = settings_of(protocol, rounds=2, drops={"upload": 1})
    with Pool(settings, observed=True) as pool:
        events = list(Federation(settings, pool, observed=True).rounds())
    ends = [event for event in events if isinstance(event, RoundEnded)]
    assert [len(each.result.contributors) for each in ends] == [4, 3]
    assert set(ends[1].result.dropped.values()) == {"upload"}
    assert all(each.verdict.max_abs_error == 0 for each in ends)
    pids = {event.client: event.pid for event in events if isinstance(event, Rejoined)}
    assert set(pids) == {1, 2, 3, 4, HOLDER}
    assert len({*pids.values(), os.getpid()}) == 6
    spoke = [(e.client, e.stage) for e in events if isinstance(e, Answered) and e.client == HOLDER]
    assert spoke == [(HOLDER, "join"), (HOLDER, "open")] * 2


@pytest.mark.parametrize(
    ("before", "rounds"),
    [(RoundStarted(1, (1, 2, 3, 4)), 2), (StageStarted("open"), 1)],
    ids=["join", "open"],
)
def test_without_the_key_holder_the_round_ends_and_names_it(before: Event, rounds: int) -> None:
    """Killed while it opens, the sum may be known to it: no other sum of the same updates."""
    settings = settings_of("bfv", rounds=2)
    with Pool(settings, observed=False) as pool:
        federation = Federation(settings, pool)
        ends: list[RoundEnded] = []
        lost: list[Lost] = []
        for event in federation.rounds():
            if event == before and not ends:  # before it is told anything of this stage
                os.kill(pool.pid(HOLDER), signal.SIGKILL)
            if isinstance(event, RoundEnded):
                ends.append(event)
            if isinstance(event, Lost):
                lost.append(event)
    assert lost[0].client == HOLDER
    assert ends[0].result is None
    assert f"(parties {HOLDER})" in ends[0].reason
    assert len(ends) == rounds
    assert all(each.result is not None for each in ends[1:])


def test_helpers_are_named_and_the_plain_protocol_has_none() -> None:
    assert settings_of("ckks").helpers == {HOLDER: "key holder"}
    assert settings_of("ckks").name_of(HOLDER) == "key holder"
    assert settings_of("ckks").name_of(1) == "client 1"
    assert Settings(data="opt", protocol="plain").helpers == {}
