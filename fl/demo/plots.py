"""The report's plots: figures as inline SVG that follows the page's colours, and small images.

Colours are written as sentinels and replaced by CSS variables, so that one figure serves light
and dark. Text stays text. Importing this imports matplotlib, which takes about a second.
"""

import io
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fl.demo.picture import RECOVERED, Exposure, Scores
from fl.demo.result import DemoResult, Round

INK, MUTED, LINE, CARD = "#010101", "#020202", "#030303", "#040404"
SECURE, PLAIN, ALONE, BAD = "#050505", "#060606", "#070707", "#080808"
STAGES = ("#090909", "#0a0a0a", "#0b0b0b", "#0c0c0c", "#0d0d0d", "#0e0e0e")
_VARIABLES = {
    **dict(zip((INK, MUTED, LINE, CARD), ("ink", "muted", "line", "card"), strict=True)),
    **dict(zip((SECURE, PLAIN, ALONE, BAD), ("secure", "plain", "alone", "bad"), strict=True)),
    **{colour: f"stage-{i}" for i, colour in enumerate(STAGES)},
}
_FONT: Any = {"font.family": ["DejaVu Sans"], "text.parse_math": False}
_STYLE: Any = {
    **_FONT,
    "svg.fonttype": "none",
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.titlelocation": "left",
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.5,
    "legend.columnspacing": 1.2,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}
_SIZE = (4.9, 2.75)
_FEW = 8
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Plot:
    """A figure as markup for the page, and what it shows in words."""

    svg: str
    alt: str


def accuracy(result: DemoResult, kind: str) -> Plot:
    """Accuracy after each round: secure, in clear, and the clients alone; who dropped when."""
    curves = result.accuracy
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(result.rounds)
        x = [each.round for each in result.rounds]
        plain = _percent(curves.plain)
        axes.plot(x, _percent(curves.secure), color=SECURE, lw=3, marker="o", ms=5, label=kind)
        axes.plot(x[: len(plain)], plain, color=PLAIN, lw=1.4, ls="--", label="in clear")
        if curves.alone:
            low, high, mean = min(curves.alone), max(curves.alone), float(np.mean(curves.alone))
            axes.axhspan(100 * low, 100 * high, color=ALONE, alpha=0.16, lw=0, zorder=0)
            dots = (0, (1, 1.2))
            axes.axhline(100 * mean, color=ALONE, lw=1.6, ls=dots, zorder=1, label="alone, mean")
        _mark_losses(axes, result.rounds)
        axes.yaxis.set_major_formatter("{x:.0f} %")
        _legend(axes)
        return Plot(_svg(figure, "accuracy"), _accuracy_alt(result, kind))


def _accuracy_alt(result: DemoResult, kind: str) -> str:
    curves = result.accuracy
    if not curves.secure:
        return "No round was run."
    said = f"Accuracy: {kind} {_of(curves.secure)}"
    if curves.plain:
        said += f", in clear {_of(curves.plain)}"
    if curves.alone:
        low, high = 100 * min(curves.alone), 100 * max(curves.alone)
        said += f", each client alone between {low:.1f} and {high:.1f} %"
    return said + "."


def _of(values: Sequence[float]) -> str:
    return f"{100 * values[0]:.1f} % after the first round and {100 * values[-1]:.1f} % at the end"


def _mark_losses(axes: Any, rounds: Sequence[Round]) -> None:
    """▼ where clients dropped and × where there was no sum, along the lower edge."""
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.16 * (high - low), high + 0.04 * (high - low))
    y = low - 0.09 * (high - low)
    lossy = [each.round for each in rounds if each.dropped and not each.aborted]
    aborted = [each.round for each in rounds if each.aborted]
    for marks, marker, label in ((lossy, "v", "clients dropped"), (aborted, "X", "no sum")):
        if marks:
            shape: dict[str, Any] = {
                "marker": marker,
                "ms": 6,
                "mec": CARD,
                "mew": 0.5,
                "ls": "none",
            }
            axes.plot(marks, [y] * len(marks), color=BAD, label=label, **shape)


def seconds(result: DemoResult, stages: Sequence[str]) -> Plot:
    """Seconds of each stage, stacked, a bar a round."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(result.rounds)
        x = [each.round for each in result.rounds]
        below = np.zeros(len(x))
        for i, stage in enumerate(stages):
            height = np.array([each.stage_seconds.get(stage, 0.0) for each in result.rounds])
            colour = STAGES[i % len(STAGES)]
            axes.bar(x, height, 0.7, below, color=colour, label=stage)
            below += height
        axes.yaxis.set_major_formatter("{x:g} s")
        _legend(axes)
        totals = ", ".join(
            f"{stage} {sum(each.stage_seconds.get(stage, 0.0) for each in result.rounds):.2f} s"
            for stage in stages
        )
        return Plot(_svg(figure, "seconds"), f"Seconds of all rounds together: {totals}.")


def traffic(result: DemoResult, vector_bytes: int) -> Plot:
    """Bytes a client sent in a round: the vector, and everything else; the clear float32 line."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(result.rounds)
        x = [each.round for each in result.rounds]
        total = np.array([each.upload_bytes for each in result.rounds]) / 1000
        vector = np.minimum(total, vector_bytes / 1000)
        axes.bar(x, vector, 0.7, color=SECURE, label="the vector")
        axes.bar(x, total - vector, 0.7, vector, color=ALONE, label="everything else")
        clear = 4 * result.model_parameters / 1000
        axes.axhline(clear, color=PLAIN, lw=1.4, ls="--", label="float32 in clear")
        axes.yaxis.set_major_formatter("{x:g} kB")
        _legend(axes)
        alt = f"A client sent {total.max(initial=0.0):.1f} kB in a round at most; "
        return Plot(_svg(figure, "traffic"), alt + f"in clear it would be {clear:.1f} kB.")


def quantisation(result: DemoResult) -> Plot:
    """What encoding cost the mean in each round."""
    known = [each for each in result.rounds if each.quantisation_error is not None]
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(result.rounds)
        x = [each.round for each in known]
        y = [float(each.quantisation_error or 0.0) for each in known]
        axes.vlines(x, 0, y, color=SECURE, lw=1.6)
        axes.plot(x, y, "o", color=SECURE, ms=5)
        axes.set_ylim(0, 1.25 * max(y, default=0.0) or 1.0)
        axes.yaxis.set_major_formatter(lambda value, _: scientific(value))
        alt = f"Largest error of a coordinate of the mean: {scientific(max(y, default=0.0))}."
        return Plot(_svg(figure, "quantisation"), alt)


def leakage(scores: Scores, name: str, plain: bool) -> Plot:
    """How many of the client's records come back how well."""
    edges = np.linspace(0, 1, 41)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots()
        kind: dict[str, Any] = {"bins": edges, "histtype": "stepfilled", "alpha": 0.75}
        label = "update in clear, and what the server got" if plain else "update in clear"
        axes.hist(np.clip(scores.clear, 0, 1), color=PLAIN, label=label, **kind)
        if not plain:
            received = np.clip(scores.received, 0, 1)
            axes.hist(received, color=SECURE, label="what the server got", **kind)
        outline: dict[str, Any] = {"bins": edges, "histtype": "step", "color": INK, "lw": 1.2}
        axes.hist(np.clip(scores.chance, 0, 1), label="uniform noise", **outline)
        axes.axvline(RECOVERED, color=MUTED, lw=1, ls=":")
        axes.set(xlim=(0, 1), xlabel="best correlation with a true record")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        _legend(axes)
        alt = (
            f"Median of the best correlation with each record: {np.median(scores.clear):.2f} from "
            f"the update in clear, {np.median(scores.received):.2f} from what the server got, "
            f"{np.median(scores.chance):.2f} from uniform noise."
        )
        return Plot(_svg(figure, f"leakage-{name}"), alt)


def _axes(rounds: Sequence[Round]) -> tuple[Figure, Any]:
    """An axis of rounds, all of them numbered up to a dozen, and bars never very wide."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    numbers = [each.round for each in rounds] or [1]
    margin = max(0.6, (_FEW - len(numbers)) / 2)
    axes.set_xlim(numbers[0] - margin, numbers[-1] + margin)
    axes.set_xticks(numbers[:: -(-len(numbers) // 12)])
    axes.set_xlabel("round")
    return figure, axes


def _legend(axes: Any) -> None:
    count = len(axes.get_legend_handles_labels()[1])
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    axes.legend(ncols=count if count <= 4 else 3, borderpad=0, handletextpad=0.5, **place)


def _percent(values: Sequence[float]) -> list[float]:
    return [100 * value for value in values]


def scientific(value: float) -> str:
    """9.3·10⁻⁸ for 9.3e-8."""
    if value == 0:
        return "0"
    digits, exponent = f"{value:.1e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits}·10{raised}"


def _svg(figure: Figure, name: str) -> str:
    """The figure as a fragment of HTML: no header, ids of its own, colours as variables."""
    raw = io.StringIO()
    silent: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(raw, format="svg", metadata=silent)
    body = raw.getvalue()
    body = body[body.index("<svg") :]
    body = re.sub(r'^<svg [^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1">', body)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", body).replace("xlink:", "")
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", body)
    return re.sub("|".join(_VARIABLES), lambda m: f"var(--{_VARIABLES[m[0]]})", body)


def heat_map(exposure: Exposure, vector: Array) -> str:
    """The first layer's weights in `vector` as a data URI: a column a unit, a row a feature."""
    return _image(exposure.layer_of(vector).T, _palette("PuOr"), centre=True)


def tile(values: Array, shape: tuple[int, int], name: str) -> str:
    """One record as a data URI, stretched to full contrast."""
    return _image(values.reshape(shape), _palette(name))


def tile_palette(exposure: Exposure) -> str:
    """Images in grey, tables of statistics in colour."""
    return "gray" if exposure.dataset.name == "digits" else "cividis"


def _palette(name: str) -> Colormap:
    return mpl.colormaps[name]


def _image(table: Array, palette: Colormap, *, centre: bool = False) -> str:
    file, silent = io.BytesIO(), cast(dict[str, str], {"Software": None})
    imsave(file, palette(_stretched(table, centre=centre)), format="png", metadata=silent)
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"


def _stretched(table: Array, *, centre: bool = False) -> Array:
    """To [0, 1]: the range, or 0.5 for the median and the 99th percentile at the ends."""
    if centre:
        middle = np.median(table)
        reach = float(np.percentile(np.abs(table - middle), 99)) or 1.0
        return np.clip((table - middle) / (2 * reach) + 0.5, 0, 1)
    span = float(np.ptp(table)) or 1.0
    stretched: Array = (table - table.min()) / span
    return stretched


def picture(exposure: Exposure) -> bytes:
    """The picture that says it all, as PNG: updates left, what they give away right."""
    count = len(exposure.readings)
    with mpl.rc_context({**_FONT, "font.size": 11.0}):
        figure = Figure(figsize=(11, 5.6), facecolor="white")
        space = {"left": 0.02, "right": 0.985, "top": 0.93, "bottom": 0.06, "hspace": 0.55}
        grid = figure.add_gridspec(
            3, count + 2, width_ratios=(4.2, 0.5, *[1] * count), wspace=0.14, **space
        )
        _draw_words(figure.add_subplot(grid[0, 0]), exposure)
        _draw_tiles(figure, grid, 0, exposure)
        _draw_row(figure, grid, 1, exposure)
        _draw_row(figure, grid, 2, exposure)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
        return file.getvalue()


_ROWS = (
    ("", "{shown} of its records", "#171c21"),
    ("its update in clear", "what a gradient inversion returns", "#b84700"),
    ("what the server gets with protocol {protocol}", "what the same inversion returns", "#005f94"),
)


def _draw_words(axes: Any, exposure: Exposure) -> None:
    axes.axis("off")
    words = f"{exposure.dataset.title}: {len(exposure.scores.clear)} records"
    axes.text(0, 0.64, words, fontsize=13, fontweight="bold", color="#171c21", va="center")
    axes.text(0, 0.34, f"of the client “{exposure.client}”, which never leave it", color="#5a6570")


def _draw_row(figure: Figure, grid: Any, row: int, exposure: Exposure) -> None:
    vector = exposure.clear if row == 1 else exposure.received
    axes = figure.add_subplot(grid[row, 0])
    axes.imshow(
        _stretched(exposure.layer_of(vector).T, centre=True),
        "PuOr",
        aspect="auto",
        interpolation="nearest",
    )
    _frame(axes, _ROWS[row][0].format(protocol=exposure.protocol), _ROWS[row][2])
    arrow = figure.add_subplot(grid[row, 1])
    arrow.axis("off")
    arrow.text(0.5, 0.5, "→", ha="center", va="center", fontsize=20, color="#5a6570")
    _draw_tiles(figure, grid, row, exposure)


def _draw_tiles(figure: Figure, grid: Any, row: int, exposure: Exposure) -> None:
    for i, reading in enumerate(exposure.readings):
        axes = figure.add_subplot(grid[row, i + 2], anchor="N")
        guess = (None, reading.clear, reading.received)[row]
        values = reading.record if guess is None else guess.values
        axes.imshow(_stretched(values.reshape(exposure.dataset.picture)), tile_palette(exposure))
        title = _ROWS[row][1].format(shown=len(exposure.readings)) if i == 0 else ""
        _frame(axes, title, _ROWS[row][2])
        if guess is not None:
            axes.set_xlabel(f"r = {guess.correlation:.2f}", fontsize=10, color="#5a6570")


def _frame(axes: Any, title: str, colour: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, loc="left", fontsize=12, color=colour)
    for side in axes.spines.values():
        side.set_visible(False)
