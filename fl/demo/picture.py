"""What an update gives away: one client's records as they come back out of its update, once
from the update in clear and once from what the server received.

The attack is `fl.inversion` both times, and it is helped as much as can be: it is told the
client's weight, of its guesses the one that comes closest to the true record is shown, and
its PSNR is that after the best scale and offset. `chance` is what the same help makes of
uniform noise; a score of that size means that nothing was learned.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from fl.data import DataSet, Silo, load_silo
from fl.inversion import Match, candidates, closest, one_record_update, psnr
from fl.models import Vector, build, signature
from fl.runner.events import Seen
from fl.settings import Settings
from fl.training import configure, train
from fl.updates import encode_update
from protocols.driver import run
from secagg.codec import decode
from secagg.packing import unpack
from secagg.rng import SystemSource

Array = NDArray[np.float64]

SHOWN = 6
RECOVERED = 0.9
"""A correlation from which on a record counts as recovered: the eye sees no difference."""
PICTURE_CLIENTS = 4
VICTIM = 1
_UPLOAD = "upload"


@dataclass(frozen=True)
class Guess:
    """The guess (features,) closest to a record, their correlation, and its fitted PSNR in dB."""

    values: Array
    correlation: float
    psnr: float


@dataclass(frozen=True)
class Reading:
    """One record (features,) and what the attack made of it."""

    record: Array
    clear: Guess
    received: Guess


@dataclass(frozen=True)
class Scores:
    """The best correlation with each of the client's records, (records,) each."""

    clear: Array
    received: Array
    chance: Array


@dataclass(frozen=True)
class Exposure:
    """One client's update, as it was and as the server received it, and what both give away.

    clear, received: (d,); layer: (units, features) of the first weights, at the start of both;
    readings: the records that the clear update gives away best; one_record: the same protocol
    with a client that holds a single record; seed: of the model and the training.
    """

    dataset: DataSet
    protocol: str
    client: str
    clients: int
    seed: int
    clear: Array
    received: Array
    layer: tuple[int, int]
    readings: tuple[Reading, ...]
    scores: Scores
    one_record: Reading

    def layer_of(self, vector: Array) -> Array:
        """The first layer's weights in `vector`: (units, features)."""
        units, features = self.layer
        return vector[: units * features].reshape(self.layer)


def expose(seen: Seen, settings: Settings) -> Exposure:
    """The exposure of the client that `seen` is about, in the federation of `settings`."""
    clear = np.frombuffer(seen.clear.update, "<f4").astype(np.float64)
    records = np.frombuffer(seen.clear.records, "<f4").reshape(-1, settings.dataset.features)
    received = as_if_clear(seen.received, len(clear), len(records), settings)
    exposure = _expose(clear, received, records.astype(np.float64), settings)
    return replace(exposure, client=settings.roster[seen.clear.client - 1])


def digits_picture(seed: int, protocol: str = "masking") -> Exposure:
    """The same on images, for the eye: one session of four clients in memory, first round."""
    configure(threads=1)
    settings = Settings(
        "digits", protocol, "X25519", clients=PICTURE_CLIENTS, rounds=1, seed=abs(seed)
    )
    silos = _silos(settings)
    updates = {who: _trained(settings, silo) for who, silo in silos.items()}
    weights = {who: len(silo.y) for who, silo in silos.items()}
    message = _session(settings, updates, weights)
    clear, records = updates[VICTIM].astype(np.float64), silos[VICTIM].x.astype(np.float64)
    received = as_if_clear(message, len(clear), len(records), settings)
    return _expose(clear, received, records, settings)


def as_if_clear(message: bytes, length: int, weight: int, settings: Settings) -> Array:
    """The protocol message of one client read as its encoded update: (length,).

    The longest byte string in it is taken for the packed vector, and decoded with the
    client's true `weight`. What is missing at the end is zero.
    """
    bits, encoding = settings.encoding.modulus_bits, settings.encoding
    packed = max(_byte_strings(decode(message, list)), key=len)
    whole = 8 * len(packed) // bits
    words = unpack(packed[: -(-whole * bits // 8)], bits, whole)[:length]
    values: Array = np.zeros(length)
    values[: len(words)] = words / (weight * encoding.scale) - encoding.clip
    return values


def _byte_strings(value: object) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _byte_strings(each)


def _expose(clear: Array, received: Array, records: Array, settings: Settings) -> Exposure:
    kind = signature(build(settings.dataset.widths, settings.seed))
    guesses = [
        candidates(vector, kind) for vector in (clear, received, _noise(clear, records, settings))
    ]
    by_clear, by_received, by_chance = ([closest(g, r[None]) for r in records] for g in guesses)
    chosen = islice(_most_exposed(by_clear), SHOWN)
    return Exposure(
        dataset=settings.dataset,
        protocol=settings.protocol,
        client=settings.roster[VICTIM - 1],
        clients=len(settings.roster),
        seed=settings.seed,
        clear=clear,
        received=received,
        layer=(settings.dataset.widths[1], settings.dataset.features),
        readings=tuple(
            Reading(
                records[i],
                _guess(records[i], guesses[0], by_clear[i]),
                _guess(records[i], guesses[1], by_received[i]),
            )
            for i in chosen
        ),
        scores=Scores(_scores(by_clear), _scores(by_received), _scores(by_chance)),
        one_record=_one_record(settings),
    )


def _noise(clear: Array, records: Array, settings: Settings) -> Array:
    """What `as_if_clear` would make of words that are uniform: the yardstick for `received`."""
    encoding, steps = settings.encoding, 2.0**settings.encoding.modulus_bits
    top = steps / (len(records) * encoding.scale) - encoding.clip
    return np.random.default_rng(0).uniform(-encoding.clip, top, len(clear))


def _most_exposed(matches: list[Match]) -> Iterator[int]:
    """Records by how well they come back, each from a unit of its own."""
    used: set[int] = set()
    for i in sorted(range(len(matches)), key=lambda i: -matches[i].correlation):
        if matches[i].unit not in used:
            used.add(matches[i].unit)
            yield i


def _guess(record: Array, guesses: Array, match: Match) -> Guess:
    values = guesses[match.unit]
    return Guess(values, match.correlation, psnr(record, _fitted(record, values)))


def _fitted(record: Array, values: Array) -> Array:
    """`values` with the scale and offset that bring them closest to `record`."""
    centred = (values - values.mean()) / (np.abs(values).max() or 1.0)
    slope = (centred @ (record - record.mean())) / (centred @ centred or 1.0)
    fitted: Array = record.mean() + slope * centred
    return fitted


def _scores(matches: list[Match]) -> Array:
    return np.array([match.correlation for match in matches])


def _one_record(settings: Settings) -> Reading:
    """A session in memory in which each client holds one record and takes one step."""
    silos, lr = _silos(settings), settings.dataset.training.lr
    model = build(settings.dataset.widths, settings.seed)
    updates = {w: one_record_update(model, s.x[0], s.y[:1], lr) for w, s in silos.items()}
    message = _session(settings, updates, dict.fromkeys(updates, 1))
    clear, record = updates[VICTIM].astype(np.float64), silos[VICTIM].x[0].astype(np.float64)
    received = as_if_clear(message, len(clear), 1, settings)
    by_clear, by_received = (candidates(v, signature(model)) for v in (clear, received))
    return Reading(
        record,
        _guess(record, by_clear, closest(by_clear, record[None])),
        _guess(record, by_received, closest(by_received, record[None])),
    )


def _silos(settings: Settings) -> dict[int, Silo]:
    n = len(settings.roster)
    return {i + 1: load_silo(settings.data, i, seed=settings.seed, clients=n) for i in range(n)}


def _trained(settings: Settings, silo: Silo) -> Vector:
    """The update of a client's first round, with the catalogue's settings."""
    about = settings.dataset.training
    return train(
        build(settings.dataset.widths, settings.seed),
        silo.x,
        silo.y,
        epochs=about.epochs,
        lr=about.lr,
        batch_size=about.batch_size,
        seed=settings.seed,
    )


def _session(
    settings: Settings, updates: Mapping[int, Vector], weights: Mapping[int, int]
) -> bytes:
    """Run the protocol in memory and return the upload of the victim, as the server got it."""
    source = SystemSource()
    settings = replace(settings, adversary="semi-honest")  # uploads are masked alike
    session = settings.session(source.seed(), len(updates[VICTIM]), None)
    inputs = {
        who: encode_update(update, weights[who], settings.encoding, source).words
        for who, update in updates.items()
    }
    sent = run(settings.machines, session, inputs, source).transcript
    return next(e.data for e in sent if e.sender == VICTIM and e.stage == _UPLOAD)
