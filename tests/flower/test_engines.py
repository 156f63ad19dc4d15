"""Flower's own engines: Ray, and a SuperLink with three SuperNodes of which one is killed."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "flower"
BIN = Path(sys.executable).parent
NODES = 3
PATIENCE = 400.0


def environment(home: Path) -> dict[str, str]:
    home.mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{EXAMPLE}{os.pathsep}{ROOT}",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "OMP_NUM_THREADS": "1",
    }


SIMULATION = """
from flwr.simulation import run_simulation
from wearables.client_app import app as client_app
from wearables.server_app import main
from flwr.serverapp import ServerApp
server_app = ServerApp()
@server_app.main()
def run(grid, context):
    context.run_config = {"num-server-rounds": 2, "min-nodes": 3, "lr": 0.1, "epochs": 1}
    main(grid, context)
resources = {"client_resources": {"num_cpus": 1}, "init_args": {"num_cpus": 2}}
run_simulation(server_app, client_app, num_supernodes=3, backend_config=resources)
"""


def test_two_rounds_on_ray(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SIMULATION],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    output = run.stdout + run.stderr
    assert run.returncode == 0, output[-4000:]
    assert output.count("3 of 3 nodes in the sum") == 4, output[-4000:]
    assert float(re.findall(r"accuracy ([0-9.]+)", output)[-1]) > 0.5


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Deployment:
    """A SuperLink and its SuperNodes, each the leader of a process group of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, *ports = free_ports(1 + NODES)
        self._processes: list[subprocess.Popen[Any]] = []
        self.start("superlink", "--insecure", "--port", str(self.port))
        self._wait_for_link()
        link = f"127.0.0.1:{self.port}"
        for i, port in enumerate(ports):
            config = f"partition-id={i} num-partitions={NODES}"
            options = ("--superlink", link, "--port", str(port), "--node-config", config)
            self.start("supernode", "--insecure", *options)

    def start(self, program: str, *options: str) -> None:
        name = f"{program}{len(self._processes)}"
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [BIN / f"flower-{program}", *options],
                env=environment(self.folder / name),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)

    def _wait_for_link(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.2)
        raise AssertionError("the SuperLink does not come up")

    def run(self) -> "subprocess.Popen[str]":
        env = environment(self.folder / "user")
        connection = f'address = "127.0.0.1:{self.port}"\ninsecure = true\n'
        text = f'[superlink]\ndefault = "here"\n[superlink.here]\n{connection}'
        (self.folder / "user" / "config.toml").write_text(text)
        return subprocess.Popen(
            [BIN / "flwr", "run", EXAMPLE, "here", "--stream"],
            env=env,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def kill_node(self, index: int) -> None:
        os.killpg(self._processes[1 + index].pid, signal.SIGKILL)

    def stop(self) -> None:
        for process in self._processes:
            for how in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(process.pid, how)
                    process.wait(timeout=20)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    running = Deployment(tmp_path)
    try:
        yield running
    finally:
        running.stop()


def test_a_superlink_with_three_supernodes_survives_a_killed_one(deployment: Deployment) -> None:
    """A SuperNode and its client processes are killed after the first sum. The rounds go on."""
    run = deployment.run()
    lines: list[str] = []
    end = time.monotonic() + PATIENCE
    killed = False
    assert run.stdout is not None
    try:
        for line in run.stdout:
            lines.append(line)
            if "train round, 3 of 3 nodes in the sum" in line and not killed:
                deployment.kill_node(2)
                killed = True
            if "train round, 2 of 3 nodes in the sum" in line or time.monotonic() > end:
                break
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.stdout.close()
        run.wait()
    output = "".join(lines)
    assert killed, output
    assert "2 of 3 nodes in the sum" in output, output
    assert re.search(r"node \d+ lost at stage \w+: ", output), output
