"""Images that come back, next to the originals."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.security import imprint, inversion
from benchmarks.security.learning import digits
from benchmarks.security.targets import Target, targets
from benchmarks.security.views import Floats

SHOWN = 10


@dataclass(frozen=True)
class Strip:
    """A row of images (SHOWN, 64), and what it is."""

    label: str
    images: Floats
    scores: Floats | None = None


@dataclass(frozen=True)
class Picture:
    """Rows under a title; `name` is its file."""

    name: str
    title: str
    about: str
    strips: tuple[Strip, ...]


def pictures() -> tuple[Picture, ...]:
    """All pictures of the page, through real sessions."""
    known = {target.name: target for target in targets()}
    clear, masked = known["plain"], known["masking, active"]
    return (_inversion(clear, masked), _imprint(masked))


def _inversion(clear: Target, masked: Target) -> Picture:
    originals, _ = inversion.records(SHOWN)
    strips = [Strip("originals", originals.astype(np.float64))]
    strips.append(_scored("from a clear update", *inversion.messages(clear, SHOWN)))
    for n in (2, 10, 50):
        found = inversion.sums(masked, n, max(1, SHOWN // n), 0.0)
        strips.append(_scored(f"from the sum of {n}", *found))
    strips.append(_scored("from a masked vector", *inversion.messages(masked, SHOWN)))
    noisy = inversion.sums(masked, 10, 1, inversion.SIGMA)
    strips.append(_scored("sum of 10, clip + noise", *noisy))
    return Picture(
        "inversion",
        "One image a client, one step: what comes back",
        "Ten clients, one digit each. The division of the first layer's rows by its bias is done "
        "on one client's update in clear, on sums that masking gave to the server, and on one "
        "masked vector as it was sent. Of all guesses the one closest to the original is shown, "
        "with its PSNR in dB; above 30 the eye sees no difference.",
        tuple(strips),
    )


def _imprint(masked: Target) -> Picture:
    (x, _), _ = digits()
    strips = [Strip("originals", x[:SHOWN].astype(np.float64))]
    for clients, label in ((1, "1 client, 1 empty"), (10, "the sum of 10")):
        images, scores = imprint.sampled(masked, clients)
        strips.append(_scored(label, images, scores))
    images, scores = imprint.sampled(masked, 10, 0.1)
    strips.append(_scored("sum of 10, clip + noise", images, scores))
    return Picture(
        "imprint",
        "A malicious model sent to all: what the sum gives away",
        "Everybody got the same model, whose first layer sorts images by brightness; each client "
        "has eight. The sums are those of active mode: binding to the model does not help here. "
        "The first row of one client ends after its eight images.",
        tuple(strips),
    )


def _scored(label: str, images: Floats, scores: Floats) -> Strip:
    return Strip(label, images[:SHOWN], scores[:SHOWN])


def draw(picture: Picture) -> bytes:
    """The picture as PNG."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("agg")
    from matplotlib.figure import Figure  # noqa: PLC0415

    rows = picture.strips
    figure = Figure(figsize=(9.6, 0.95 * len(rows)), dpi=150)
    grid = figure.subplots(len(rows), SHOWN, squeeze=False)
    low, high = np.percentile(rows[0].images, [1, 99])
    for axes_row, strip in zip(grid, rows, strict=True):
        for i, axes in enumerate(axes_row):
            axes.set(xticks=[], yticks=[])
            for side in axes.spines.values():
                side.set_visible(False)
            if i < len(strip.images):
                image = strip.images[i].reshape(8, 8)
                axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
                if strip.scores is not None:
                    axes.set_xlabel(f"{strip.scores[i]:.0f}", fontsize=7, labelpad=2)
        axes_row[0].set_ylabel(
            strip.label, rotation=0, ha="right", va="center", fontsize=9, labelpad=8
        )
    figure.subplots_adjust(left=0.2, right=0.995, top=0.99, bottom=0.05, hspace=0.3, wspace=0.06)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def data_uri(png: bytes) -> str:
    """For a page that loads nothing."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def write(folder: Path) -> list[tuple[Picture, bytes]]:
    """All pictures as files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [(picture, draw(picture)) for picture in pictures()]
    for picture, png in drawn:
        (folder / f"{picture.name}.png").write_bytes(png)
    return drawn
