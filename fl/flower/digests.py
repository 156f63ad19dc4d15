"""Hashes of what Flower's messages carry: each party's own, from the bytes that it received."""

from collections.abc import Iterable

import numpy as np
from flwr.app import Array, ConfigRecord, MetricRecord, RecordDict

from fl.flower.wire import Refusal
from secagg.context import application_digest
from secagg.kdf import digest, label

Item = tuple[str, str, tuple[int, ...], bytes]


def application_of(kind: str, content: RecordDict, terms: bytes) -> bytes:
    """The application digest (32 bytes) of a message of this type, the app's records only."""
    plain: dict[str, ConfigRecord | MetricRecord] = {
        **content.config_records,
        **content.metric_records,
    }
    records = [
        label("record", name, *(label("entry", key, _value(v)) for key, v in sorted(rec.items())))
        for name, rec in sorted(plain.items())
    ]
    return application_digest(_arrays(content), label("flower", kind, terms, *records))


def attempted(application: bytes, attempt: int) -> bytes:
    """What a session is bound to, 32 bytes: the application, at this attempt (from 1)."""
    return digest("flower attempt", application, attempt)


def model_of(kind: str, content: RecordDict) -> bytes:
    """32 bytes for what is trained, or evaluated, whatever the configuration: the arrays' names,
    shapes and values. How they are called together, ordered and stored makes no other model.

    Raises Refusal where there is not exactly one record of numbers.
    """
    if len(content.array_records) != 1:
        raise Refusal(
            f"a message with {len(content.array_records)} ArrayRecords; secure training and "
            "evaluation take exactly one"
        )
    (arrays,) = content.array_records.values()
    named = (label("array", name, *_values(name, array)) for name, array in sorted(arrays.items()))
    action = kind if "." in kind else f"{kind}.default"  # to Flower they are the same
    return digest("spent model", action, *named)


def _values(name: str, array: Array) -> tuple[bytes, bytes]:
    """Shape and values, the same for equal numbers of any type. Raises Refusal."""
    try:
        found = np.asarray(array.numpy())
    except (TypeError, ValueError, EOFError, OSError) as error:
        raise Refusal(f"array {name!r} cannot be read: {error}") from None
    if found.dtype.kind not in "biuf":
        raise Refusal(f"array {name!r} holds {found.dtype}; only numbers can be trained alike")
    with np.errstate(over="ignore"):
        values = found.astype("<f4", order="C")
    if found.dtype.str[1:] not in ("f2", "f4") and not np.array_equal(values, found, True):
        values = found.astype("<f8", order="C")
    values += 0  # one zero, and one NaN
    values[np.isnan(values)] = np.nan
    return label("shape", *found.shape), digest("values", values.dtype.str, values.tobytes())


def _arrays(content: RecordDict) -> Iterable[Item]:
    for record, arrays in sorted(content.array_records.items()):
        for name, array in arrays.items():
            yield f"{record}/{name}", f"{array.dtype}/{array.stype}", tuple(array.shape), array.data


def _value(value: object) -> bytes:
    """One configuration value, so that 1, 1.0, True and "1" all differ."""
    kind = type(value).__name__
    if isinstance(value, list):
        return label("list", *(_value(each) for each in value))
    if isinstance(value, bytes):
        return label("value", kind, value)
    text = value.hex() if isinstance(value, float) else str(value)
    return label("value", kind, text)
