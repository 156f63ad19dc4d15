"""The demo as a user runs it: a command, killed processes, a result and a report."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fl.demo.result import read_result

COMMAND = (sys.executable, "-c", "from fl.cli import main; main()", "demo")


def demo(*options: str, out: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    arguments = [*COMMAND, "--out", str(out), *options]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=timeout, check=False)


def test_a_folder_that_cannot_be_made_is_refused_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        done = demo(out=out)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith(f"secagg: {out} ")
        assert done.stderr.endswith("; give the name of a folder\n")
    assert (tmp_path / "file").read_text() == "kept"


@pytest.fixture(scope="module")
def default_demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The default demo, whole: ten processes, twelve rounds, both baselines."""
    out = tmp_path_factory.mktemp("demo")
    done = demo(out=out)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_every_sum_is_exact_and_every_stage_lost_somebody(default_demo: tuple[Path, str]) -> None:
    result = read_result(default_demo[0] / "result.json")
    assert len(result.rounds) == 12
    assert [each.max_abs_error for each in result.rounds] == [0] * 12
    assert {d.stage for each in result.rounds for d in each.dropped} == {
        "advertise",
        "share",
        "upload",
        "unmask",
    }
    assert any(not each.dropped for each in result.rounds[2:]), "nobody came back"


def test_secure_is_as_good_as_clear_and_better_than_alone(default_demo: tuple[Path, str]) -> None:
    accuracy = read_result(default_demo[0] / "result.json").accuracy
    for secure, plain in zip(accuracy.secure, accuracy.plain, strict=True):
        assert abs(secure - plain) <= 0.005
    assert len(accuracy.alone) == 10
    assert accuracy.secure[-1] > sum(accuracy.alone) / 10 + 0.1


def test_the_result_has_what_was_promised(default_demo: tuple[Path, str]) -> None:
    raw = json.loads((default_demo[0] / "result.json").read_text())
    assert {"protocol", "suite", "clients", "dataset", "accuracy", "rounds", "versions"} <= set(raw)
    assert {"name", "source", "licence", "rows", "silos", "sha256"} <= set(raw["dataset"])
    assert {
        "round",
        "uploaded",
        "dropped",
        "max_abs_error",
        "quantisation_error",
        "upload_bytes",
        "stage_seconds",
    } <= set(raw["rounds"][0])
    assert (raw["protocol"], raw["suite"], raw["clients"]) == ("masking", "MLKEM768-X25519", 10)
    assert raw["rounds"][0]["upload_bytes"] <= 4 * raw["model_parameters"] + 9 * 3000
    assert 0 < raw["rounds"][0]["quantisation_error"] < 1e-5


def test_the_report_stands_alone(default_demo: tuple[Path, str]) -> None:
    page = (default_demo[0] / "report.html").read_text()
    assert "wearables" in page
    assert 'src="http' not in page
    assert "<script" not in page
    assert (default_demo[0] / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_line_a_round_is_printed_where_there_is_no_terminal(
    default_demo: tuple[Path, str],
) -> None:
    assert sum(line.startswith("round ") for line in default_demo[1].splitlines()) >= 12
    assert "every sum exact" in default_demo[1].replace("\n", " ")


def test_options(tmp_path: Path) -> None:
    done = demo(
        *("--data", "opt", "--suite", "X25519", "--rounds", "2", "--seed", "5", "--quiet"),
        *("--drop", "share=1"),
        out=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    result = read_result(tmp_path / "result.json")
    assert (result.suite, result.seed, result.clients) == ("X25519", 5, 4)
    assert [d.stage for d in result.rounds[1].dropped] == ["share"]


def test_the_plain_protocol_has_a_report_too(tmp_path: Path) -> None:
    done = demo("--data", "opt", "--protocol", "plain", "--rounds", "2", "--quiet", out=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_result(tmp_path / "result.json").suite == ""
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--clients", "99"), "at most"),
        (("--data", "mnist"), "choose one of"),
        (("--drop", "upload"), "STAGE=K"),
        (("--drop", "upload=9"), "drop at most 4"),
    ],
)
def test_wrong_options_are_refused_at_once(
    options: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    done = demo(*options, out=tmp_path / "out")
    assert done.returncode == 2
    assert says in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_ctrl_c_stops_cleanly_and_leaves_no_process(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_hear_ctrl_c,  # noqa: PLW1509 - nothing else runs in between
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("round 1:"):
            break
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped" in errors
    assert "Traceback" not in errors
    deadline = time.monotonic() + 10
    while _group_is_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _group_is_alive(process.pid)


def _hear_ctrl_c() -> None:
    """A shell that runs the tests in the background has told its children to ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
