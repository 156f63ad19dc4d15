"""The processes of clients and helpers: started, heard, killed, and started again.

Processes come from a fork server that has imported everything once, so a new one is up in
milliseconds, and inherits nothing from the server's process.
"""

import multiprocessing as mp
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any

from fl.runner import client, helper, observer
from fl.runner.frames import Failed, Ready, ServerToObserver, Stop, receive, send
from fl.runner.mailbox import Line, Mailbox
from fl.runner.membership import Membership, enroll
from fl.settings import Settings
from secagg.codec import Value
from secagg.errors import SecaggError

START_PATIENCE = 60.0
STOP_PATIENCE = 2.0


class RunnerError(SecaggError):
    """A process of the federation could not be started or did not answer."""

    code = "runner"


class ProcessEndedError(RunnerError):
    """A process ended where it should have answered."""

    def __init__(self, name: str, exit_code: int) -> None:
        super().__init__(f"the process of {name} ended with exit code {exit_code}")
        self.signalled = exit_code < 0


@dataclass(frozen=True)
class Gone:
    """A client's process has ended, whatever the reason."""

    client: int


@dataclass
class _Process:
    process: BaseProcess
    pipe: Connection
    line: Line | None = None


class Pool:
    """All processes beside the server's own. Use it as a context manager: it leaves none."""

    def __init__(self, settings: Settings, *, observed: bool) -> None:
        self._settings = settings
        self._observed = observed
        self._context: Any = mp.get_context("forkserver")
        self._context.set_forkserver_preload(["fl.runner.preload"])
        self._folder = tempfile.TemporaryDirectory(prefix="secagg-")
        self._mailbox = Mailbox()
        self._clients: dict[int, _Process] = {}
        self._observer: _Process | None = None

    def __enter__(self) -> "Pool":
        if self._settings.signed:
            everyone = range(1, len(self._settings.roster) + 1)
            identities = tuple(self._identity(who) for who in everyone)
            enroll(self._settings.roster, self.roster, identities)
        if self._observed:
            self._observer = self._launch(observer.main, self._settings, self._address)
            self._expect(self._observer, Stop, "the observer")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._observer:
            with suppress(OSError):
                send(self._observer.pipe, Stop())
            self._end(self._observer, STOP_PATIENCE)
        for each in self._clients.values():
            self._tell(each, Stop())
        for each in self._clients.values():
            self._end(each, STOP_PATIENCE)
        self._folder.cleanup()

    @property
    def alive(self) -> frozenset[int]:
        """The clients and helpers that have a process."""
        return frozenset(self._clients)

    def ensure(self, clients: Iterable[int]) -> tuple[int, ...]:
        """Start a process for each of these clients and helpers that has none; returns who is up.

        One that is killed before it is up is not. Raises RunnerError where one cannot start.
        """
        started = tuple(who for who in clients if who not in self._clients)
        for who in started:
            self._clients[who] = self._start(who)
        return tuple(who for who in started if self._is_up(who))

    def _start(self, who: int) -> _Process:
        journal = self.file(f"party-{who}.sqlite")
        if who in self._settings.helpers:
            return self._launch(helper.main, helper.HelperConfig(who, self._settings, journal))
        address = self._address if self._observed else None
        members = Membership(self._identity(who), self.roster) if self._settings.signed else None
        config = client.ClientConfig(who, self._settings, journal, members, address)
        return self._launch(client.main, config)

    def _is_up(self, who: int) -> bool:
        try:
            frame = self._expect(self._clients[who], Ready | Failed, self._settings.name_of(who))
        except ProcessEndedError as error:
            self.kill(who)
            if error.signalled:
                return False
            raise
        if isinstance(frame, Failed):
            raise RunnerError(f"{self._settings.name_of(who)} cannot start: {frame.reason}")
        self._clients[who].line = self._mailbox.open(self._clients[who].pipe)
        return True

    def kill(self, who: int) -> None:
        """SIGKILL: the process has no chance to say or keep anything."""
        gone = self._clients.pop(who)
        gone.process.kill()
        self._end(gone, None)

    def pid(self, who: int) -> int:
        """The process number of a living client."""
        return self._clients[who].process.pid or 0

    def tell(self, who: int, frame: Value) -> None:
        """Send a frame to a client, without waiting for it to read."""
        if who in self._clients:
            self._tell(self._clients[who], frame)

    def hear(self, timeout: float, only: frozenset[int] = frozenset()) -> tuple[int, Any] | None:
        """What one client said within `timeout` seconds: (client, frame), or (client, Gone).

        With `only`, the others wait, unless none of those is alive.
        """
        heard = (only & self.alive) or self.alive
        numbers = {self._clients[who].pipe: who for who in heard}
        taken = self._mailbox.take(numbers.keys(), timeout)
        if taken is None:
            return None
        who, frame = numbers[taken[0]], taken[1]
        if frame is Line.ENDED:
            self.kill(who)
            return who, Gone(who)
        return who, frame

    def ask_observer(self, frame: ServerToObserver, kind: Any) -> Any:
        """Send the observer a frame and wait for its answer. Raises RunnerError."""
        if self._observer is None:
            raise RunnerError("this federation has no observer; start it with observed=True")
        send(self._observer.pipe, frame)
        return self._expect(self._observer, kind, "the observer")

    def file(self, name: str) -> Path:
        """A file in this federation's private folder, which goes when the pool is left."""
        return Path(self._folder.name) / name

    def _identity(self, who: int) -> Path:
        return self.file(f"party-{who}.pem")

    @property
    def roster(self) -> Path:
        """The roster file of a federation whose members sign."""
        return self.file("roster.json")

    @property
    def _address(self) -> Path:
        return self.file("observer")

    def _launch(self, main: Any, *arguments: Any) -> _Process:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=main, args=(*arguments, theirs), daemon=True)
        try:
            process.start()
        except (EOFError, OSError) as error:
            raise RunnerError(f"no process can be started: {error or 'see above'}") from None
        theirs.close()
        return _Process(process, ours)

    def _tell(self, each: _Process, frame: Value) -> None:
        if each.line:
            each.line.tell(frame)

    def _end(self, each: _Process, patience: float | None) -> None:
        """Wait for a process to end, kill it if it does not, and close its pipe."""
        each.process.join(patience)
        each.process.kill()
        each.process.join()
        if each.line:
            each.line.close()
        else:
            each.pipe.close()

    def _expect(self, each: _Process, kind: Any, name: str) -> Any:
        if not each.pipe.poll(START_PATIENCE):
            raise RunnerError(f"{name} did not answer within {START_PATIENCE:.0f} s")
        try:
            return receive(each.pipe, kind)
        except (EOFError, OSError):
            each.process.join()
            raise ProcessEndedError(name, each.process.exitcode or 0) from None
