"""The demo, end to end: federation, baselines, checks, result and report."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rich.console import Console

from fl.demo.result import Collector, DemoResult
from fl.demo.view import View
from fl.models import to_vector
from fl.runner.federation import Event, Federation, Lost, Seen
from fl.runner.pool import Pool
from fl.settings import Settings


def run_demo(settings: Settings, out: Path, console: Console, *, quiet: bool) -> DemoResult:
    """Run `settings`, show it, and write `result.json`, `report.html` and `picture.png`."""
    view = None if quiet else View(settings, console)
    began = time.perf_counter()
    scope: AbstractContextManager[object] = view or nullcontext()
    with scope:
        show = view.show if view else _ignore
        result, seen, killed = _federate(settings, show, began)
        if view:
            view.doing("writing the report")
        out.mkdir(parents=True, exist_ok=True)
        result.write(out / "result.json")
        _report(result, seen, settings, out, killed)
    return result


def _federate(
    settings: Settings, show: Callable[[Event], None], began: float
) -> tuple[DemoResult, Seen | None, int]:
    """The result, one client's first update, and how many processes were killed."""
    killed = 0
    with Pool(settings, observed=True) as pool:
        federation = Federation(settings, pool, observed=True)
        collector = Collector(settings, to_vector(federation.model).size)
        for event in _events(federation):
            collector.add(event)
            killed += isinstance(event, Lost) and event.killed
            show(event)
        seen = federation.evidence()
    return collector.result(time.perf_counter() - began), seen, killed


def _events(federation: Federation) -> Iterator[Event]:
    yield from federation.rounds()
    yield from federation.alone()


def _report(
    result: DemoResult, seen: Seen | None, settings: Settings, out: Path, killed: int
) -> None:
    from fl.demo.picture import expose  # noqa: PLC0415 - matplotlib takes a second to import
    from fl.demo.report import write_report  # noqa: PLC0415

    exposure = expose(seen, settings) if seen else None
    write_report(result, exposure, out, killed=killed, command=settings.command)


def _ignore(_event: Event) -> None:
    """With --quiet nothing is shown."""
