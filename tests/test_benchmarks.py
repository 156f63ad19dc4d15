"""Each line of the benchmark in its smallest size: who is compared computes the same."""

import json
import re
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks import (
    ckks,
    flower,
    he,
    lattice,
    machine,
    masks,
    memory,
    page,
    rounds,
    scale,
    sharing,
    speed,
    vectors,
)
from benchmarks.cli import bench
from benchmarks.measure import DifferentResultsError, Line, Row, close, run, same, timed
from benchmarks.targets import TARGETS, Target, seconds
from protocols.base import MAX_OPEN_BYTES, Received, RoundClosed
from protocols.masking.parameters import CHUNK
from protocols.masking.server import Server
from secagg.errors import LocalError, ParameterError

KINDS = ("whole round, 30 clients", "active mode, d=100000", "active mode, d=1000000")
SUITES = ("X25519", "MLKEM768-X25519")
KEYS = {"name", "params", "ours_s", "limit_s", "peers", "bytes_per_param"}

LINES = {
    "copy": lambda: machine.memory_copy(1 << 12),
    "masks": lambda: masks.masks(1000, 3, 32, 1),
    "masks on threads": lambda: masks.masks(100_000, 3, 32, 2),
    "wide masks": lambda: masks.masks(1000, 3, 64, 1),
    "pack": lambda: vectors.packed(70_001, 20),
    "unpack": lambda: vectors.unpacked(70_001, 20),
    "sum": lambda: vectors.running_sum(70_001, 20),
    "encode": lambda: vectors.encode(70_001),
    "decode": lambda: vectors.decode(70_001),
    "derivations": lambda: vectors.derivations(30),
    "deal": lambda: sharing.deal(5, 3),
    "reconstruct": lambda: sharing.reconstruct(5, 3, 4),
    "seal and open, hybrid": lambda: sharing.sealing(rounds.HYBRID, 2),
    "seal and open": lambda: sharing.sealing(rounds.CLASSIC, 2),
    "signatures": lambda: sharing.verify(9),
    "client": lambda: rounds.client_round(100, 4),
    "recovery": lambda: rounds.recovery(100, 10, 0.3),
    "recovery without dropouts": lambda: rounds.recovery(100, 10, 0.0),
    "client, X25519": lambda: rounds.client_round(100, 4, rounds.CLASSIC),
    "round": lambda: rounds.whole_round(100, 5, 1, rounds.HYBRID),
    "round, X25519": lambda: rounds.whole_round(100, 5, 1, rounds.CLASSIC),
    "active round": lambda: rounds.active_round(100, 5, 1, rounds.HYBRID),
    "active round, X25519": lambda: rounds.active_round(100, 5, 1, rounds.CLASSIC),
    "complete client": lambda: rounds.complete_client(100, 6),
    "active bytes": lambda: rounds.active_bytes(5, rounds.CLASSIC, "ML-DSA-65"),
    "ckks": lambda: ckks.sums(5000, 3),
    "ckks client": lambda: he.client_upload("ckks", 5000, 3),
    "bfv client": lambda: he.client_upload("bfv", 5000, 3),
    "transform": lambda: lattice.transform(1024),
    "transform, AVX2": lambda: lattice.transform_avx2(1024),
    "noise": lambda: lattice.noise(1000),
    "lattice": lambda: lattice.encryption(5000),
    "lattice server": lambda: lattice.server_addition(5000),
    "committee": lambda: lattice.one_message(100, 3),
    "lattice recovery": lambda: lattice.recovery(100, 5, 0.2),
    "lattice recovery, k-regular": lambda: lattice.recovery(100, 60, 0.2, "k-regular"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_compares_equal_results(name: str) -> None:
    line = LINES[name]()
    row = run(line, repeats=1, budget=0)
    assert row.ours_s > 0
    assert row.peers.keys() == line.peers.keys()
    assert all(value > 0 for value in row.peers.values())
    assert (row.limit_s is None) == (line.limit is None)


@pytest.mark.filterwarnings("default")
def test_lines_with_processes_and_training() -> None:
    federation = pytest.importorskip("benchmarks.federation")
    assert run(federation.large_model(3, 32, 2), 1, 0).peers["one epoch of training"] > 0
    assert run(federation.cold_start(), 1, 0).limit_s
    row = run(federation.demo_round("digits", 3), 1, 0)
    assert row.peers["in clear"] > 0
    longer = federation.demo_round("digits", 3, 20)
    try:
        assert longer.name == "demo, one round, 20 epochs"
        assert longer.ours() > 0
    finally:
        longer.close()


@pytest.mark.skipif(not flower.available(), reason="flwr is not installed")
def test_flower_sums_the_same() -> None:
    assert "Flower SecAgg+" in rounds.whole_round(50, 5, 1, rounds.CLASSIC).peers


def test_different_results_are_not_timed() -> None:
    def differ() -> None:
        same(np.zeros(2), np.ones(2), "two vectors")

    closed = []
    line = Line("broken", {}, timed(lambda: None), differ, close=lambda: closed.append(True))
    with pytest.raises(DifferentResultsError, match="two vectors"):
        run(line, 1, 0)
    assert closed
    with pytest.raises(DifferentResultsError):
        close(np.zeros(2), np.ones(2), 0.5, "two vectors")


def test_a_line_is_interleaved_and_stops_when_its_time_is_up() -> None:
    turns: list[str] = []

    def contestant(name: str):
        return lambda: float(turns.append(name) or 1)

    line = Line(
        "order",
        {},
        contestant("ours"),
        lambda: None,
        {"peer": contestant("peer")},
        contestant("limit"),
    )
    assert run(line, 2, 10).params["repeats"] == 2
    assert turns == ["ours", "peer", "limit"] * 2
    assert run(line, 5, 0).params["repeats"] == 1


def test_the_file_has_exactly_the_promised_keys(tmp_path: Path) -> None:
    rows = [run(LINES[name](), 1, 0) for name in ("copy", "masks", "pack")]
    speed.write(rows, tmp_path / "rows.json")
    entries = json.loads((tmp_path / "rows.json").read_text())
    assert all(entry.keys() == KEYS for entry in entries)
    assert speed.read(tmp_path / "rows.json") == rows


def test_the_plan_names_the_lines_it_makes() -> None:
    full, quick = speed.plan("full"), speed.plan("quick")
    assert [each.name for each in full] == [each.name for each in quick]
    assert {target.line for target in TARGETS} <= {each.name for each in full}
    for each in full[:2]:
        assert each.make().name == each.name
    assert speed.skipped(full, "full") == []
    left_out = speed.skipped(quick, "quick")
    assert {f"{kind}, {suite}" for kind in KINDS for suite in SUITES} <= set(left_out)


def test_recovery_of_lattice_takes_the_answers_within_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every survivor's answer is handled while the clock runs, and the graph is named."""
    line = lattice.recovery(100, 60, 0.2)
    heard = []
    handle = Server.handle
    monkeypatch.setattr(Server, "handle", lambda s, e: heard.append(e) or handle(s, e))
    assert line.ours() > 0
    answers = [each for each in heard if isinstance(each, Received)]
    assert len(answers) == 48 == len({each.sender for each in answers})
    assert isinstance(heard[-1], RoundClosed)
    assert (line.params["graph"], line.params["neighbours"]) == ("complete", 59)
    assert line.params["suite"] == "X25519"
    regular = lattice.recovery(100, 60, 0.2, "k-regular")
    assert regular.params["graph"] == "k-regular"
    assert regular.params["neighbours"] < 59


def test_active_mode_counts_the_bytes_of_real_messages() -> None:
    counts = {
        scheme: rounds.active_bytes(5, rounds.CLASSIC, scheme).params
        for scheme in rounds.SIGNATURES
    }
    semi = {each["semi_honest_bytes"] for each in counts.values()}
    assert len(semi) == 1
    assert semi.pop() < counts["Ed25519"]["bytes"] < counts["ML-DSA-65"]["bytes"]
    assert counts["ML-DSA-65"]["bytes"] - counts["Ed25519"]["bytes"] > 5 * (3309 - 64)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_cuts_nothing_off(width: int) -> None:
    params = {"d": 1_000_000, "clients": 1000, "dropped": 300, "threshold": 501}
    name = "whole round, 30 clients, MLKEM768-X25519"
    rows = [Row(name, params, 1.5, 0.75, {"Flower SecAgg+, serialised": 7.5}, None)]
    console = Console(width=width, record=True, file=StringIO())
    speed.show(rows, ["another line"], console)
    shown = console.export_text()
    assert "…" not in shown
    words = ("d=1000000,", "clients=1000,", "dropped=300,", "threshold=501", "serialised", "7.5 s")
    for word in (*words, "MLKEM768-X25519", "50%", "5×"):
        assert word in shown


FILES = {
    "speed": ("--json",),
    "scale": ("--json",),
    "memory": ("--json",),
    "security": ("--json", "--out"),
}


@pytest.mark.parametrize(
    ("command", "option"), [(c, o) for c, every in FILES.items() for o in every]
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(
    command: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for work in ("speed.measure", "scale.measure", "memory.peak_of", "security.suite.run"):
        monkeypatch.setattr(f"benchmarks.{work}", lambda *_, **__: pytest.fail("measured"))
    (tmp_path / "file").touch()
    for path, reason in (
        (tmp_path / "file" / "x", "is a file|cannot be written"),
        (tmp_path / "none" / "x", "there is no folder"),
        (
            tmp_path if option == "--json" else tmp_path / "file",
            "is a (folder|file); give the name",
        ),
    ):
        if option == "--out" and path.parent.name == "none":
            continue  # a folder is made, with those above it
        done = CliRunner().invoke(bench, [command, "--quick", option, str(path)])
        assert isinstance(done.exception, LocalError), done.output
        assert re.search(reason, str(done.exception))
        assert sorted(each.name for each in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize("command", ["speed", "security"])
def test_a_name_that_nothing_has_is_refused_with_the_names_there_are(command: str) -> None:
    done = CliRunner().invoke(bench, [command, "--quick", "--only", "nothing like it"])
    assert isinstance(done.exception, ParameterError), done.output
    known = {"speed": "NTT, 4096 points", "security": "weak mask seeds"}[command]
    assert "'nothing like it'" in str(done.exception)
    assert known in str(done.exception)


def test_a_target_says_whether_it_is_met() -> None:
    counts = {"bytes": 500, "semi_honest_bytes": 200}
    rows = {"a": Row("a", counts, 2.0, 1.0, {"b": 6.0}, None)}
    for target, met in (
        (Target("a", "limit", 0.5), True),
        (Target("a", "limit", 0.6), False),
        (Target("a", "peer", 3, "b"), True),
        (Target("a", "peer", 4, "b"), False),
        (Target("a", "cost", 0.4, "b"), True),
        (Target("a", "cost", 0.3, "b"), False),
        (Target("a", "bytes", 2.5), True),
        (Target("a", "bytes", 2.4), False),
        (Target("a", "seconds", 2), True),
        (Target("a", "seconds", 1), False),
    ):
        value = target.value(rows)
        assert value is not None
        assert target.met(value) is met
        assert target.words()
        assert target.reached(value)
    assert Target("a", "peer", 3, "absent").value(rows) is None
    assert Target("absent", "seconds", 3).value(rows) is None
    assert seconds(0.0015) == "1.5 ms"


def test_scale_counts_every_byte_of_every_stage() -> None:
    seen: list[tuple[str, int]] = []
    report = scale.measure(
        scale.Case(30, 50, 0.1), lambda stage, client: seen.append((stage, client))
    )
    assert report.dropped == 3
    assert len(seen) == 30 * 3 + 27
    assert list(report.client) == ["advertise", "share", "upload", "unmask"]
    assert all(cost.sent > 0 for cost in report.client.values())
    sent = report.client[
        "upload"
    ].sent  # of the median client: the lower its number, the more links
    assert report.server["upload"].received == pytest.approx(27 * sent, rel=0.1)
    assert json.loads(scale.to_json([report]))[0]["n"] == 30


def test_the_page_is_made_from_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "DOCS", tmp_path)
    names = ("copy", "masks", "ckks", "recovery", "complete client", "active bytes")
    speed.write([run(LINES[name](), 1, 0) for name in names], tmp_path / "rows.json")
    reports = [scale.measure(scale.Case(n, 1000, 0.1)) for n in (20, 30)]
    (tmp_path / "scale.json").write_text(scale.to_json(reports))
    peaks = [memory.peak_of(100, clients, interleaved=True) for clients in (2, 3)]
    (tmp_path / "memory.json").write_text(memory.to_json(peaks))
    page.main([str(tmp_path / f"{name}.json") for name in ("rows", "scale", "memory")])
    text = (tmp_path / "benchmarks.md").read_text()
    assert "| client | 6 | 0% | this project |" in text
    assert "| server | 10 | 30% | this project |" in text
    assert "ML-DSA-65 rosters miss it" in text
    assert "| 2 | 100 | interleaved | 0 |" in text
    assert "3 masks, 32-bit, 1 thread" in text
    for name in ("peers", "recovery", "scale"):
        assert f"benchmarks/{name}.svg" in text
        assert (tmp_path / "benchmarks" / f"{name}.svg").read_text().startswith("<?xml")


def test_the_published_table_stands_beside_ours() -> None:
    """As printed: stages that add up to their totals, within the rounding to milliseconds."""
    for stages in page.PUBLISHED.values():
        assert abs(sum(stages[:-1]) - stages[-1]) <= 1
    params = {"clients": 500, "dropped": 150, "other_stages_s": dict.fromkeys(page.STAGES[:3], 0.1)}
    shown = "\n".join(page._published([Row("server recovery, n=500", params, 1.5, None, {}, None)]))
    assert (
        "| server | 500 | 30% | this project | 100 ms | 100 ms | 100 ms | 1.5 s | 1.8 s |" in shown
    )
    assert "| the paper | 1 ms | 28 ms | 514 ms | 143 s | 143 s |" in shown


@pytest.mark.parametrize("interleaved", [False, True])
def test_memory_is_measured_with_as_many_open_uploads_as_may_be(interleaved: bool) -> None:
    """Of 17 MB each, in two pieces: 64 MiB hold three; in order there is never more than one."""
    peak = memory.peak_of(CHUNK + 8, 5, interleaved=interleaved)
    assert 1 <= peak.open <= (MAX_OPEN_BYTES // (4 * CHUNK + 32) if interleaved else 1)
    assert 1 < peak.server < 10
    assert 1 < peak.client < 10
    assert memory.met([peak]) == (max(peak.client, peak.server) < 3)
    console = Console(width=80, record=True, file=StringIO())
    memory.show([peak], console)
    assert peak.order in console.export_text()
