"""The demo on Flower: a SuperLink and its SuperNodes, started, watched and ended by the command.

What they tell (fl.demo.flower_app) becomes the local demo's events. There is no auditor: the
baselines and the check of each mean are computed here, by training again what was trained.
"""

import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fl.data import load_silo
from fl.demo import clear
from fl.demo.flower_app import LINES, AnyLine, Asked, Ended, Evidence, Line, Plan, Said, Trains
from fl.demo.flower_link import LocalLink, write_app
from fl.round import model_bytes, model_vector
from fl.runner.events import (
    AloneEnded,
    Answered,
    Event,
    Lost,
    RoundEnded,
    RoundStarted,
    Seen,
    StageStarted,
    TrainingBegan,
)
from fl.runner.frames import ClearUpdate
from fl.runner.membership import enroll
from fl.runner.pool import RunnerError
from fl.schedule import Kill, scripted
from fl.settings import Settings
from fl.training import configure
from protocols.base import Result
from secagg.errors import ParameterError

SILENCE = 240.0
"""Seconds without a line after which the run is given up."""
APP = """\
from fl.demo.flower_app import Plan, client_app, server_app

PLAN = {plan!r}
client = client_app(PLAN)
server = server_app(PLAN)
"""


class FlowerFederation:
    """The rounds of `settings` on Flower. A context manager: on leaving, every process is ended.

    Raises ParameterError for what this demo does not do on Flower.
    """

    def __init__(self, settings: Settings) -> None:
        configure(threads=1)
        self.settings = settings
        self.model = clear.start(settings)
        self._kills = _kills(settings)
        self._check = clear.Check(settings)
        self._folder = tempfile.TemporaryDirectory(prefix="secagg-flower-")
        self._home = Path(self._folder.name)
        self._link: LocalLink | None = None
        self._numbers: dict[int, int] = {}
        self._alive = set(range(1, len(settings.roster) + 1))
        self._upload: Evidence | None = None
        self._sent: Counter[int] = Counter()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "FlowerFederation":
        for each in (signal.SIGTERM, signal.SIGHUP):  # groups of their own would outlive us
            self._before[each] = signal.signal(each, _leave)
        try:
            if self.settings.signed:
                self._enroll()
            self._plan.protection.parameters(len(self.settings.roster), 1)
            write_app(self._home / "app", "secagg_demo", APP.format(plan=self._plan))
            self._link = LocalLink(self._home, [self._config(who) for who in self._parties])
            self._link.run(self._home / "app")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def rounds(self) -> Iterator[Event]:
        """All rounds, as they happen."""
        number, stage = 1, ""
        yield RoundStarted(number, tuple(sorted(self._alive)))
        for line in self._lines():
            match line:
                case Asked():
                    self._numbers[line.node] = line.client
                    if line.stage != stage:
                        stage = line.stage
                        yield StageStarted(stage)
                case Said():
                    self._sent[line.client] += line.bytes
                    yield Answered(line.client, line.stage, line.bytes)
                case Trains():
                    yield TrainingBegan(line.client)
                    yield from self._kill(line)
                case Evidence():
                    self._upload = line
                case Ended():
                    yield self._ended(line)
                    number += 1
                    if number > self.settings.total_rounds:
                        return
                    yield RoundStarted(number, tuple(sorted(self._alive)))

    def alone(self) -> Iterator[Event]:
        """The baseline: every client by itself, trained here."""
        for who in range(1, len(self.settings.roster) + 1):
            score = clear.alone(self.settings, who, self.settings.total_rounds)
            yield AloneEnded(who, score.accuracy, score.auc)

    def evidence(self) -> Seen | None:
        """One client's first update, trained again here, and its upload as it was sent."""
        if self._upload is None:
            return None
        who, settings = self._upload.client, self.settings
        change = clear.update(settings, who, 1, clear.start(settings))
        silo = load_silo(settings.data, who - 1, seed=settings.seed, clients=len(settings.roster))
        records = silo.x.astype("<f4").tobytes()
        return Seen(ClearUpdate(who, model_bytes(change), records), self._upload.upload)

    def _kill(self, line: Trains) -> Iterator[Event]:
        """The scripted victim in the middle of its training: its SuperNode and its process."""
        if any((k.client, k.round) == (line.client, line.round) for k in self._kills):
            self._started.kill_node(line.client)
            self._alive.discard(line.client)
            yield Lost(line.client, "upload", killed=True)

    def _ended(self, line: Ended) -> RoundEnded:
        """The server's word, and what training the same here says of it."""
        before, self.model = self.model, model_vector(line.model)
        there = tuple(sorted(self._numbers[node] for node in line.survivors))
        everyone = range(1, len(self.settings.roster) + 1)
        lost = {self._numbers[n]: stage for n, stage in line.lost.items() if n in self._numbers}
        first = self.settings.stages[0]
        dropped = {who: lost.get(who, first) for who in everyone if who not in there}
        result = Result(np.zeros(0, np.uint32), there, dropped) if there else None
        verdict = self._check.round(line.round, there, before, self.model)
        metrics, sent = clear.score(self.settings, self.model), dict(self._sent)
        self._sent.clear()
        return RoundEnded(line.round, result, line.aborted, metrics, verdict, sent, line.seconds)

    def _lines(self) -> Iterator[Line]:
        """Each line as it is written. RunnerError where the run ends, or nothing happens."""
        path, decoder, heard = self._home / LINES, msgspec.json.Decoder(AnyLine), time.monotonic()
        path.touch(mode=0o600)
        with path.open("rb") as file:
            rest = b""
            while True:
                over = self._started.over
                *whole, rest = (rest + file.read()).split(b"\n")
                for each in whole:
                    heard = time.monotonic()
                    yield decoder.decode(each)
                if not whole and (over or time.monotonic() - heard > SILENCE):
                    raise RunnerError(f"the run on Flower ended early: {self._last_words()}")
                time.sleep(0.1)

    def _last_words(self) -> str:
        text = self._started.said().strip()
        return " / ".join(text.splitlines()[-6:]) or "it said nothing"

    @property
    def _started(self) -> LocalLink:
        if self._link is None:
            raise RunnerError("enter the federation first: with FlowerFederation(settings) as …")
        return self._link

    @property
    def _parties(self) -> tuple[int, ...]:
        """Each has a SuperNode: clients, then helpers, as they are numbered."""
        return (*range(1, len(self.settings.roster) + 1), *self.settings.helpers)

    def _enroll(self) -> None:
        """An identity for each client, and the roster of them."""
        files = tuple(self._plan.identity_file(who) for who in sorted(self._alive))
        enroll(self.settings.roster, self._plan.roster_file, files)

    def _config(self, who: int) -> str:
        role = ' secagg-role="helper"' if who in self.settings.helpers else ""
        return f"partition-id={who - 1}{role}"

    @cached_property
    def _plan(self) -> Plan:
        s, victims = self.settings, tuple(kill.client for kill in self._kills)
        return Plan(
            folder=str(self._home),
            data=s.data,
            protocol=s.protocol,
            suite=s.used_suite,
            adversary=s.adversary,
            clients=len(s.roster),
            rounds=s.total_rounds,
            seed=s.seed,
            clip=s.dataset.training.clip,
            max_weight=s.max_weight,
            victims=victims,
            killing=self._kills[0].round,
        )

    def _end(self) -> None:
        """Every process that was started, and the folder."""
        if self._link is not None:
            self._link.close()
        self._folder.cleanup()
        for each, handler in self._before.items():
            signal.signal(each, handler)


def flower_version() -> str:
    """Of the Flower that is installed."""
    return version("flwr")


def _kills(settings: Settings) -> tuple[Kill, ...]:
    """Once, in the second round, while they train. Raises ParameterError for other scripts."""
    if settings.revives or set(settings.drops) - {"upload"}:
        raise ParameterError(
            "on Flower the demo kills SuperNodes while they train, for good; write --drop upload=K"
        )
    drops, n = settings.drops or {"upload": 1}, len(settings.roster)
    replace(settings, drops=drops)  # checks that enough are left
    first = min(2, settings.total_rounds)
    script = scripted(drops, settings.stages, n, settings.total_rounds, settings.seed)
    return tuple(kill for kill in script if kill.round == first)


def _leave(number: int, _frame: object) -> None:
    sys.exit(128 + number)
