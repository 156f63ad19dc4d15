"""The demo on Flower: a SuperLink and its SuperNodes, started, watched and ended by the command.

What they tell (fl.demo.flower_app) becomes the local demo's events. There is no auditor: the
baselines and the check of each mean are computed here, by training again what was trained.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fl.data import load_silo
from fl.demo import clear
from fl.demo.flower_app import LINES, AnyLine, Asked, Ended, Evidence, Line, Plan, Said, Trains
from fl.round import model_bytes, model_vector
from fl.runner.federation import (
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
PROJECT = """\
[project]
name = "secagg-demo"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "secagg"

[tool.flwr.app.components]
serverapp = "secagg_demo.apps:server"
clientapp = "secagg_demo.apps:client"

[tool.flwr.app.config]
"""
CONNECTION = """\
[superlink]
default = "demo"
[superlink.demo]
address = "127.0.0.1:{port}"
insecure = true
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
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._numbers: dict[int, int] = {}
        self._alive = set(range(1, len(settings.roster) + 1))
        self._upload: Evidence | None = None
        self._tally = _Tally()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "FlowerFederation":
        for each in (signal.SIGTERM, signal.SIGHUP):  # groups of their own would outlive us
            self._before[each] = signal.signal(each, _leave)
        try:
            self._plan.protection.parameters(len(self.settings.roster), 1)
            self._write_app()
            parties = (*sorted(self._alive), *self.settings.helpers)
            port, *ports = _free_ports(1 + len(parties))
            self._start("superlink", "flower-superlink", "--insecure", "--port", str(port))
            self._wait_for_link(port)
            for who, own in zip(parties, ports, strict=True):
                where = ("--superlink", f"127.0.0.1:{port}", "--port", str(own))
                role = ' secagg-role="helper"' if who in self.settings.helpers else ""
                node = (*where, "--node-config", f"partition-id={who - 1}{role}")
                self._start(f"supernode-{who}", "flower-supernode", "--insecure", *node)
            config = self._home / "run" / "config.toml"
            config.parent.mkdir()
            config.write_text(CONNECTION.format(port=port))
            self._start("run", "flwr", "run", str(self._home / "app"), "demo", "--stream")
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
                    self._tally.bytes[line.client] = (
                        self._tally.bytes.get(line.client, 0) + line.bytes
                    )
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
            _signal(self._running[f"supernode-{line.client}"], signal.SIGKILL)
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
        metrics, sent = clear.score(self.settings, self.model), self._tally.bytes
        self._tally = _Tally()
        return RoundEnded(line.round, result, line.aborted, metrics, verdict, sent, line.seconds)

    def _lines(self) -> Iterator[Line]:
        """Each line as it is written. RunnerError where the run ends, or nothing happens."""
        path, decoder, heard = self._home / LINES, msgspec.json.Decoder(AnyLine), time.monotonic()
        path.touch(mode=0o600)
        with path.open("rb") as file:
            rest = b""
            while True:
                over = self._running["run"].poll() is not None
                *whole, rest = (rest + file.read()).split(b"\n")
                for each in whole:
                    heard = time.monotonic()
                    yield decoder.decode(each)
                if not whole and (over or time.monotonic() - heard > SILENCE):
                    raise RunnerError(f"the run on Flower ended early: {self._last_words()}")
                time.sleep(0.1)

    def _last_words(self) -> str:
        text = (self._home / "run.log").read_text(errors="replace").strip()
        return " / ".join(text.splitlines()[-6:]) or "it said nothing"

    @cached_property
    def _plan(self) -> Plan:
        s, victims = self.settings, tuple(kill.client for kill in self._kills)
        killing = self._kills[0].round
        n, rounds = len(s.roster), s.total_rounds
        where = str(self._home)
        return Plan(where, s.data, s.protocol, s.suite, n, rounds, s.seed, victims, killing)

    def _write_app(self) -> None:
        package = self._home / "app" / "secagg_demo"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "apps.py").write_text(APP.format(plan=self._plan))
        (package.parent / "pyproject.toml").write_text(PROJECT)

    def _start(self, name: str, program: str, *options: str) -> None:
        """A process that leads a group of its own, so that its children end with it."""
        programs = Path(sys.executable).parent
        with (self._home / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(  # noqa: S603 - Flower's own programs
                [programs / program, *options],
                env=_environment(self._home / name, programs),
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait_for_link(self, port: int) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and self._running["superlink"].poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        log = (self._home / "superlink.log").read_text(errors="replace")[-500:]
        raise RunnerError(f"the SuperLink does not come up: {log}")

    def _end(self) -> None:
        """Every group that was started, and the folder."""
        for process in self._running.values():
            _signal(process, signal.SIGKILL)
        for process in self._running.values():
            process.wait()
        self._running.clear()
        _end_all_of(self._home)
        self._folder.cleanup()
        for each, handler in self._before.items():
            signal.signal(each, handler)


@dataclass
class _Tally:
    """Protocol bytes that each client sent in this round."""

    bytes: dict[int, int] = field(default_factory=dict)


def flower_version() -> str:
    """Of the Flower that is installed."""
    return version("flwr")


def _kills(settings: Settings) -> tuple[Kill, ...]:
    """Once, in the second round, while they train. Raises ParameterError for other scripts."""
    if settings.signed:
        raise ParameterError(
            "the demo on Flower has no active mode; leave out --adversary, or --engine flower"
        )
    if settings.revives or set(settings.drops) - {"upload"}:
        raise ParameterError(
            "on Flower the demo kills SuperNodes while they train, for good; write --drop upload=K"
        )
    drops, n = settings.drops or {"upload": 1}, len(settings.roster)
    replace(settings, drops=drops)  # checks that enough are left
    first = min(2, settings.total_rounds)
    script = scripted(drops, settings.stages, n, settings.total_rounds, settings.seed)
    return tuple(kill for kill in script if kill.round == first)


def _environment(home: Path, programs: Path) -> dict[str, str]:
    home.mkdir(exist_ok=True)
    root = Path(__file__).parents[2]
    return {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "OMP_NUM_THREADS": "1",
    }


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _end_all_of(home: Path) -> None:
    """Flower starts some processes in groups of their own, which end late: end them now.

    They are known by the private folder in their environment, where the system shows it.
    """
    mark, end = b"FLWR_HOME=" + os.fsencode(home) + b"/", time.monotonic() + 10
    while (found := list(_processes_with(mark))) and time.monotonic() < end:
        for each in found:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        time.sleep(0.05)


def _processes_with(mark: bytes) -> Iterator[int]:
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # another user's, or gone
            if mark in (each / "environ").read_bytes():
                yield int(each.name)


def _leave(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """To the whole group, if there is still somebody in it."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
