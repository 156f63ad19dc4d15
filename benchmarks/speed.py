"""`secagg bench speed`: which lines there are, in which size, and how they are shown."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from benchmarks import ckks, he, lattice, machine, masks, rounds, sharing, vectors
from benchmarks.measure import Line, Row, run
from benchmarks.targets import TARGETS, seconds, times

Size = Literal["quick", "full"]


@dataclass(frozen=True)
class Planned:
    """A line to be made and measured: at most `repeats` turns, none begun after `budget` s.

    quick: whether it is part of a quick run.
    """

    name: str
    make: Callable[[], Line]
    repeats: int = 15
    budget: float = 5.0
    quick: bool = True


LONGER = 20
"""Local epochs of the longer demo round: among the settings of McMahan et al. 2017."""


def plan(size: Size) -> list[Planned]:
    """All lines in the order of the table. A quick run has fewer repeats and skips some."""
    few = 1 if size == "full" else 4
    return [
        Planned(each.name, each.make, each.repeats, each.budget / few, each.quick)
        for lines in (_vectors, _lattice, _neighbours, _rounds, _encrypted, _federations)
        for each in lines()
    ]


def measure(planned: Sequence[Planned], size: Size, tell: Callable[[str], None]) -> Iterator[Row]:
    """The rows, one after the other; `tell` hears the name of each line before it runs."""
    for each in planned:
        if size == "quick" and not each.quick:
            continue
        tell(each.name)
        yield run(each.make(), each.repeats, each.budget)
    rounds.forget()


def skipped(planned: Sequence[Planned], size: Size) -> list[str]:
    """Names of the lines that a run of this size leaves out."""
    return [each.name for each in planned if size == "quick" and not each.quick]


def write(rows: Sequence[Row], path: Path) -> None:
    """The JSON file: a list of rows."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> list[Row]:
    """The inverse of `write`."""
    return [Row(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def show(rows: Sequence[Row], left_out: Sequence[str], console: Console) -> None:
    """The table, with limit and peers below each line, and what each goal came to."""
    table = Table(box=None)
    table.add_column("line", overflow="fold")
    table.add_column("time", no_wrap=True, justify="right")
    table.add_column("size, share of the limit, times faster than a peer", overflow="fold")
    for row in rows:
        table.add_row(f"[bold]{row.name}[/]", seconds(row.ours_s), size_of(row))
        if row.limit_s is not None:
            share = f"{row.limit_s / row.ours_s:.0%}"
            table.add_row("  the machine's limit", seconds(row.limit_s), share)
        for name, theirs in row.peers.items():
            table.add_row(f"  {name}", seconds(theirs), f"{times(theirs / row.ours_s)}×")
    console.print(table)
    if left_out:
        console.print(f"[dim]skipped by --quick: {'; '.join(left_out)}[/]")
    by_name = {row.name: row for row in rows}
    goals = Table("goal", "asked", "reached", "", box=None)
    for target in TARGETS:
        value = target.value(by_name)
        if value is not None:
            mark = "[green]met[/]" if target.met(value) else "[red]not met[/]"
            goals.add_row(target.line, target.words(), target.reached(value), mark)
    console.print(goals)


def size_of(row: Row) -> str:
    """The sizes among the parameters of a row."""
    names = ("d", "bits", "clients", "neighbours", "dropped", "holders", "threshold")
    return ", ".join(f"{name}={row.params[name]}" for name in names if name in row.params)


def limit_of(row: Row) -> str:
    """The limit, and which part of it was reached."""
    if row.limit_s is None:
        return "–"
    return f"{seconds(row.limit_s)} ({row.limit_s / row.ours_s:.0%})"


def peers_of(row: Row) -> str:
    """Each peer, and how many times faster this project is."""
    return ", ".join(
        f"{name} {seconds(theirs)} ({times(theirs / row.ours_s)}×)"
        for name, theirs in row.peers.items()
    )


def _vectors() -> Iterator[Planned]:
    d, k = 10**6, 20
    yield Planned("memory copy", machine.memory_copy)
    for bits, threads in ((32, 1), (32, 2), (64, 1)):
        name = f"32 masks, {bits}-bit, {threads} thread{'s' * (threads > 1)}"
        yield Planned(name, partial(masks.masks, d, 32, bits, threads), repeats=31)
    yield Planned(f"pack {k} bits", partial(vectors.packed, d, k), repeats=31)
    yield Planned(f"unpack {k} bits", partial(vectors.unpacked, d, k), repeats=31)
    yield Planned(f"running sum, {k} bits", partial(vectors.running_sum, d, k), repeats=31)
    yield Planned("encode", partial(vectors.encode, d), repeats=31)
    yield Planned("decode", partial(vectors.decode, d), repeats=31)
    yield Planned("10000 keys derived", partial(vectors.derivations, 10**4), repeats=31)


def _lattice() -> Iterator[Planned]:
    d = 10**6
    yield Planned("NTT, 4096 points", partial(lattice.transform, 4096), repeats=31)
    yield Planned("NTT, 4096 points, AVX2", partial(lattice.transform_avx2, 4096), repeats=31)
    yield Planned("Gaussian samples", partial(lattice.noise, 1 << 16), repeats=31)
    yield Planned("lattice, encrypt", partial(lattice.encryption, d), repeats=9)
    yield Planned("lattice, server adds an upload", partial(lattice.server_addition, d), repeats=31)
    make = partial(lattice.one_message, d, 20)
    yield Planned("committee, one message", make, repeats=9, quick=False)
    name = "lattice recovery, n=500, 30% dropouts"
    make = partial(lattice.recovery, d, 500, 0.3)
    yield Planned(name, make, repeats=5, budget=10, quick=False)
    make = partial(lattice.recovery, d, 500, 0.3, "k-regular")
    yield Planned(f"{name}, k-regular", make, repeats=5, budget=10, quick=False)


def _neighbours() -> Iterator[Planned]:
    yield Planned("Shamir, deal", partial(sharing.deal, 100, 67))
    yield Planned("Shamir, reconstruct 2", partial(sharing.reconstruct, 100, 67, 2), quick=False)
    alone = partial(sharing.reconstruct, 100, 67, 150, peers=False)
    yield Planned("Shamir, reconstruct 150", alone, repeats=31)
    yield Planned("Ed25519, verify 32", partial(sharing.verify, 32), repeats=31)
    for suite in (rounds.CLASSIC, rounds.HYBRID):
        make = partial(sharing.sealing, suite, 30)
        yield Planned(f"seal and open, {suite}", make, repeats=31)


def _rounds() -> Iterator[Planned]:
    yield Planned("client, whole round", partial(rounds.client_round, 10**6, 100), repeats=9)
    yield Planned("client, what d does not change", partial(rounds.client_round, 1, 100), repeats=9)
    for n in (500, 1000):
        make = partial(rounds.complete_client, 10**5, n)
        name = f"complete graph, client, n={n}"
        yield Planned(name, make, repeats=9, quick=False)
        for dropout in (0.0, 0.1, 0.3):
            yield Planned(
                f"server recovery, n={n}, {dropout:.0%} dropouts",
                partial(rounds.recovery, 10**5, n, dropout),
                repeats=5,
                budget=15 if n == 1000 else 10,
                quick=(n, dropout) == (500, 0.3),
            )
    for suite in (rounds.CLASSIC, rounds.HYBRID):
        yield Planned(
            f"whole round, 30 clients, {suite}",
            partial(rounds.whole_round, 10**5, 30, 3, suite),
            repeats=5,
            budget=30,
            quick=False,
        )
        for d in (10**5, 10**6):
            make = partial(rounds.active_round, d, 30, 3, suite)
            name = f"active mode, d={d}, {suite}"
            yield Planned(name, make, repeats=9, budget=15, quick=False)
        for scheme in rounds.SIGNATURES:
            make = partial(rounds.active_bytes, 30, suite, scheme)
            name = f"active mode, d=1, {scheme}, {suite}"
            yield Planned(name, make, repeats=5, budget=10, quick=False)
    for d in (10**5, 10**6):
        name = f"sum of 10 vectors, d={d}"
        yield Planned(name, partial(ckks.sums, d, 10), repeats=3, budget=20, quick=d < 10**6)


def _encrypted() -> Iterator[Planned]:
    for name in ("ckks", "bfv"):
        make = partial(he.client_upload, name, 10**6, 10)
        yield Planned(f"{name} client, d={10**6}", make, repeats=7, budget=20, quick=False)


def _federations() -> Iterator[Planned]:
    yield Planned("cold start", _cold_start, repeats=5, budget=10)
    yield Planned("demo, one round", _demo_round, repeats=31, budget=30, quick=False)
    make = partial(_demo_round, LONGER)
    yield Planned(f"demo, one round, {LONGER} epochs", make, repeats=15, budget=30, quick=False)
    yield Planned("10 million parameters, 10 clients", _large, repeats=3, budget=40, quick=False)


def _cold_start() -> Line:
    from benchmarks import federation  # noqa: PLC0415 - torch takes two seconds to import

    return federation.cold_start()


def _demo_round(epochs: int = 0) -> Line:
    from benchmarks import federation  # noqa: PLC0415

    return federation.demo_round("wearables", epochs=epochs)


def _large() -> Line:
    from benchmarks import federation  # noqa: PLC0415

    return federation.large_model(clients=10, samples=6000, hidden=1084)
