"""Flower's own engines: Ray, and a SuperLink with three SuperNodes of which one is killed."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fl.demo.flower_link import LocalLink

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "flower"
NODES = 3
PATIENCE = 400.0


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
    own = {"PYTHONPATH": f"{EXAMPLE}{os.pathsep}{ROOT}", "FLWR_HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", SIMULATION],
        env={**os.environ, **own, "FLWR_TELEMETRY_ENABLED": "0", "OMP_NUM_THREADS": "1"},
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


@pytest.fixture
def link(tmp_path: Path) -> Iterator[LocalLink]:
    configs = [f"partition-id={i} num-partitions={NODES}" for i in range(NODES)]
    running = LocalLink(tmp_path, configs, code=EXAMPLE)
    try:
        yield running
    finally:
        running.close()


def wait_for(link: LocalLink, words: str) -> str:
    """What the run has said, once it has said these words."""
    end = time.monotonic() + PATIENCE
    while words not in (output := link.said()):
        assert not link.over, output
        assert time.monotonic() < end, output
        time.sleep(0.2)
    return output


def test_a_superlink_with_three_supernodes_survives_a_killed_one(link: LocalLink) -> None:
    """A SuperNode and its client processes are killed after the first sum. The rounds go on."""
    link.run(EXAMPLE)
    wait_for(link, "train round, 3 of 3 nodes in the sum")
    link.kill_node(3)
    output = wait_for(link, "train round, 2 of 3 nodes in the sum")
    assert re.search(r"node \d+ lost at stage \w+: ", output), output
