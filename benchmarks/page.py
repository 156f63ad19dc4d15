"""`python -m benchmarks.page SPEED.json [SCALE.json [MEMORY.json]]`: docs/benchmarks.md, with
its plots.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import memory, speed
from benchmarks.measure import Row
from benchmarks.scale import size
from benchmarks.targets import TARGETS, seconds, times
from protocols.base import MAX_OPEN_BYTES, MAX_OPEN_UPLOADS

DOCS = Path(__file__).resolve().parent.parent / "docs"

STAGES = ("advertise", "share", "upload", "unmask")
PUBLISHED = {
    ("client", 500, 0): (1, 154, 694, 1, 849),
    ("client", 1000, 0): (1, 336, 1357, 5, 1699),
    ("server", 500, 0): (1, 26, 723, 1268, 2018),
    ("server", 500, 10): (1, 29, 623, 61586, 62239),
    ("server", 500, 30): (1, 28, 514, 142847, 143389),
    ("server", 1000, 0): (6, 148, 1481, 3253, 4887),
    ("server", 1000, 10): (6, 143, 1406, 179320, 180875),
    ("server", 1000, 30): (8, 143, 1169, 412446, 413767),
}
"""Bonawitz et al., CCS 2017: milliseconds of AdvertiseKeys, ShareKeys, MaskedInputCollection,
Unmasking, and in all, for 100,000 entries; by party, clients, and dropouts in per cent.
"""

ABOUT = {
    "memory copy": "`numpy.copyto` on all cores; what every line that moves memory is held against",
    "32 masks": "AES-128-CTR expanded and added to one vector. Limit: the ten AES rounds alone, in "
    "registers, on as many threads; the kernel makes nine of them for every block, so there may be "
    "more than 100 %",
    "pack": "values to bits, on all cores. Limit: a memory copy that moves as many bytes",
    "unpack": "bits to values, on all cores. Limit: a memory copy that moves as many bytes",
    "running sum": "packed bytes added to the server's sum in one pass, on all cores. Limit: a "
    "memory copy that moves as many bytes",
    "encode": "clip, scale and stochastic rounding of float32 with its random stream, on all "
    "cores; the peer makes the same stream with OpenSSL, on one. Limit: a memory copy that moves "
    "as many bytes",
    "decode": "a sum to the weighted mean in float64 with the check of its range, on all cores. "
    "Limit: a memory copy that moves as many bytes",
    "10000 keys derived": "HKDF-SHA256 with a label for each, as for the pairs of a round; the "
    "peer is the library's, called once a key",
    "lattice recovery": "the server's last stage: all answers decoded and checked, the inner "
    "masking's seeds reconstructed and its masks taken off the sum of the short keys, the sum of "
    "the ciphertexts opened. Inner masking with X25519 on the complete graph, or where it says "
    "so on the k-regular one for 5 % corrupt clients and these dropouts",
    "Shamir": "32-byte secrets. pycryptodome shares 16 bytes at a time, so it is called twice; "
    "Flower pads to 48 bytes",
    "seal and open": "what a client seals for its neighbours, key agreement included, and opens "
    "from them; HPKE: RFC 9180 by `cryptography`, which does not say who sealed",
    "client": "the real machine with real messages, from its keys to its answer, encoding "
    "included, without training and disk; complete graph, hybrid suite, nobody drops out",
    "complete graph": "the same with X25519, of a vector that is encoded already",
    "server recovery": "complete graph, X25519: all answers decoded and checked, seeds "
    "reconstructed and recognised, all masks removed, the canary checked. Every survivor answers. "
    "No ciphertext is opened, because survivors published links with their uploads. The clients "
    "are simulated: what they seal for each other, which the server cannot read, is empty",
    "active mode": "processor time of all parties beside semi-honest mode, floats to mean; the "
    "members' keys are Ed25519 unless the line says otherwise",
    "whole round": "processor time of all parties, floats to mean. Flower: its own workflow and "
    "client mod in one process, the cost of serialising its messages not counted",
    "sum of": "protect, add up and open, without the agreement on keys. CKKS with N=8192, "
    "[60, 40, 40] and scale 2^40",
    "cold start": "a new process up to its end, the compiled kernels cached on disk. Limit: "
    "a process that only imports NumPy, numba and cryptography",
    "demo, one round": "real processes, local training included, masking with the hybrid suite; "
    "in clear: protocol `plain` of the same runner. What security adds does not depend on how long "
    "clients train: with 20 local epochs, a setting of McMahan et al. (2017), it is the same "
    "beside more",
    "10 million": "one client's and the whole server's work of a round, beside one epoch of local "
    "training of a CNN of that size on all cores, over 6,000 random images of 28 x 28 (a tenth of "
    "Fashion-MNIST has as many); with fewer images the epoch is shorter in proportion, and the "
    "secure part is not",
}


def main(arguments: Sequence[str]) -> None:
    """Write the page."""
    rows = speed.read(Path(arguments[0]))
    scaled, peaks = (_read(arguments[at : at + 1]) for at in (1, 2))
    (DOCS / "benchmarks").mkdir(exist_ok=True)
    _plots(rows, scaled, DOCS / "benchmarks")
    text = "\n".join(_page(rows, scaled, [memory.Peak(**each) for each in peaks]))
    (DOCS / "benchmarks.md").write_text(text.rstrip() + "\n", encoding="utf-8")


def _read(arguments: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    for path in arguments:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    return found


def _page(
    rows: Sequence[Row], scaled: Sequence[Any], peaks: Sequence[memory.Peak]
) -> Iterator[str]:
    yield "# Benchmarks"
    yield ""
    yield "Every figure was measured in one run: this project, its peers and the machine's limit"
    yield "in turn, the median of each. Before a line is measured, all who take part in it must"
    yield "have computed the same result. Times depend on the machine; compare the ratios."
    yield ""
    yield from _goals(rows)
    yield from _lines(rows)
    yield from _bytes(rows)
    yield from _published(rows)
    if peaks:
        yield from _memory(peaks)
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


def _bytes(rows: Sequence[Row]) -> Iterator[str]:
    found = [row for row in rows if "semi_honest_bytes" in row.params]
    if not found:
        return
    yield "## Bytes of active mode"
    yield ""
    yield f"What a client sends and receives in a round of {found[0].params['clients']} clients"
    yield "with one value, counted on the messages themselves: all that does not depend on d."
    yield ""
    yield "| roster | suite | semi-honest mode | active mode | |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for row in found:
        counts = [row.params[key] for key in ("semi_honest_bytes", "bytes")]
        cells = (row.params["scheme"], row.params["suite"], *map(size, counts))
        yield f"| {' | '.join(cells)} | {counts[1] / counts[0]:.3g}× |"
    yield ""
    yield "The goal of 1.5 times holds for Ed25519 rosters. ML-DSA-65 rosters miss it: a signature"
    yield "of theirs takes 3.3 kB, and a client gets one with the key of each other member, and one"
    yield "each of a threshold of them before it unmasks."
    yield ""


def _published(rows: Sequence[Row]) -> Iterator[str]:
    found = [(key, row) for row in rows if (key := _published_as(row))]
    if not found:
        return
    yield "## Beside Bonawitz et al., CCS 2017"
    yield ""
    yield "The complete graph with vectors of 100,000 entries, suite X25519. The paper's figures"
    yield "were transcribed without the paper at hand (the rows add up to their totals within 1 ms,"
    yield "and the 143 s are independently confirmed). They are of 2017, one thread, on another"
    yield "machine: an order of magnitude. A client's stages are the medians of five rounds; of"
    yield "the server, unmask is the line above, the other stages are its own seconds, once."
    yield ""
    yield "![Server recovery](benchmarks/recovery.svg)"
    yield ""
    yield f"| party | clients | dropouts | | {' | '.join(STAGES)} | in all |"
    yield f"| --- | ---: | ---: | --- |{' ---: |' * (len(STAGES) + 1)}"
    for (party, clients, dropouts), row in found:
        of_stage = _seconds_of_stages(row)
        ours = [*of_stage, sum(of_stage)]
        case = f"| {party} | {clients} | {dropouts}% "
        yield f"{case}| this project | {' | '.join(map(seconds, ours))} |"
        if theirs := PUBLISHED.get((party, clients, dropouts)):
            yield f"| | | | the paper | {' | '.join(seconds(each / 1000) for each in theirs)} |"
    yield ""


def _published_as(row: Row) -> tuple[str, int, int] | None:
    """Party, clients and dropouts in per cent, for a line that the paper's tables have."""
    for start, party in (("server recovery", "server"), ("complete graph, client", "client")):
        if row.name.startswith(start):
            clients = row.params["clients"]
            return party, clients, round(100 * row.params["dropped"] / clients)
    return None


def _seconds_of_stages(row: Row) -> list[float]:
    of = row.params.get("stages_s") or {**row.params["other_stages_s"], "unmask": row.ours_s}
    return [of[stage] for stage in STAGES]


def _memory(peaks: Sequence[memory.Peak]) -> Iterator[str]:
    yield "## Memory for a long vector"
    yield ""
    yield f"{peaks[0].length:,} values of {peaks[0].bits} bits masked, summed and unmasked in"
    yield "pieces, every party a process with its journal on disk: how far each grew, the input"
    yield "included. A client (the largest) in multiples of its packed upload, the server in"
    yield "multiples of one vector. *Interleaved*: the server takes a piece of each client in turn"
    yield f"as long as it may. Of incomplete uploads it keeps at most {MAX_OPEN_UPLOADS}, and fewer"
    yield f"where they would be longer than {MAX_OPEN_BYTES // 2**20} MiB together, but always"
    yield "one; *open* is the most there were. The others wait in the channel."
    yield ""
    yield "| clients | values | pieces arrive | open | a client | the server | time |"
    yield "| ---: | ---: | --- | ---: | ---: | ---: | ---: |"
    for each in peaks:
        yield f"| {' | '.join(memory.cells(each))} |"
    yield ""
    mark = "met" if memory.met(peaks) else "**not met**"
    yield f"Goal: both below {memory.GOAL:.0f}, whatever the number of clients: {mark}."
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
    yield "secagg bench memory --json memory.json"
    yield "python -m benchmarks.page speed.json scale.json memory.json"
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
        rates = [round(100 * row.params["dropped"] / n) for row in own]
        (line,) = axes.plot(rates, [r.ours_s for r in own], "o-", label=f"this project, n = {n}")
        theirs = [(r, PUBLISHED["server", n, r][3]) for r in rates if ("server", n, r) in PUBLISHED]
        if theirs:
            at, spent = zip(*theirs, strict=True)
            style = {"color": line.get_color(), "label": f"Bonawitz et al. 2017, n = {n}"}
            axes.plot(at, [each / 1000 for each in spent], "x--", **style)
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
