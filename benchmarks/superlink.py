"""A secure round on a SuperLink with SuperNodes, beside the engine's exchange and SecAgg+.

`python -m benchmarks.superlink` starts a SuperLink and SuperNodes of its own, measures all in
turn in one run (the engine's own exchange, secure rounds, SecAgg+ on a small model, and so on
again), checks every mean, and ends what it started. Needs the extra `flower`.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fl.demo.flower_link import LocalLink, write_app

Figure = Mapping[str, Any]
SILENCE = 300.0
"""Seconds without a figure after which the run is given up."""
APP = """\
from benchmarks.superlink_app import Plan, client_app, server_app

client = client_app()
server = server_app(Plan({plan}))
"""
THEIRS = "SecAgg+"
ROWS = {
    "engine": "an exchange of the engine: the model to each node and back, send_and_receive",
    "polled": "the same exchange, with the adapter's polling",
    "first": "secure round, masking, the first",
    "later": "secure round, masking, a later one",
    THEIRS: "Flower's SecAgg+, one round",
}


def measure(nodes: int, length: int, theirs: int, repeats: int, later: int) -> Iterator[Figure]:
    """Each figure as it is known. Raises RuntimeError where the run ends early."""
    with tempfile.TemporaryDirectory(prefix="secagg-superlink-") as folder:
        home = Path(folder)
        lines = home / "lines"
        lines.touch()
        given = (str(lines), nodes, length, theirs, repeats, later)
        write_app(home / "app", "secagg_bench", APP.format(plan=", ".join(map(repr, given))))
        link = LocalLink(home, [f"partition-id={i}" for i in range(nodes)])
        try:
            link.run(home / "app")
            yield from _figures(link, lines, repeats * (4 + later))
        finally:
            link.close()


def _figures(link: LocalLink, lines: Path, count: int) -> Iterator[Figure]:
    seen, heard = 0, time.monotonic()
    while seen <= count:  # one to warm up
        over = link.over
        new = lines.read_text(encoding="utf-8").split("\n")[seen:-1]
        for line in new:
            heard = time.monotonic()
            yield json.loads(line)
        seen += len(new)
        if not new and (over or time.monotonic() - heard > SILENCE):
            raise RuntimeError(f"the run ended early:\n{link.said()[-3000:]}")
        time.sleep(0.2)


def show(figures: Sequence[Figure], length: int, theirs: int, console: Console) -> None:
    """Medians and ranges, and the two ratios that were the aim."""
    table = Table("", "parameters", "exchanges", "seconds", "least", "most", "runs")
    middle = {}
    for what, words in ROWS.items():
        found = [each for each in figures if each["what"] == what]
        seconds = [each["seconds"] for each in found]
        middle[what] = statistics.median(seconds)
        size = theirs if what == THEIRS else length
        exchanges = 4 if what == THEIRS else found[0].get("exchanges", 1)
        numbers = (f"{each:.1f}" for each in (middle[what], min(seconds), max(seconds)))
        table.add_row(words, f"{size:,}", str(exchanges), *numbers, str(len(seconds)))
    console.print(table)
    for what, exchanges in (("first", 4), ("later", 2)):
        each = middle[what] / exchanges
        console.print(
            f"{what}: {each / middle['engine']:.2f} x {exchanges} exchanges of the engine, "
            f"{each / middle['polled']:.2f} x as many with the adapter's polling, "
            f"{middle[what] / middle[THEIRS]:.2f} x SecAgg+",
            highlight=False,
        )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.superlink", description=__doc__)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--length", type=int, default=5_000_000, help="parameters of our model")
    parser.add_argument("--theirs", type=int, default=1000, help="parameters of SecAgg+'s")
    parser.add_argument("--repeats", type=int, default=3, help="of everything")
    parser.add_argument("--later", type=int, default=2, help="secure rounds after each first one")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args()
    console, figures = Console(), []
    for figure in measure(given.nodes, given.length, given.theirs, given.repeats, given.later):
        figures.append(figure)
        console.print(f"{figure['what']}: {figure['seconds']:.1f} s", highlight=False)
        if given.json:
            given.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    show(figures, given.length, given.theirs, console)


if __name__ == "__main__":
    main()
