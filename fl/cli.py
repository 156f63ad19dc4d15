"""The command `secagg`. Imports stay light: something moves at once, the rest comes later."""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer
from rich.console import Console
from rich.markup import escape

from fl.keys_cli import keys, roster
from fl.outputs import writable_folder
from protocols.registry import PROTOCOLS

if TYPE_CHECKING:
    from fl.demo.result import DemoResult
    from fl.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Secure aggregation for federated learning: the server learns the sum, nothing else.",
)
app.add_typer(keys, name="keys")
app.add_typer(roster, name="roster")

INEXACT, REFUSED, INTERRUPTED = 1, 2, 130


@app.callback()
def _commands() -> None:
    """Keep `demo` a sub-command."""


@app.command()
def demo(  # noqa: PLR0913,PLR0917 - one parameter an option
    data: Annotated[
        str, typer.Option(help="wearables, digits or opt", show_default="wearables; opt on Flower")
    ] = "",
    protocol: Annotated[str, typer.Option(help=", ".join(PROTOCOLS))] = "masking",
    suite: Annotated[str, typer.Option(help="MLKEM768-X25519 or X25519")] = "MLKEM768-X25519",
    adversary: Annotated[
        str, typer.Option(help="the server is semi-honest or active (members sign)")
    ] = "semi-honest",
    clients: Annotated[int, typer.Option(help="0: all natural silos")] = 0,
    rounds: Annotated[int, typer.Option(help="0: the data set's default")] = 0,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="STAGE=K", help="kill K clients at STAGE in every second round"),
    ] = None,
    revive: Annotated[
        list[str] | None,
        typer.Option(metavar="STAGE=K", help="kill K clients and start them again at once"),
    ] = None,
    seed: Annotated[int, typer.Option(help="model, order of records, victims; never keys")] = 0,
    out: Annotated[Path, typer.Option(help="folder for the result and the report")] = Path(
        "secagg-demo"
    ),
    engine: Annotated[
        str, typer.Option(help="local, or flower: a SuperLink with SuperNodes, 4 by default")
    ] = "local",
    quiet: Annotated[bool, typer.Option("--quiet", help="print nothing but errors")] = False,
) -> None:
    """Train a federation of real processes, kill some of them, and prove the sums."""
    console = Console()
    drops, revives = _drops(drop or []), _drops(revive or [])
    writable_folder(out)
    if not quiet:
        console.print("[bold]secagg[/] loading torch and the kernels …", highlight=False)
    settings = _settings(
        engine,
        data=data,
        protocol=protocol,
        suite=suite,
        adversary=adversary,
        clients=clients,
        rounds=rounds,
        drops=drops,
        revives=revives,
        seed=seed,
    )
    result = _run(settings, out, console, quiet=quiet, engine=engine)
    if not quiet:
        _summary(result, out, console)
    if not result.exact:
        _fail("a round's sum was not exact: see result.json", INEXACT)


@app.command()
def params(
    protocol: Annotated[str, typer.Argument(help="lattice or committee")],
    clients: Annotated[int, typer.Option(help="most clients in a sum")] = 100,
    bits: Annotated[int, typer.Option(help="bits of a value's sum")] = 32,
    length: Annotated[int, typer.Option(help="values in a vector")] = 10**6,
) -> None:
    """Ring, packing, bytes a value, and the noise budget, for so many clients."""
    from fl.params import show  # noqa: PLC0415

    show(protocol, clients, bits, length, Console(highlight=False))


def _mount_benchmarks() -> None:
    """`secagg bench` runs from a checkout: benchmarks/ is not part of an installation."""
    root = Path(__file__).parent.parent
    if (root / "benchmarks" / "cli.py").exists():
        sys.path.insert(0, str(root))
        app.add_typer(import_module("benchmarks.cli").bench, name="bench")


def main() -> None:
    """The entry point: errors of this project are one sentence, anything else is a bug."""
    from fl.kernel_cache import use_private_cache  # noqa: PLC0415
    from secagg.errors import SecaggError  # noqa: PLC0415

    _mount_benchmarks()
    try:
        use_private_cache()
        code = app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except SecaggError as error:
        _fail(str(error), REFUSED)
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        _fail("stopped; no process is left", INTERRUPTED)
    sys.exit(code)


def _settings(engine: str, **options: object) -> "Settings":
    from fl.demo.engines import with_defaults  # noqa: PLC0415
    from fl.settings import Settings  # noqa: PLC0415

    return Settings(**with_defaults(engine, options))


def _run(
    settings: "Settings", out: Path, console: Console, *, quiet: bool, engine: str
) -> "DemoResult":
    from fl.demo.run import run_demo  # noqa: PLC0415

    return run_demo(settings, out, console, quiet=quiet, engine=engine)


def _drops(options: list[str]) -> dict[str, int]:
    drops: dict[str, int] = {}
    for option in options:
        stage, _, count = option.partition("=")
        if not count.isdecimal():
            raise typer.BadParameter(f"{option!r}: write STAGE=K, for example upload=2")
        drops[stage] = drops.get(stage, 0) + int(count)
    return drops


def _summary(result: "DemoResult", out: Path, console: Console) -> None:
    curves = result.accuracy
    alone = sum(curves.alone) / len(curves.alone)
    killed = sum(len(each.dropped) for each in result.rounds)
    sums = "every sum exact" if result.compared else "every mean as in clear but for rounding"
    console.print(
        f"\naccuracy [bold]{curves.secure[-1]:.3f}[/] secure, {curves.plain[-1]:.3f} in clear, "
        f"{alone:.3f} for a client alone\n"
        f"{len(result.rounds)} rounds, {killed} dropouts, "
        f"{sums if result.exact else '[red]a sum was NOT exact[/]'}, "
        f"{result.seconds:.0f} s\n"
        f"report: {out / 'report.html'}",
        highlight=False,
        soft_wrap=True,
    )


def _fail(message: str, code: int) -> None:
    Console(stderr=True).print(
        f"[red]secagg:[/] {escape(message)}", highlight=False, markup=True, soft_wrap=True
    )
    sys.exit(code)
