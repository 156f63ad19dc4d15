"""`secagg demo --engine flower`, as a user runs it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fl.demo.flower_engine import FlowerFederation
from fl.demo.result import read_result
from fl.settings import Settings
from secagg.errors import ParameterError

COMMAND = (sys.executable, "-c", "from fl.cli import main; main()", "demo", "--engine", "flower")


def processes_of(folder: Path) -> list[str]:
    """Command lines of living processes that name `folder` in what they were given."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            given = (each / "cmdline").read_bytes() + (each / "environ").read_bytes()
            state = (each / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if os.fsencode(folder) in given and state != "Z":
            found.append((each / "cmdline").read_text())
    return found


@pytest.mark.parametrize("adversary", ["semi-honest", "active"])
def test_two_rounds_with_a_killed_supernode(tmp_path: Path, adversary: str) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    out = tmp_path / "out"
    done = subprocess.run(
        [*COMMAND, "--rounds", "2", "--adversary", adversary, "--out", str(out)],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = read_result(out / "result.json")
    assert (result.engine, result.clients, "flwr" in result.versions) == ("flower", 4, True)
    assert [len(each.uploaded) for each in result.rounds] == [4, 3]
    assert [drop.stage for drop in result.rounds[1].dropped] == ["upload"]
    assert [each.max_abs_error for each in result.rounds] == [None, None]
    assert all(0 < (each.quantisation_error or 0) < 2e-6 for each in result.rounds)
    for secure, plain in zip(result.accuracy.secure, result.accuracy.plain, strict=True):
        assert abs(secure - plain) <= 0.01
    page = (out / "report.html").read_text()
    assert "The sums were not compared bit for bit" in page
    assert "bit for bit: it equals" not in page
    assert list(folder.glob("secagg-flower-*")) == []
    assert processes_of(folder) == []


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_nothing_is_left_when_it_is_stopped(tmp_path: Path, how: signal.Signals, code: int) -> None:
    run = subprocess.Popen(
        [*COMMAND, "--quiet", "--out", str(tmp_path / "out")],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    end = time.monotonic() + 60
    while not list(tmp_path.glob("secagg-flower-*/supernode-4")) and time.monotonic() < end:
        time.sleep(0.2)
    time.sleep(1)
    assert len(processes_of(tmp_path)) > 5
    run.send_signal(how)
    assert run.wait(timeout=60) == code
    assert run.stderr is not None
    assert (b"no process is left" in run.stderr.read()) == (how == signal.SIGINT)
    run.stderr.close()
    assert list(tmp_path.glob("secagg-flower-*")) == []
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"drops": {"share": 1}}, "write --drop upload=K"),
        ({"revives": {"upload": 1}}, "write --drop upload=K"),
        ({"drops": {"upload": 2}}, "drop at most 1"),
    ],
)
def test_what_it_does_not_do_is_refused(settings: dict, sentence: str) -> None:
    with (
        pytest.raises(ParameterError, match=sentence),
        FlowerFederation(Settings(data="opt", rounds=3, **settings)),
    ):
        pass
