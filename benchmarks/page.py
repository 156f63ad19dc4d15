"""`python -m benchmarks.page RESULT.json [SCALE.json]`: docs/benchmarks.md and its plots."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import speed
from benchmarks.measure import Row
from benchmarks.scale import size
from benchmarks.targets import TARGETS, seconds, times

DOCS = Path(__file__).resolve().parent.parent / "docs"

PUBLISHED = {("server recovery, n=500, 30% dropouts"): 143.0}
"""Bonawitz et al., CCS 2017: the server's seconds for 100,000 entries (single thread, 2017)."""

ABOUT = {
    "memory copy": "`numpy.copyto`; what every line that moves memory is held against",
    "32 masks": "AES-128-CTR expanded and added to one vector. Limit: the AES rounds alone, in "
    "registers, on as many threads",
    "pack": "values to bits. Limit: a memory copy that moves as many bytes",
    "unpack": "bits to values. Limit: a memory copy that moves as many bytes",
    "running sum": "packed bytes added to the server's sum in one pass. Limit: a memory copy that "
    "moves as many bytes",
    "encode": "clip, scale and stochastic rounding of float32 on all cores, its random stream "
    "included; the peer uses the same stream on one",
    "Shamir": "32-byte secrets. pycryptodome shares 16 bytes at a time, so it is called twice; "
    "Flower pads to 48 bytes",
    "HPKE": "RFC 9180 sealing, by `cryptography`",
    "client": "the real machine with real messages, from its keys to its answer, encoding "
    "included, without training and disk; nobody drops out",
    "server recovery": "complete graph, X25519: all answers decoded and checked, seeds "
    "reconstructed and recognised, all masks removed, the sum checked. Every survivor answers "
    "and sends its contributions along, as the protocol has it, so no ciphertext is opened. The "
    "clients are simulated: what they seal for each other, which the server cannot read, is empty",
    "whole round": "processor time of all parties, floats to mean. Flower: its own workflow and "
    "client mod in one process, the cost of serialising its messages not counted",
    "sum of": "protect, add up and open, without the agreement on keys. CKKS with N=8192, "
    "[60, 40, 40] and scale 2^40",
    "cold start": "a new process up to its end, the compiled kernels cached on disk. Limit: "
    "a process that only imports NumPy, numba and cryptography",
    "demo, one round": "real processes, local training included, masking with the hybrid suite; "
    "in clear: protocol `plain` of the same runner",
    "10 million": "one client's and the whole server's work of a round, beside one epoch of local "
    "training of a CNN of that size on all cores, over 6,000 images of 28 x 28 (Fashion-MNIST "
    "among ten); with fewer images the epoch is shorter in proportion, and the secure part is not",
}


def main(arguments: Sequence[str]) -> None:
    """Write the page."""
    rows = speed.read(Path(arguments[0]))
    scaled = json.loads(Path(arguments[1]).read_text(encoding="utf-8")) if arguments[1:] else []
    (DOCS / "benchmarks").mkdir(exist_ok=True)
    _plots(rows, scaled, DOCS / "benchmarks")
    text = "\n".join(_page(rows, scaled))
    (DOCS / "benchmarks.md").write_text(text.rstrip() + "\n", encoding="utf-8")


def _page(rows: Sequence[Row], scaled: Sequence[Any]) -> Iterator[str]:
    yield "# Benchmarks"
    yield ""
    yield "Every figure was measured in one run: this project, its peers and the machine's limit"
    yield "in turn, the median of each. Before a line is measured, all who take part in it must"
    yield "have computed the same result. Times depend on the machine; compare the ratios."
    yield ""
    yield from _goals(rows)
    yield from _lines(rows)
    yield from _published(rows)
    if scaled:
        yield from _scale(scaled)
    yield from _machine(rows)
    yield from _repeat()


def _goals(rows: Sequence[Row]) -> Iterator[str]:
    yield "## Goals"
    yield ""
    yield "| line | goal | reached | |"
    yield "| --- | --- | ---: | --- |"
    by_name = {row.name: row for row in rows}
    for target in TARGETS:
        value = target.value(by_name)
        if value is not None:
            mark = "met" if target.met(value) else "**not met**"
            yield f"| {target.line} | {target.words()} | {target.reached(value)} | {mark} |"
    yield ""


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    yield "## Lines"
    yield ""
    yield "In parentheses: the share of the limit that was reached, and how many times faster than"
    yield "a peer this project is."
    yield ""
    yield "![Times faster than each peer](benchmarks/peers.svg)"
    yield ""
    yield "| line | size | this project | limit | others | bytes a parameter |"
    yield "| --- | --- | ---: | ---: | --- | ---: |"
    for row in rows:
        on_wire = "" if row.bytes_per_param is None else f"{row.bytes_per_param:.3g}"
        cells = (speed.size_of(row), seconds(row.ours_s), speed.limit_of(row), speed.peers_of(row))
        yield f"| {row.name} | {' | '.join(cells)} | {on_wire} |"
    yield ""
    for start, what in ABOUT.items():
        if any(row.name.startswith(start) for row in rows):
            yield f"- **{start}**: {what}."
    for row in rows:
        if "ckks_bytes_per_param" in row.params:
            yield (
                f"- A CKKS ciphertext takes {row.params['ckks_bytes_per_param']} bytes a parameter "
                f"at d = {row.params['d']}."
            )
    yield ""


def _published(rows: Sequence[Row]) -> Iterator[str]:
    found = [row for row in rows if row.name.startswith("server recovery")]
    if not found:
        return
    yield "## Beside Bonawitz et al., CCS 2017"
    yield ""
    yield "The server on the complete graph with vectors of 100,000 entries. Of the paper's table"
    yield "only the figure that this project's goals name is quoted (single thread, 2017); on"
    yield "another machine, so it shows an order of magnitude. The other stages of ours are the"
    yield "server's own seconds, measured once."
    yield ""
    yield "![Server recovery](benchmarks/recovery.svg)"
    yield ""
    yield "| clients | dropouts | advertise | share | upload | recovery | in all | the paper |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in found:
        before = row.params["other_stages_s"]
        paper = f"{PUBLISHED[row.name]:g} s" if row.name in PUBLISHED else "–"
        cells = [f"{row.params['dropped'] / row.params['clients']:.0%}"]
        cells += [seconds(before[stage]) for stage in ("advertise", "share", "upload")]
        cells += [seconds(row.ours_s), seconds(row.ours_s + sum(before.values())), paper]
        yield f"| {row.params['clients']} | {' | '.join(cells)} |"
    yield ""


def _scale(reports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "## Scale"
    yield ""
    yield "All parties in one process, k-regular graph from `choose_parameters` with 5 % corrupt,"
    yield "X25519, clients vanishing before they upload; the sum was checked. Seconds of work and"
    yield "bytes of one client (the median of those that stayed) and of the server."
    yield ""
    for report in reports[:2]:
        yield (
            f"### {report['n']} clients, d = {report['d']}, {report['dropped']} dropouts, "
            f"degree {report['degree']}, threshold {report['threshold']}"
        )
        yield ""
        memory = f", at most {size(report['peak_bytes'])} of memory for all parties together"
        yield f"{report['elapsed_s']:.0f} s in all{memory if report is reports[0] else ''}."
        yield ""
        yield "| stage | client | sent | received | server | sent | received |"
        yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
        for stage, cost in report["client"].items():
            cells = (*_cost(cost), *_cost(report["server"][stage]))
            yield f"| {stage} | {' | '.join(cells)} |"
        yield ""
    yield "### How it grows"
    yield ""
    yield "![Growth](benchmarks/scale.svg)"
    yield ""
    yield "| n | d | dropouts | degree | client | sent | received | server | sent | received |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for report in reports:
        cells = (*_cost(_total(report["client"])), *_cost(_total(report["server"])))
        fixed = (report["n"], report["d"], report["dropped"], report["degree"])
        yield f"| {' | '.join(map(str, fixed))} | {' | '.join(cells)} |"
    yield ""


def _total(stages: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {key: sum(c[key] for c in stages.values()) for key in ("seconds", "sent", "received")}


def _cost(cost: Mapping[str, float]) -> tuple[str, str, str]:
    return seconds(cost["seconds"]), size(cost["sent"]), size(cost["received"])


def _machine(rows: Sequence[Row]) -> Iterator[str]:
    facts = next((row.params["machine"] for row in rows if "machine" in row.params), {})
    yield "## The machine"
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    for name, value in facts.items():
        yield f"| {name} | {value} |"
    yield ""


def _repeat() -> Iterator[str]:
    yield "## Repeat it"
    yield ""
    yield "```"
    yield "pip install -e '.[peers]'"
    yield "secagg bench speed --json speed.json"
    yield "secagg bench scale --json scale.json"
    yield "python -m benchmarks.page speed.json scale.json"
    yield "```"
    yield ""
    yield "`secagg bench speed --quick` ends within a minute and skips the longest lines. Peers"
    yield "that are not installed are left out. Leave the machine alone meanwhile: a line on two"
    yield "threads says nothing where something else uses a core."


def _plots(rows: Sequence[Row], scaled: Sequence[Mapping[str, Any]], folder: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "secagg", "svg.fonttype": "none", "font.size": 9})
    _plot_peers(rows, folder / "peers.svg")
    _plot_recovery(rows, folder / "recovery.svg")
    if scaled:
        _plot_scale(scaled, folder / "scale.svg")


def _plot_peers(rows: Sequence[Row], path: Path) -> None:
    ratios = [
        (f"{row.name}: {name}", theirs / row.ours_s)
        for row in rows
        for name, theirs in row.peers.items()
    ][::-1]
    figure, axes = _figure(8, 0.8 + 0.26 * len(ratios))
    bars = axes.barh([name for name, _ in ratios], [r for _, r in ratios], color="#3b6ea8")
    axes.bar_label(bars, [f"{times(ratio)}×" for _, ratio in ratios], padding=3)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="times faster than the peer")
    axes.margins(x=0.15)
    _save(figure, path)


def _plot_recovery(rows: Sequence[Row], path: Path) -> None:
    found = [row for row in rows if row.name.startswith("server recovery")]
    if not found:
        return
    figure, axes = _figure(7, 3.2)
    for n in sorted({row.params["clients"] for row in found}):
        own = [row for row in found if row.params["clients"] == n]
        rates = [100 * row.params["dropped"] / n for row in own]
        axes.plot(rates, [row.ours_s for row in own], "o-", label=f"this project, n = {n}")
    if any(row.name in PUBLISHED for row in found):
        axes.plot([30], list(PUBLISHED.values()), "kx", label="Bonawitz et al. 2017, n = 500")
    axes.set(yscale="log", xlabel="% of the clients that drop out", ylabel="seconds")
    axes.legend(frameon=False)
    _save(figure, path)


def _plot_scale(reports: Sequence[Mapping[str, Any]], path: Path) -> None:
    own = sorted((r for r in reports if r["d"] == 1000 and r["dropped"]), key=lambda r: r["n"])
    own = [r for r in own if abs(r["dropped"] / r["n"] - 0.1) < 0.01]
    figure, axes = _figure(7, 3.2)
    clients = [r["n"] for r in own]
    for party, what in (("client", "one client"), ("server", "the server")):
        axes.plot(clients, [_total(r[party])["seconds"] for r in own], "o-", label=what)
    axes.set(xscale="log", yscale="log", xlabel="clients", ylabel="seconds of work a round")
    axes.set_title("d = 1,000, 10 % dropouts, degree from choose_parameters", fontsize=9)
    axes.legend(frameon=False)
    _save(figure, path)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main(sys.argv[1:])
