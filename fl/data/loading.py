"""Read one silo, or the public test set, from the files that ship with the package.

The file's SHA-256 is checked on every load, before a single byte is parsed. A file holds
`x` (rows, features), `y`, `silo`, `part` (0 train, 1 test, 2 neither) and the affine
`center`, `scale` that was fixed at conversion from training rows only; records are handed
out as (x − center) / scale, kept within ±5 standard deviations.
"""

import hashlib
import io
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

import numpy as np
from numpy.typing import NDArray

from fl.data.catalogue import CATALOGUE, DataSet
from secagg.errors import ParameterError, SecaggError

TRAIN, TEST, NEITHER = 0, 1, 2
_LEAST_RECORDS = 8
_FARTHEST = 5.0

Records = NDArray[np.float32]
Labels = NDArray[np.int64]


class DataError(SecaggError):
    """A data set is unknown or its file is not the one that was published."""

    code = "data"


@dataclass(frozen=True)
class Silo:
    """What one client holds: `x` (rows, features) float32 and `y` (rows,) in [0, classes)."""

    name: str
    x: Records
    y: Labels

    def __repr__(self) -> str:
        return f"Silo({self.name!r}, rows={len(self.y)})"


@dataclass(frozen=True)
class _Table:
    x: Records
    y: Labels
    silo: Labels
    part: Labels

    def where(self, rows: NDArray[np.bool_]) -> "_Table":
        return _Table(self.x[rows], self.y[rows], self.silo[rows], self.part[rows])


def find(name: str) -> DataSet:
    """The catalogue's line for `name`; DataError names the known ones."""
    if name not in CATALOGUE:
        known = ", ".join(CATALOGUE)
        raise DataError(f"there is no data set {name!r}: choose one of {known}")
    return CATALOGUE[name]


def silo_names(name: str, clients: int | None = None) -> tuple[str, ...]:
    """Names of the clients of a federation of `clients` (None: the default number).

    Natural silos are never split, because a person in two clients would be no silo at all:
    more clients than silos are refused with ParameterError.
    """
    data = find(name)
    count = len(data.silos) if clients is None else clients
    if count < 1:
        raise ParameterError(f"a federation needs at least one client, not {count}")
    if data.dirichlet is not None:
        return tuple(f"holder {holder}" for holder in range(1, count + 1))
    if count > len(data.silos):
        raise ParameterError(
            f"{name} has {len(data.silos)} silos, so at most that many clients, not {count}: "
            f"ask for fewer, or use digits, which can be dealt to any number"
        )
    return data.silos[:count]


def load_silo(
    name: str,
    index: int,
    *,
    seed: int = 0,
    clients: int | None = None,
    folder: Traversable | None = None,
) -> Silo:
    """The training records of client `index` alone; nothing of any other client is returned.

    `seed` matters only where records are dealt out by a Dirichlet draw (digits). `folder`
    replaces the package's own files. Raises DataError (unknown name, wrong hash) or
    ParameterError (no such client).
    """
    names = silo_names(name, clients)
    if not 0 <= index < len(names):
        raise ParameterError(f"client {index} is not among the {len(names)} clients of {name}")
    table = _read(find(name), folder)
    train = table.where(table.part == TRAIN)
    mine = train.where(_owner(find(name), train, len(names), seed) == index)
    return Silo(names[index], mine.x, mine.y)


def load_test(
    name: str, *, clients: int | None = None, folder: Traversable | None = None
) -> tuple[Records, Labels]:
    """The held-out records of the silos that take part: x (rows, features), y (rows,).

    Public in the demo; no client trains on any of it. With fewer clients than natural silos,
    the test set is that of the silos that are left.
    """
    count = len(silo_names(name, clients))
    table = _read(find(name), folder)
    test = table.where((table.part == TEST) & (table.silo < count))
    return test.x, test.y


def _read(data: DataSet, folder: Traversable | None) -> _Table:
    stored = _checked_bytes(data, folder or files("fl.data") / "files")
    with np.load(io.BytesIO(stored), allow_pickle=False) as arrays:
        x = np.clip((arrays["x"] - arrays["center"]) / arrays["scale"], -_FARTHEST, _FARTHEST)
        y, silo, part = (arrays[key].astype(np.int64) for key in ("y", "silo", "part"))
    return _Table(x.astype(np.float32), y, silo, part)


def _checked_bytes(data: DataSet, folder: Traversable) -> bytes:
    file = folder / f"{data.name}.npz"
    try:
        stored = file.read_bytes()
    except OSError as error:
        raise DataError(
            f"the file of {data.name} is missing: reinstall the package, or run "
            f"python -m fl.data.convert"
        ) from error
    if hashlib.sha256(stored).hexdigest() != data.sha256:
        raise DataError(
            f"the file of {data.name} is corrupted (its SHA-256 is not {data.sha256[:16]}…): "
            f"reinstall the package"
        )
    return stored


def _owner(data: DataSet, train: _Table, clients: int, seed: int) -> Labels:
    if data.dirichlet is None:
        return train.silo
    return deal(train.y, clients, concentration=data.dirichlet, seed=seed)


def deal(y: Labels, clients: int, *, concentration: float, seed: int) -> Labels:
    """Deal records to `clients` with Dirichlet label skew: the owner (rows,) of each record.

    Each class is split in proportions drawn from Dirichlet(concentration) (Hsu, Qi and Brown,
    2019). Poor clients are then topped up from the richest, until everyone has 8 records, or
    an equal share where there are fewer. Raises ParameterError if a client would stay empty.
    """
    if clients > len(y):
        raise ParameterError(f"{len(y)} records cannot be dealt to {clients} clients: ask for less")
    random = np.random.default_rng([seed, clients])
    owner = np.empty(len(y), dtype=np.int64)
    for label in np.unique(y):
        rows = random.permutation(np.flatnonzero(y == label))
        shares = random.dirichlet(np.full(clients, concentration))
        owner[rows] = np.searchsorted(
            np.cumsum(shares)[:-1], (np.arange(len(rows)) + 0.5) / len(rows)
        )
    return _top_up(owner, clients, random)


def _top_up(owner: Labels, clients: int, random: np.random.Generator) -> Labels:
    """Move records from the richest to the poorest client until all have enough."""
    enough = min(_LEAST_RECORDS, len(owner) // clients)
    sizes = np.bincount(owner, minlength=clients)
    while sizes.min() < enough:
        poor, rich = int(sizes.argmin()), int(sizes.argmax())
        owner[random.choice(np.flatnonzero(owner == rich))] = poor
        sizes[poor] += 1
        sizes[rich] -= 1
    return owner
