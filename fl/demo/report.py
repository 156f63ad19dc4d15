"""The demo's page: one HTML file that loads nothing, and the picture for the README beside it.

Every number on it is read off the result or the exposure. Where there is none (a round that
was aborted, a score that was not taken) the page says so.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from fl.demo.engines import as_in_clear
from fl.demo.picture import RECOVERED, Array, Exposure, Guess, digits_picture
from fl.demo.result import DemoResult, Round
from protocols.registry import entry
from secagg.packing import packed_bytes

PAGE, PICTURE = "report.html", "picture.png"
NOTHING = "–"
MARGIN = 0.25
"""How far above uniform noise a correlation must be to count as a record given away."""
_COLOURS = 6  # the stage colours in the template


class Written(NamedTuple):
    """Where the report and its picture are."""

    report: Path
    picture: Path


class Said(NamedTuple):
    """A sentence of the first screen; mood is `good`, `bad` or empty."""

    title: str
    text: str
    mood: str = ""


class Figure(NamedTuple):
    """A headline number."""

    label: str
    value: str
    more: str


class Stage(NamedTuple):
    """A stage's name, its mark and colour in the grid, and how many clients it lost."""

    name: str
    mark: str
    colour: int
    lost: int


class Cell(NamedTuple):
    """One client in one round."""

    round: int
    style: str
    mark: str
    what: str
    then: str = ""


class Panel(NamedTuple):
    """An exposure, and what is said of it; hidden: whether its protocol claims to hide."""

    exposure: Exposure
    this_run: bool
    hidden: bool
    verdict: Said
    leakage: Any


def write_report(
    result: DemoResult,
    exposure: Exposure | None,
    out: Path,
    *,
    images: Exposure | None = None,
    killed: int | None = None,
    command: str = "",
) -> Written:
    """Write `report.html` and `picture.png` into `out`.

    exposure: of a client of this run, None without evidence; images: the same on images, made
    here unless the run itself was on images; killed: processes that were really killed, where
    the caller counted; command: what was typed, if it differs from what the result implies.
    """
    from fl.demo.plots import picture  # noqa: PLC0415 - matplotlib takes a second to import

    if images is None and exposure is not None and exposure.dataset.name == "digits":
        shown = exposure
    else:
        shown = images = images or digits_picture(result.seed, result.protocol)
    written = Written(out / PAGE, out / PICTURE)
    page = render(result, exposure, images=images, killed=killed, command=command)
    written.report.write_text(page, "utf-8")
    written.picture.write_bytes(picture(shown))
    return written


def render(
    result: DemoResult,
    exposure: Exposure | None,
    *,
    images: Exposure | None = None,
    killed: int | None = None,
    command: str = "",
) -> str:
    """The page; as `write_report`, with the pictures that are given and no others."""
    exposures, stages = [each for each in (exposure, images) if each], stages_of(result)
    about = entry(result.protocol)
    page: str = _template().render(
        result=result,
        title=_title(result),
        story=[_what_ran(result, killed), _what_was_learned(result), was_exact(result)],
        figures=list(_figures(result, killed)),
        panels=[_panel(each, each is exposure) for each in exposures],
        columns=max((len(each.readings) for each in exposures), default=1),
        plots=_plots(result, stages),
        ahead=ahead_of_alone(result),
        vector_bytes=f"{_vector_bytes(result) / result.model_parameters:.2f}",
        stages=stages,
        grid=[_grid_row(result, who, stages) for who in range(1, result.clients + 1)],
        rows=[_row(result, i) for i in range(len(result.rounds))],
        hidden=_hides(result.protocol),
        kind=kind_of(result),
        needs=_needs(result),
        active=result.adversary == "active",
        summary=about.summary,
        post_quantum="MLKEM" in result.suite,
        command=command or implied_command(result),
    )
    return page


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("fl.demo"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(tile=_tile, heat_map=_heat, measures=_measures)
    return environment.get_template("report.html.j2")


def _needs(result: DemoResult) -> str:
    """What must hold for the hiding."""
    if result.adversary == "active":
        return "two honest clients in every sum, and a roster of identity keys that is right"
    return entry(result.protocol).needs


def implied_command(result: DemoResult) -> str:
    """The command line that runs the same federation with the default script of kills."""
    suite = f" --suite {result.suite}" if result.suite else ""
    suite += " --adversary active" if result.adversary == "active" else ""
    suite += "" if result.engine == "local" else f" --engine {result.engine}"
    return (
        f"secagg demo --data {result.dataset.name} --protocol {result.protocol}{suite} "
        f"--clients {result.clients} --rounds {len(result.rounds)} --seed {result.seed}"
    )


# The first screen


def _title(result: DemoResult) -> tuple[str, str]:
    saw = "none" if _hides(result.protocol) else "all"
    return f"{result.clients} clients trained one model.", f"The server saw {saw} of their updates."


def _what_ran(result: DemoResult, killed: int | None) -> Said:
    suite = f" and suite {result.suite}" if result.suite else ""
    return Said(
        "What was run",
        f"{result.clients} processes, each alone with its records, trained a model of "
        f"{result.model_parameters:,} parameters on {result.dataset.name} over "
        f"{_many(len(result.rounds), 'round')} with protocol {result.protocol}{suite}; "
        f"{_losses(result, killed)}{_back(result)}.",
    )


def _losses(result: DemoResult, killed: int | None) -> str:
    if killed is not None:
        return f"a process was killed {_times(killed)}" if killed else "none was killed"
    lost = sum(len(each.dropped) for each in result.rounds)
    return f"a client dropped out {_times(lost)}" if lost else "none dropped out"


def _back(result: DemoResult) -> str:
    finished = sum(back.client in each.uploaded for each in result.rounds for back in each.revived)
    return f", and came back in time to be in the sum {_times(finished)}" if finished else ""


def _what_was_learned(result: DemoResult) -> Said:
    about, title = entry(result.protocol), "What the server learned"
    if not _hides(result.protocol):
        text = f"Every client's update, in clear: protocol {result.protocol} hides nothing"
        return Said(title, f"{text} and needs {about.needs}.", "bad")
    return Said(
        title,
        "In each round the sum of the updates and who is in it, and no single update, weight or "
        f"sample count, given {_needs(result)}; a sum here has {result.threshold} clients or more.",
        "good",
    )


def was_exact(result: DemoResult) -> Said:
    """Whether every sum was exact, by the auditor's word."""
    title, summed = "Was the sum exact?", [each for each in result.rounds if _has_sum(each)]
    without = [each for each in result.rounds if not _has_sum(each)]
    wrong = [each for each in summed if each.max_abs_error]
    unknown = [each for each in summed if each.max_abs_error is None]
    rest = f" {_rounds(without)} gave no sum and left the model as it was." if without else ""
    if not summed:
        reasons = "; ".join(dict.fromkeys(each.aborted for each in without))
        return Said(title, f"No round gave a sum: {reasons}.", "bad")
    if wrong:
        worst = max(each.max_abs_error or 0 for each in wrong)
        text = f"No: it was off in {_rounds(wrong).lower()}, by up to {worst} steps.{rest}"
        return Said(title, text, "bad")
    if unknown and not result.compared:
        far = max(each.quantisation_error or 0.0 for each in summed)
        return Said("Was the sum right?", as_in_clear(far) + rest, "" if without else "good")
    if unknown:
        return Said(title, f"Not known: nobody checked {_rounds(unknown).lower()}.{rest}")
    where = f"all {len(summed)} rounds" if len(summed) > 1 else "the only round"
    where += " that gave one" if without else ""
    text = f"Yes, in {where}: it equals the sum of what the clients in it had encoded, bit for bit."
    return Said(title, text + rest, "" if without else "good")


def _figures(result: DemoResult, killed: int | None) -> Iterator[Figure]:
    secure, plain, alone = result.accuracy.secure, result.accuracy.plain, result.accuracy.alone
    auc = {name: _last(values) for name, values in result.auc.items() if name != "alone"}
    yield Figure(
        f"Accuracy, {kind_of(result)}", _share(secure[-1:]), f"AUC {_auc(auc.get('secure'))}"
    )
    yield Figure("Accuracy, in clear", _share(plain[-1:]), f"AUC {_auc(auc.get('plain'))}")
    spread = f"{_share([min(alone)])} to {_share([max(alone)])}" if alone else "not taken"
    yield Figure("Accuracy, alone (mean)", _share(alone), spread)
    gap = max_gap(result)
    text = NOTHING if gap is None else f"{gap:.2f} points"
    yield Figure("Largest gap to in clear", text, "of accuracy, over all rounds")
    sent = mean_bytes(result)
    parts = (sent / result.model_parameters, _vector_bytes(result) / result.model_parameters)
    per = "{:.2f} bytes a parameter, {:.2f} of them the vector".format(*parts)
    yield Figure("A client sends a round", f"{sent / 1000:.1f} kB", per)
    lost = sum(len(each.dropped) for each in result.rounds)
    label = "Clients dropped" if killed is None else "Processes killed"
    yield Figure(label, str(lost if killed is None else killed), "over all rounds")
    lossy = [each for each in result.rounds if each.dropped or not _has_sum(each)]
    good = [0] if result.compared else [None]
    saved = sum(each.max_abs_error in good and _has_sum(each) for each in lossy)
    kind = "exact" if result.compared else "right"
    yield Figure("Rounds with losses", f"{saved} of {len(lossy)}", f"still gave the {kind} sum")
    yield Figure("The whole demo", f"{result.seconds:.1f} s", "baselines included")


def kind_of(result: DemoResult) -> str:
    """What to call the run's own curve: only a protocol that hides something is secure."""
    return "secure" if _hides(result.protocol) else f"protocol {result.protocol}"


def max_gap(result: DemoResult) -> float | None:
    """max over the rounds of |secure − in clear|, in percentage points."""
    pairs = zip(result.accuracy.secure, result.accuracy.plain, strict=False)
    return max((100 * abs(secure - plain) for secure, plain in pairs), default=None)


def mean_bytes(result: DemoResult) -> float:
    """Bytes that a client in the sum sent in a round, mean over the rounds that have one."""
    sent = [each.upload_bytes for each in result.rounds if _has_sum(each)]
    return sum(sent) / len(sent) if sent else 0.0


# The pictures


def _panel(exposure: Exposure, this_run: bool) -> Panel:
    from fl.demo.plots import leakage  # noqa: PLC0415

    hidden, name = _hides(exposure.protocol), "run" if this_run else "images"
    plot = leakage(exposure.scores, name, plain=not hidden)
    return Panel(exposure, this_run, hidden, _verdict(exposure), plot)


def _verdict(exposure: Exposure) -> Said:
    """What the server could recover, by the numbers and not by the protocol's name."""
    scores = exposure.scores
    clear, received = (int((each >= RECOVERED).sum()) for each in (scores.clear, scores.received))
    best, chance = (float(each.max()) for each in (scores.received, scores.chance))
    text = (
        f"From the update in clear, {clear} of {len(scores.clear)} records come back with "
        f"r ≥ {RECOVERED}; the best reaches r = {scores.clear.max():.3f}. "
        "From what the server got, "
    )
    if best > chance + MARGIN:
        text += f"{received} come back (best r = {best:.3f}): it gives records away."
        return Said("", text, "bad")
    text += f"{received or 'none'}: the best is r = {best:.2f}, and uniform noise reaches "
    return Said("", f"{text}{chance:.2f}.", "good")


def _measures(guess: Guess) -> str:
    return f"r = {guess.correlation:.2f}, {guess.psnr:.0f} dB"


def _tile(exposure: Exposure, values: Array) -> str:
    from fl.demo.plots import tile, tile_palette  # noqa: PLC0415

    return tile(values, exposure.dataset.picture, tile_palette(exposure))


def _heat(exposure: Exposure, vector: Array) -> str:
    from fl.demo.plots import heat_map  # noqa: PLC0415

    return heat_map(exposure, vector)


# The rounds


def stages_of(result: DemoResult) -> list[Stage]:
    """The stages in order: those of the longest round, then any that only a loss names."""
    timed = max((list(each.stage_seconds) for each in result.rounds), key=len, default=[])
    lost = Counter(drop.stage for each in result.rounds for drop in each.dropped)
    names = timed + [stage for stage in lost if stage not in timed]
    return [Stage(name, name[:2], i % _COLOURS, lost[name]) for i, name in enumerate(names)]


def _grid_row(result: DemoResult, who: int, stages: Sequence[Stage]) -> dict[str, Any]:
    names = result.dataset.silos
    name = names[who - 1] if who <= len(names) else f"client {who}"
    return {"name": name, "cells": [_cell(each, who, stages) for each in result.rounds]}


def _cell(each: Round, who: int, stages: Sequence[Stage]) -> Cell:
    lost = {drop.client: drop.stage for drop in each.dropped}.get(who)
    stage = next((stage for stage in stages if stage.name == lost), None)
    there = who in each.uploaded
    if there and stage:
        what = f"in the sum, dropped at {stage.name} afterwards"
        return Cell(each.round, f"in s{stage.colour}", "●", what, stage.mark)
    if there:
        return Cell(each.round, "in", "●", "in the sum")
    if stage:
        return Cell(each.round, f"s{stage.colour}", stage.mark, f"dropped at {stage.name}")
    return Cell(each.round, "none", NOTHING, "no sum" if each.aborted else "not in the sum")


def _row(result: DemoResult, index: int) -> dict[str, str | bool]:
    each, curves = result.rounds[index], result.accuracy
    gone = [f"{drop.client} ({drop.stage})" for drop in each.dropped]
    back = [f"{back.client} ({back.stage}, and back)" for back in each.revived]
    dropped = ", ".join(gone + back)
    return {
        "round": str(each.round),
        "uploaded": f"{len(each.uploaded)} of {result.clients}",
        "dropped": f"no sum: {each.aborted}" if each.aborted else dropped or NOTHING,
        "error": NOTHING if each.max_abs_error is None else str(each.max_abs_error),
        "wrong": bool(each.max_abs_error),
        "quantisation": NOTHING if each.quantisation_error is None else _small(each),
        "clipped": str(each.clipped),
        "bytes": f"{each.upload_bytes:,.0f}" if _has_sum(each) else NOTHING,
        "seconds": f"{sum(each.stage_seconds.values()):.2f}",
        "secure": _share(curves.secure[index : index + 1]),
        "plain": _share(curves.plain[index : index + 1]),
    }


def _plots(result: DemoResult, stages: Sequence[Stage]) -> dict[str, Any]:
    from fl.demo import plots  # noqa: PLC0415

    return {
        "accuracy": plots.accuracy(result, kind_of(result)),
        "seconds": plots.seconds(result, [stage.name for stage in stages]),
        "traffic": plots.traffic(result, _vector_bytes(result)),
        "quantisation": plots.quantisation(result),
    }


def ahead_of_alone(result: DemoResult) -> float | None:
    """Points of accuracy by which the federation ends above the mean of the clients alone."""
    secure, alone = result.accuracy.secure, result.accuracy.alone
    return 100 * (secure[-1] - float(np.mean(alone))) if secure and alone else None


# Words


def _hides(protocol: str) -> bool:
    return entry(protocol).hides != "nothing"


def _has_sum(each: Round) -> bool:
    return bool(each.uploaded) and not each.aborted


def _vector_bytes(result: DemoResult) -> int:
    return packed_bytes(result.model_parameters, result.modulus_bits)


def _rounds(rounds: Sequence[Round]) -> str:
    numbers = ", ".join(str(each.round) for each in rounds)
    return f"Round {numbers}" if len(rounds) == 1 else f"Rounds {numbers}"


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _share(values: Sequence[float]) -> str:
    return f"{100 * float(np.mean(values)):.1f} %" if len(values) else NOTHING


def _last(values: Sequence[float | None]) -> float | None:
    return values[-1] if values else None


def _auc(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def _small(each: Round) -> str:
    from fl.demo.plots import scientific  # noqa: PLC0415

    return scientific(each.quantisation_error or 0.0)
