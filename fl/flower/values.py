"""Records to a vector and back: everything a client reports travels inside the sum.

A client's vector is its update (new - received, each array in units of its clip), then the
metrics, then the weight. A number of the metrics takes several coordinates, each the remainder
of the one before in finer units, so that it keeps 48 bits whatever the encoding's are. The
first number is always the share of clipped coordinates; slots that nobody uses are zero.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fl.flower.protection import Protection
from fl.flower.wire import Named, Refusal, Schema
from fl.updates import decode_sum, encode_update
from secagg.encoding import FixedPoint
from secagg.prg import Words
from secagg.rng import RandomSource

TRAIN = "train"
Floats = NDArray[np.floating[Any]]


def category(kind: str) -> str:
    """`train` or `evaluate`, of a message type such as `train.action`."""
    return kind.split(".", maxsplit=1)[0]


@dataclass(frozen=True)
class Layout:
    """Where everything stands in a vector, from the message that the server sends to all."""

    protection: Protection
    kind: str
    clients: int
    received: RecordDict

    @property
    def arrays(self) -> Mapping[str, Array]:
        """What is updated: the message's only ArrayRecord; nothing in an evaluation."""
        if category(self.kind) != TRAIN:
            return {}
        records = list(self.received.array_records.values())
        if len(records) != 1:
            raise Refusal(
                f"a message with {len(records)} ArrayRecords; secure training takes exactly one"
            )
        return records[0]  # type: ignore[no-any-return,unused-ignore]

    @property
    def coordinates(self) -> int:
        """Of the update alone."""
        return sum(int(np.prod(array.shape, dtype=int)) for array in self.arrays.values())

    @property
    def length(self) -> int:
        """Of the whole vector, the weight included."""
        return self.coordinates + self.protection.reserved(self.clients) + 1

    @property
    def encoding(self) -> FixedPoint:
        """For the number of clients of the session."""
        return self.protection.encoding(self.clients)


class Report(NamedTuple):
    """A client's reply, ready for the protocol. Shows nothing of it."""

    words: Words
    schema: Schema

    def __repr__(self) -> str:
        return "<Report>"


class Means(NamedTuple):
    """What the server gets: the reply's records, and the mean share of clipped coordinates."""

    content: RecordDict
    clipped: float


def encode_reply(content: RecordDict, layout: Layout, source: RandomSource) -> Report:
    """A client's reply as a vector. Raises Refusal for what no sum can carry."""
    schema = schema_of(content, layout)
    metrics = content.metric_records[schema.metrics]
    weight = _weight(metrics, layout.protection)
    update = _update(content, schema, layout)
    words: Words = np.zeros(0, np.uint32)
    clipped = 0
    if update.size:
        encoded = encode_update(update, weight, layout.encoding, source)
        words, clipped = encoded.words[:-1], encoded.clipped
    numbers = [clipped / max(update.size, 1), *_numbers(metrics)]
    limbs = _limbs(numbers, layout)
    tail = encode_update(limbs, weight, layout.encoding, source).words
    return Report(np.concatenate([words.astype(tail.dtype, copy=False), tail]), schema)


def schema_of(content: RecordDict, layout: Layout) -> Schema:
    """What the client's app returned. Raises Refusal where a mean cannot stand for it."""
    if content.config_records:
        raise Refusal(
            "the reply holds a ConfigRecord, which cannot travel inside a sum; return numbers in "
            "the MetricRecord instead"
        )
    wanted = 1 if category(layout.kind) == TRAIN else 0
    if len(content.metric_records) != 1 or len(content.array_records) != wanted:
        raise Refusal(f"the reply must hold one MetricRecord and {wanted} ArrayRecords")
    (name, metrics), *_ = content.metric_records.items()
    names = tuple(
        Named(key, len(value) if isinstance(value, list) else None)
        for key, value in sorted(metrics.items())
    )
    used = sum(1 if each.numbers is None else each.numbers for each in names)
    if used > layout.protection.metrics:
        raise Refusal(
            f"{used} numbers in the metrics, and room for {layout.protection.metrics}; raise "
            "Protection.metrics in both apps"
        )
    return Schema(next(iter(content.array_records), ""), name, names)


def decode_means(total: NDArray[Any], count: int, schema: Schema, layout: Layout) -> Means:
    """The records that stand for each of the `count` survivors. LocalError: impossible sum."""
    values, weights = decode_sum(total, layout.encoding)
    limbs = layout.protection.metric_limbs(layout.clients)
    tail = values[layout.coordinates :].reshape(-1, limbs)
    numbers = tail @ _limb_units(layout, limbs) * layout.protection.metric_range
    records = RecordDict()
    if layout.arrays:
        records[schema.arrays] = ArrayRecord(dict(_arrays(values, layout)))
    metrics = _metrics(numbers[1:].tolist(), schema)
    if layout.protection.weighted:
        metrics[layout.protection.weight_key] = weights / count
    records[schema.metrics] = metrics
    return Means(records, max(float(numbers[0]), 0.0))


def _update(content: RecordDict, schema: Schema, layout: Layout) -> Floats:
    """new - received, in units of each array's clip."""
    old = layout.arrays
    if not old:
        return np.zeros(0)
    new = content.array_records[schema.arrays]
    _check_same_arrays(old, new)
    parts = [_change(name, old[name], new[name], layout.protection) for name in old]
    update = np.concatenate(parts)
    if not np.isfinite(update).all():
        raise Refusal("the update holds NaN or infinity; lower the learning rate or clip gradients")
    return update


def _check_same_arrays(old: Mapping[str, Array], new: Mapping[str, Array]) -> None:
    shapes = {name: tuple(array.shape) for name, array in old.items()}
    returned = {name: tuple(array.shape) for name, array in new.items()}
    if shapes != returned:
        odd = sorted(set(shapes.items()) ^ set(returned.items()))[0][0]
        raise Refusal(
            f"array {odd!r} has shape {shapes.get(odd, 'none')} in the model received and "
            f"{returned.get(odd, 'none')} in the reply; return the arrays that were received"
        )


def _change(name: str, old: Array, new: Array, protection: Protection) -> Floats:
    before, after = np.asarray(old.numpy()), np.asarray(new.numpy())
    if before.dtype.kind not in "fiu" or after.dtype.kind not in "fiu":
        raise Refusal(f"array {name!r} holds {after.dtype}; only numbers can be averaged")
    exact = np.float32 if before.dtype == after.dtype == np.float32 else np.float64
    change = np.subtract(after, before, dtype=exact)
    change /= exact(protection.range_of(name))
    return np.atleast_1d(change).ravel()


def _arrays(values: NDArray[np.float64], layout: Layout) -> Iterable[tuple[str, Array]]:
    """Received + mean change. What was not a float becomes one, as in Flower's own mean."""
    start = 0
    for name, array in layout.arrays.items():
        before = np.asarray(array.numpy())
        kind = before.dtype if before.dtype.kind == "f" else np.dtype(np.float64)
        change = values[start : start + before.size].reshape(before.shape)
        mean = before + change * layout.protection.range_of(name)
        yield name, Array(np.asarray(mean, kind))
        start += before.size


def _weight(metrics: MetricRecord, protection: Protection) -> int:
    key = protection.weight_key
    value = metrics.get(key)
    if value is None or isinstance(value, list):
        raise Refusal(f"the reply's metrics lack the number {key!r}, which weighs the mean")
    if not protection.weighted:
        return 1
    if value != int(value) or not 1 <= value <= protection.max_weight:
        raise Refusal(
            f"{key!r} is no whole number from 1 to {protection.max_weight}; raise "
            "Protection.max_weight in both apps, or count in larger units"
        )
    return int(value)


def _numbers(metrics: MetricRecord) -> list[float]:
    values: list[float] = []
    for _key, value in sorted(metrics.items()):
        values += value if isinstance(value, list) else [value]
    return values


def _metrics(numbers: list[float], schema: Schema) -> MetricRecord:
    out, start = MetricRecord(), 0
    for each in schema.names:
        count = 1 if each.numbers is None else each.numbers
        part = numbers[start : start + count]
        out[each.name] = part[0] if each.numbers is None else part
        start += count
    return out


def _limbs(numbers: list[float], layout: Layout) -> NDArray[np.float64]:
    """Each number in coarse units, then its remainder in finer ones: (slots * limbs,)."""
    protection, scale = layout.protection, layout.encoding.scale
    values = np.zeros(1 + protection.metrics)
    values[: len(numbers)] = numbers
    rest = values / protection.metric_range
    if not (np.abs(rest) <= 1).all():  # NaN too
        raise Refusal(
            f"a metric is not within ±{protection.metric_range:g}; raise Protection.metric_range "
            "in both apps, or leave it out"
        )
    limbs = []
    for _ in range(protection.metric_limbs(layout.clients) - 1):
        whole = np.rint((rest + 1) * scale) / scale - 1
        limbs.append(whole)
        rest = np.clip((rest - whole) * 2 * scale, -1, 1)
    return np.column_stack([*limbs, rest]).ravel()


def _limb_units(layout: Layout, limbs: int) -> NDArray[np.float64]:
    return (2 * layout.encoding.scale) ** -np.arange(limbs, dtype=np.float64)
