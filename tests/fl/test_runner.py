"""Federations of real processes that are really killed."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
from msgspec.structs import replace

from fl.runner.events import (
    AloneEnded,
    Answered,
    Event,
    Lost,
    Rejoined,
    Revived,
    RoundEnded,
    StageStarted,
    TrainingBegan,
    Trouble,
)
from fl.runner.federation import Federation
from fl.runner.frames import Stop
from fl.runner.pool import Gone, Pool, RunnerError
from fl.settings import Settings
from protocols.base import Parameters


def federate(settings: Settings) -> Iterator[Event]:
    with Pool(settings, observed=True) as pool:
        yield from Federation(settings, pool, observed=True).rounds()


def ended(settings: Settings) -> list[RoundEnded]:
    return [event for event in federate(settings) if isinstance(event, RoundEnded)]


@pytest.mark.parametrize("stage", ["advertise", "share", "upload", "unmask"])
def test_clients_killed_at_a_stage_do_not_change_the_sum_of_the_others(stage: str) -> None:
    settings = Settings(data="opt", rounds=2, drops={stage: 1}, suite="X25519")
    first, second = ended(settings)
    assert first.result is not None
    assert second.result is not None
    assert first.result.dropped == {}
    assert set(second.result.dropped.values()) == {stage}
    assert len(second.result.contributors) == (4 if stage == "unmask" else 3)
    for each in (first, second):
        assert each.verdict is not None
        assert each.verdict.max_abs_error == 0
        assert each.metrics.accuracy == pytest.approx(each.verdict.plain_accuracy, abs=0.007)


def test_a_killed_client_is_a_process_that_ended_by_sigkill_and_comes_back_as_another() -> None:
    settings = Settings(data="opt", rounds=3, drops={"share": 1}, suite="X25519")
    pids: dict[int, list[int]] = {}
    lost: list[Lost] = []
    for event in federate(settings):
        if isinstance(event, Rejoined):
            pids.setdefault(event.client, []).append(event.pid)
        if isinstance(event, Lost):
            lost.append(event)
            with pytest.raises(ProcessLookupError):
                os.kill(pids[event.client][-1], 0)
    (victim,) = lost
    assert victim.killed
    assert len(set(pids[victim.client])) == 2
    assert os.getpid() not in {pid for each in pids.values() for pid in each}


def test_too_few_answers_abort_the_round_and_keep_the_model() -> None:
    """Two of four are killed by hand while the server waits for uploads."""
    settings = Settings(data="opt", rounds=2, drops={"advertise": 1}, suite="X25519", rejoin=False)
    with Pool(settings, observed=True) as pool:
        federation = Federation(settings, pool, observed=True)
        ends: list[RoundEnded] = []
        for event in federation.rounds():
            if isinstance(event, StageStarted) and event.stage == "upload" and not ends:
                os.kill(pool.pid(1), signal.SIGKILL)
                os.kill(pool.pid(2), signal.SIGKILL)
            if isinstance(event, RoundEnded):
                ends.append(event)
    aborted, good = ends
    assert aborted.result is None
    assert "only 2 clients uploaded, fewer than 3" in aborted.reason
    assert good.result is not None
    assert len(good.result.contributors) == 3


def test_sigkill_at_any_moment_ends_in_the_exact_sum_or_an_abort() -> None:
    """A thread kills processes at random times, so also in the middle of a stage."""
    settings = Settings(data="digits", clients=9, rounds=10, suite="X25519")
    chance = random.Random(7)  # noqa: S311 - when to kill, not what to mask
    with Pool(settings, observed=True) as pool:
        federation = Federation(settings, pool, observed=True)
        over = threading.Event()

        def kill_at_random() -> None:
            while not over.wait(chance.uniform(0.01, 0.1)):
                victims = sorted(pool.alive)
                with suppress(KeyError, ProcessLookupError):  # gone in the meantime
                    if len(victims) > 5:
                        os.kill(pool.pid(chance.choice(victims)), signal.SIGKILL)

        killer = threading.Thread(target=kill_at_random)
        killer.start()
        try:
            events = list(federation.rounds())
        finally:
            over.set()
            killer.join()
    ends = [event for event in events if isinstance(event, RoundEnded)]
    assert len(ends) == 10 or "at stage unmask" in ends[-1].reason  # its updates are spent
    assert sum(isinstance(event, Lost) for event in events) > 1
    for each in ends:
        assert each.verdict is not None
        assert each.verdict.max_abs_error == 0
        assert (each.result is None) == bool(each.reason)


def test_the_alone_baseline_scores_every_client() -> None:
    settings = Settings(data="opt", rounds=10, suite="X25519")
    with Pool(settings, observed=False) as pool:
        federation = Federation(settings, pool)
        rounds = [e for e in federation.rounds() if isinstance(e, RoundEnded)]
        scores = [e for e in federation.alone() if isinstance(e, AloneEnded)]
        assert federation.evidence() is None
        with pytest.raises(RunnerError, match="no observer"):
            pool.ask_observer(Stop(), Stop)
    assert rounds[0].verdict is None
    assert sorted(s.client for s in scores) == [1, 2, 3, 4]
    assert all(0.5 < s.accuracy < 0.85 for s in scores)


def test_the_plain_protocol_runs_on_the_same_runner_in_one_message() -> None:
    settings = Settings(data="opt", rounds=2, protocol="plain", drops={"upload": 1})
    first, second = ended(settings)
    assert first.result is not None
    assert second.result is not None
    assert set(second.result.dropped.values()) == {"upload"}
    assert second.verdict is not None
    assert second.verdict.max_abs_error == 0
    assert set(first.stage_seconds) == {"upload"}


def test_bytes_on_the_wire_are_as_promised() -> None:
    """At most 4 bytes a value, and 0.5 kB (X25519) or 3 kB (hybrid) a neighbour."""
    for suite, per_neighbour in (("X25519", 500), ("MLKEM768-X25519", 3000)):
        settings = Settings(data="digits", clients=8, rounds=1, suite=suite)
        (only,) = ended(settings)
        assert only.result is not None
        size = 4 * (64 * 128 + 128 + 128 * 10 + 10)
        assert max(only.sent_bytes.values()) <= size + 7 * per_neighbour


def test_leaving_the_pool_leaves_no_process() -> None:
    settings = Settings(data="opt", rounds=1, suite="X25519")
    with Pool(settings, observed=True) as pool:
        pool.ensure((1, 2))
        pids = [pool.pid(1), pool.pid(2)]
        assert pool.ensure((1, 2)) == ()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_dead_client_is_heard_as_gone() -> None:
    settings = Settings(data="opt", rounds=1, suite="X25519")
    with Pool(settings, observed=False) as pool:
        pool.ensure((1,))
        os.kill(pool.pid(1), signal.SIGKILL)
        deadline = time.monotonic() + 10
        heard = None
        while heard is None and time.monotonic() < deadline:
            heard = pool.hear(0.2)
        assert heard == (1, Gone(1))
        assert pool.alive == frozenset()
        pool.tell(1, Stop())  # nobody hears it, and nothing breaks


def test_same_seed_same_federation() -> None:
    """Accuracies repeat: keys are fresh, and what they mask is not."""
    settings = Settings(data="opt", rounds=2, suite="X25519", drops={"upload": 1})
    runs = [[e.metrics.accuracy for e in ended(settings)] for _ in range(2)]
    assert np.abs(np.subtract(*runs)).max() <= 0.007


def test_answers_are_counted_once_a_client_and_stage() -> None:
    settings = Settings(data="opt", rounds=1, suite="X25519")
    answers = [(e.client, e.stage) for e in federate(settings) if isinstance(e, Answered)]
    assert len(answers) == len(set(answers)) == 16


def test_a_client_that_hangs_is_ended_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fl.runner.federation.STAGE_DEADLINE", 12.0)
    settings = Settings(data="opt", rounds=2, suite="X25519", drops={"advertise": 1})
    with Pool(settings, observed=True) as pool:
        federation = Federation(settings, pool, observed=True)
        events: list[Event] = []
        for event in federation.rounds():
            events.append(event)
            started = StageStarted("upload")
            if event == started and events.count(started) == 1:
                os.kill(pool.pid(2), signal.SIGSTOP)
    first, second = (e for e in events if isinstance(e, RoundEnded))
    assert first.result is not None
    assert first.result.dropped == {2: "upload"}
    assert Lost(2, "upload", killed=False) in events
    assert second.result is not None
    assert 2 in second.result.contributors or second.result.dropped == {2: "advertise"}


def test_after_a_round_that_fails_with_its_updates_spent_nothing_follows() -> None:
    settings = Settings(data="opt", rounds=3, suite="X25519", drops={"advertise": 1}, rejoin=False)
    with Pool(settings, observed=True) as pool:
        federation = Federation(settings, pool, observed=True)
        events: list[Event] = []
        for event in federation.rounds():
            events.append(event)
            if event == StageStarted("unmask"):
                for who in (1, 2):
                    os.kill(pool.pid(who), signal.SIGKILL)
    (only,) = (event for event in events if isinstance(event, RoundEnded))
    assert only.result is None
    assert "only 2 clients answered the unmask request, fewer than 3" in only.reason


@pytest.mark.parametrize("protocol", ["masking", "lattice", "committee", "ckks", "bfv"])
def test_a_client_refuses_to_train_a_model_whose_update_is_spent(protocol: str) -> None:
    """The server asks for a second sum over the same model: the client sits it out."""
    settings = Settings(data="opt", protocol=protocol, rounds=1, suite="X25519")
    with Pool(settings, observed=False) as pool:
        federation = Federation(settings, pool)
        (first,) = (e for e in federation.rounds() if isinstance(e, RoundEnded))
        assert first.result is not None
        again = Federation(settings, pool)  # the same seed, so the same model
        events = list(again.rounds())
    assert sum(isinstance(e, Trouble) for e in events) == 4
    (second,) = (e for e in events if isinstance(e, RoundEnded))
    assert "only 0 clients" in second.reason


class InPieces(Settings):
    """Uploads of forty messages each."""

    def parameters(self, model_length: int) -> Parameters:
        whole = super().parameters(model_length)
        return replace(whole, chunk=256)


def test_ten_clients_that_upload_in_pieces_at_once_are_heard_one_after_the_other() -> None:
    ends = ended(InPieces(data="digits", clients=10, rounds=2, suite="X25519"))
    for each in ends:
        assert each.result is not None
        assert each.verdict is not None
        assert each.verdict.max_abs_error == 0
    assert len(ends[0].result.contributors) == 10


def test_a_client_uploads_once_for_a_model_and_a_round() -> None:
    """Whatever the protocol, and although no unmask answer was ever given."""
    settings = Settings(data="opt", protocol="plain", rounds=1)
    with Pool(settings, observed=False) as pool:
        (first,) = (e for e in Federation(settings, pool).rounds() if isinstance(e, RoundEnded))
        assert first.result is not None
        events = list(Federation(settings, pool).rounds())  # the same model, round and settings
    assert sum(isinstance(e, Trouble) for e in events) == 4
    (second,) = (e for e in events if isinstance(e, RoundEnded))
    assert second.result is None


def revived(events: list[Event]) -> list[tuple[int, str]]:
    return [(e.client, e.stage) for e in events if isinstance(e, Revived)]


@pytest.mark.parametrize("stage", ["advertise", "share", "upload", "unmask"])
def test_a_client_that_is_killed_once_asked_is_back_in_the_same_round(stage: str) -> None:
    """Killed at one moment or another of this stage: before it has answered, or after."""
    settings = Settings(data="opt", rounds=1, suite="X25519", revives={stage: 2})
    with Pool(settings, observed=True) as pool:
        events = list(Federation(settings, pool, observed=True).rounds())
    assert [at for _, at in revived(events)] == [stage, stage]
    (end,) = (event for event in events if isinstance(event, RoundEnded))
    assert end.result is not None
    assert end.result.contributors == (1, 2, 3, 4)
    assert not end.result.dropped
    assert end.verdict is not None
    assert end.verdict.max_abs_error == 0
    assert not [event for event in events if isinstance(event, Trouble)]


@pytest.mark.parametrize("protocol", ["plain", "lattice", "committee", "ckks", "bfv"])
def test_who_is_killed_before_its_upload_is_back_whatever_the_protocol(protocol: str) -> None:
    settings = Settings(data="opt", protocol=protocol, rounds=1, revives={"upload": 1})
    with Pool(settings, observed=True) as pool:
        events = list(Federation(settings, pool, observed=True).rounds())
    assert [at for _, at in revived(events)] == ["upload"]
    (end,) = (event for event in events if isinstance(event, RoundEnded))
    assert end.result is not None
    assert end.result.contributors == (1, 2, 3, 4)
    assert end.verdict is not None
    assert end.verdict.max_abs_error == 0


def test_a_client_that_is_killed_by_anyone_is_back_once_a_round() -> None:
    """It has begun to train when it is killed; the second time it stays away, and two are too
    few.
    """
    settings = Settings(data="opt", rounds=1, suite="X25519", drops={"advertise": 1})
    with Pool(settings, observed=True) as pool:
        federation = Federation(settings, pool, observed=True)
        events: list[Event] = []
        victim = 0
        for event in federation.rounds():
            events.append(event)
            if isinstance(event, TrainingBegan) and event.client == (victim or event.client):
                victim = event.client
                os.kill(pool.pid(victim), signal.SIGKILL)
    assert [who for who, _ in revived(events)] == [victim]
    (end,) = (event for event in events if isinstance(event, RoundEnded))
    assert end.result is None
    assert "fewer than 3" in end.reason
