"""The demo, end to end: federation, baselines, checks, result and report."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace
from rich.console import Console

from fl.demo.engines import FLOWER, LOCAL
from fl.demo.result import Collector, DemoResult
from fl.demo.view import View
from fl.models import to_vector
from fl.runner.events import Event, Lost, Seen
from fl.runner.federation import Federation
from fl.runner.pool import Pool
from fl.settings import Settings

if TYPE_CHECKING:
    from fl.demo.flower_engine import FlowerFederation


def run_demo(
    settings: Settings, out: Path, console: Console, *, quiet: bool, engine: str = LOCAL
) -> DemoResult:
    """Run `settings`, show it, and write `result.json`, `report.html` and `picture.png`."""
    federate = _federate if engine == LOCAL else _federate_on_flower
    view = None if quiet else View(settings, console)
    began = time.perf_counter()
    scope: AbstractContextManager[object] = view or nullcontext()
    with scope:
        show = view.show if view else _ignore
        result, seen, killed = federate(settings, show, began)
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
    with Pool(settings, observed=True) as pool:
        federation = Federation(settings, pool, observed=True)
        collector = Collector(settings, to_vector(federation.model).size)
        killed = _collect(federation, collector, show)
        seen = federation.evidence()
    return collector.result(time.perf_counter() - began), seen, killed


def _federate_on_flower(
    settings: Settings, show: Callable[[Event], None], began: float
) -> tuple[DemoResult, Seen | None, int]:
    """The same on a SuperLink with SuperNodes."""
    from fl.demo.flower_engine import FlowerFederation, flower_version  # noqa: PLC0415 - an extra

    with FlowerFederation(settings) as federation:
        collector = Collector(settings, federation.model.size)
        killed = _collect(federation, collector, show)
        seen = federation.evidence()
    result = collector.result(time.perf_counter() - began)
    versions = {**result.versions, "flwr": flower_version()}
    return replace(result, engine=FLOWER, versions=versions), seen, killed


def _collect(
    federation: "Federation | FlowerFederation",
    collector: Collector,
    show: Callable[[Event], None],
) -> int:
    """Run it all; how many processes were killed."""
    killed = 0
    for event in chain(federation.rounds(), federation.alone()):
        collector.add(event)
        killed += isinstance(event, Lost) and event.killed
        show(event)
    return killed


def _report(
    result: DemoResult, seen: Seen | None, settings: Settings, out: Path, killed: int
) -> None:
    from fl.demo.picture import expose  # noqa: PLC0415 - matplotlib takes a second to import
    from fl.demo.report import write_report  # noqa: PLC0415

    exposure = expose(seen, settings) if seen else None
    command = settings.command + (" --engine flower" if result.engine == FLOWER else "")
    write_report(result, exposure, out, killed=killed, command=command)


def _ignore(_event: Event) -> None:
    """With --quiet nothing is shown."""
