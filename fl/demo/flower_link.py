"""Flower's own programs on this machine: a SuperLink, SuperNodes and a run, and their end.

All that is started has a home of its own in a private folder, is kept from the network, and
leads a process group, so that its children end with it.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from fl.runner.pool import RunnerError

RUN = "run"
COMES_UP = 60.0
"""Seconds in which the SuperLink must listen."""
TASK_POLL = "0.2"
"""Seconds between two looks of a SuperExec for work, unless the environment says otherwise; Flower
waits one, and a process that could run waits with it. A look takes 2 to 4 ms of CPU time.
"""
PROJECT = """\
[project]
name = "{name}"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "secagg"

[tool.flwr.app.components]
serverapp = "{package}.apps:server"
clientapp = "{package}.apps:client"

[tool.flwr.app.config]
"""
CONNECTION = """\
[superlink]
default = "here"
[superlink.here]
address = "127.0.0.1:{port}"
insecure = true
"""


class LocalLink:
    """A SuperLink with a SuperNode for each of `configs`, in `home`; code: a folder that their
    apps import from, beside this project's own.

    Raises RunnerError where the SuperLink does not come up. `close` ends everything.
    """

    def __init__(self, home: Path, configs: Sequence[str], *, code: Path | None = None) -> None:
        self._home, self._code = home, code
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        try:
            self._port, *ports = _free_ports(1 + len(configs))
            self._start("superlink", "flower-superlink", "--insecure", "--port", str(self._port))
            self._wait()
            link = ("--insecure", "--superlink", f"127.0.0.1:{self._port}")
            for number, (port, config) in enumerate(zip(ports, configs, strict=True), start=1):
                node = ("--port", str(port), "--node-config", config)
                self._start(f"supernode-{number}", "flower-supernode", *link, *node)
        except BaseException:
            self.close()
            raise

    def run(self, app: Path) -> None:
        """Start the app in this folder, once."""
        config = self._home / RUN / "config.toml"
        config.parent.mkdir(exist_ok=True)
        config.write_text(CONNECTION.format(port=self._port))
        self._start(RUN, "flwr", "run", str(app), "here", "--stream")

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self._running[RUN].poll() is not None

    def said(self, name: str = RUN) -> str:
        """All that a program has printed: `run`, `superlink`, `supernode-1` and so on."""
        return (self._home / f"{name}.log").read_text(errors="replace")

    def kill_node(self, number: int) -> None:
        """SIGKILL for a SuperNode (from 1) and all the processes that it has started."""
        _kill(self._running[f"supernode-{number}"])

    def close(self) -> None:
        """End every process that was started, and wait until all are gone."""
        for process in self._running.values():
            _kill(process)
        for process in self._running.values():
            process.wait()
        self._running.clear()
        _end_all_of(self._home)

    def _start(self, name: str, program: str, *options: str) -> None:
        programs = Path(sys.executable).parent
        with (self._home / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(  # noqa: S603 - Flower's own programs
                [programs / program, *options],
                env=self._environment(name, programs),
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _environment(self, name: str, programs: Path) -> dict[str, str]:
        own = self._home / name
        own.mkdir(exist_ok=True)
        code = [self._code, Path(__file__).parents[2], os.environ.get("PYTHONPATH")]
        return {
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": TASK_POLL,
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": os.pathsep.join(str(each) for each in code if each),
            "FLWR_HOME": str(own),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "OMP_NUM_THREADS": "1",
        }

    def _wait(self) -> None:
        end = time.monotonic() + COMES_UP
        while time.monotonic() < end and self._running["superlink"].poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.1)
        raise RunnerError(f"the SuperLink does not come up: {self.said('superlink')[-500:]}")


def write_app(folder: Path, package: str, source: str) -> None:
    """A Flower app in a new folder: `source` defines its `client` and `server`."""
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").touch()
    (folder / package / "apps.py").write_text(source)
    name = package.replace("_", "-")
    (folder / "pyproject.toml").write_text(PROJECT.format(name=name, package=package))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """The whole group, if there is still somebody in it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


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
