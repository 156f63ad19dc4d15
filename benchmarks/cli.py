"""The command `secagg bench`. It runs from a checkout: benchmarks/ is not installed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import typer
from rich.console import Console

from fl.outputs import writable_file, writable_folder
from secagg.errors import ParameterError

bench = typer.Typer(no_args_is_help=True, help="Measure speed, scale and attacks.")


class Named(Protocol):
    """What can be chosen by its name."""

    @property
    def name(self) -> str:
        """What it is called."""


T = TypeVar("T", bound=Named)


@bench.callback()
def _commands() -> None:
    """Keep the commands apart, even where there is one."""


@bench.command()
def speed(
    quick: Annotated[bool, typer.Option("--quick", help="end within a minute")] = False,
    json: Annotated[Path | None, typer.Option(help="write the rows to this file")] = None,
    only: Annotated[str, typer.Option(help="only lines whose name contains this")] = "",
) -> None:
    """This project, its peers and the machine's limits, side by side in one run."""
    _check_outputs(json)
    console = Console()
    with console.status("loading the kernels and what they are compared with"):
        from benchmarks import speed as lines  # noqa: PLC0415

    size: lines.Size = "quick" if quick else "full"
    planned = _chosen(lines.plan(size), only, "line")
    rows = []
    with console.status("compiling or loading the kernels") as status:
        _warm_up(status)
        for row in lines.measure(planned, size, status.update):
            rows.append(row)
            if json:
                lines.write(rows, json)  # after each line: an interrupted run has its rows
    lines.show(rows, lines.skipped(planned, size), console)


def _check_outputs(file: Path | None, folder: Path | None = None) -> None:
    """Minutes of measuring must not end in a file that cannot be written."""
    if file:
        writable_file(file)
    if folder:
        writable_folder(folder)


def _chosen(among: Sequence[T], only: str, what: str) -> list[T]:
    """Those whose name contains `only`. ParameterError, which lists the names, for none."""
    found = [each for each in among if only in each.name]
    if not found:
        names = "; ".join(each.name for each in among)
        raise ParameterError(f"no {what} has {only!r} in its name; there are: {names}")
    return found


def _warm_up(status: object) -> None:
    from secagg import kernels  # noqa: PLC0415
    from secagg.warm import warm_up  # noqa: PLC0415

    kernels.on_compile(lambda name: status.update(f"compiling {name}"))  # type: ignore[attr-defined]
    for name in warm_up():
        status.update(f"loading {name}")  # type: ignore[attr-defined]


@bench.command()
def scale(
    quick: Annotated[bool, typer.Option("--quick", help="a tenth of the clients")] = False,
    grid: Annotated[bool, typer.Option(help="also how it grows with n, d and dropouts")] = True,
    json: Annotated[Path | None, typer.Option(help="write the reports to this file")] = None,
) -> None:
    """Ten thousand clients in memory, and a thousand with long vectors, stage by stage."""
    _check_outputs(json)
    from rich.progress import Progress  # noqa: PLC0415

    from benchmarks import scale as scaling  # noqa: PLC0415
    from secagg.warm import warm_up  # noqa: PLC0415

    cases = [*scaling.HEADLINES, *(scaling.GRID if grid else ())]
    if quick:
        cases = [scaling.Case(max(case.n // 10, 50), case.d, case.dropout) for case in cases]
    list(warm_up())
    console, reports = Console(), []
    with Progress(console=console) as bar:
        for case in cases:
            what = f"n={case.n}, d={case.d}, {case.dropout:.0%} dropouts"
            task = bar.add_task(what, total=4 * case.n)

            def advance(stage: str, _client: int, task: object = task, what: str = what) -> None:
                bar.update(task, advance=1, description=f"{what}: {stage}")  # type: ignore[arg-type]

            reports.append(scaling.measure(case, advance))
            bar.update(task, completed=4 * case.n, description=what)
    scaling.show(reports, console)
    if json:
        json.write_text(scaling.to_json(reports), encoding="utf-8")


@bench.command()
def memory(
    quick: Annotated[bool, typer.Option("--quick", help="30 million values")] = False,
    length: Annotated[int, typer.Option(help="values; 0: 100 million")] = 0,
    json: Annotated[Path | None, typer.Option(help="write the peaks to this file")] = None,
) -> None:
    """Peak memory of a client and of the server for one long vector, in pieces."""
    _check_outputs(json)
    from benchmarks import memory as peaks  # noqa: PLC0415

    console, found = Console(), []
    with console.status("starting processes") as status:
        for clients, interleaved in peaks.CASES:
            status.update(f"{clients} clients{', interleaved' * interleaved}")
            size = length or peaks.LENGTHS["quick" if quick else "full"]
            found.append(peaks.peak_of(size, clients, interleaved=interleaved))
            if json:
                json.write_text(peaks.to_json(found), encoding="utf-8")
    peaks.show(found, console)


@bench.command()
def security(
    quick: Annotated[bool, typer.Option("--quick", help="end within a minute")] = False,
    json: Annotated[Path | None, typer.Option(help="write the rows to this file")] = None,
    out: Annotated[Path | None, typer.Option(help="write a page with pictures here")] = None,
    only: Annotated[str, typer.Option(help="only attacks whose name contains this")] = "",
) -> None:
    """Every attack on every protocol, and on one that is weak on purpose."""
    _check_outputs(json, out)
    from time import perf_counter  # noqa: PLC0415

    console = Console()
    with console.status("loading torch and the kernels") as status:
        from benchmarks.security import suite, table  # noqa: PLC0415
        from benchmarks.security.attack import Effort  # noqa: PLC0415
        from benchmarks.security.page import write_page  # noqa: PLC0415

        began, rows = perf_counter(), []
        chosen = _chosen(suite.ATTACKS, only, "attack")
        for row in suite.run(chosen, Effort(quick), progress=status.update):
            rows.append(row)
        seconds = perf_counter() - began
        text = suite.to_json(rows, quick, seconds)
        if json:
            json.write_text(text, encoding="utf-8")
        page = write_page(suite.parse(text), out) if out else None
    table.show(rows, seconds, console)
    if page:
        console.print(f"page: {page}", highlight=False, soft_wrap=True)
