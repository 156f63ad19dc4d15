"""The table in the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.security.verdict import Row, Verdict
from benchmarks.security.words import MEANING, NOT_COVERED, SEMI_HONEST, counts, figure, interval

_STYLE = {
    Verdict.PROTECTS: "green",
    Verdict.DOES_NOT: "red",
    Verdict.OUT_OF_SCOPE: "yellow",
    Verdict.NO_CLAIM: "dim",
    Verdict.INVALID: "bold white on red",
}


def show(rows: Sequence[Row], seconds: float, console: Console) -> None:
    """What is not covered, the table, and what the verdicts mean."""
    console.print("\n[bold]What secure aggregation does not cover[/]")
    for name, why in NOT_COVERED:
        console.print(f"  [bold]{name}.[/] {why}", highlight=False)
    console.print()
    console.print(_table(rows))
    for verdict, meaning in MEANING.items():
        console.print(f"[{_STYLE[verdict]}]{verdict}[/]: {meaning}", highlight=False)
    console.print(SEMI_HONEST, highlight=False)
    found = ", ".join(f"{count} {name}" for name, count in counts(rows).items() if count)
    console.print(f"\n{found}; {seconds:.0f} s", highlight=False)


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("attack", "target", "metric"):
        table.add_column(name, overflow="fold")
    for name in ("value", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    last = ("", "")
    for row in rows:
        if row.attack != last[0]:
            table.add_row(f"[bold]{row.attack}[/]")
        if (row.attack, row.setting) != last:
            table.add_row(f"  {row.setting}")
        last = (row.attack, row.setting)
        style = _STYLE[Verdict(row.verdict)]
        cells = (row.target, row.metric, figure(row), f"{interval(row)} {_short(row.interval)}")
        table.add_row("", *cells, f"[{style}]{row.verdict}[/]")
    return table


def _short(name: str) -> str:
    return {"Wilson": "W", "Clopper-Pearson": "CP", "bootstrap": "B", "normal": "N"}[name]
