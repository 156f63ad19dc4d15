"""Hashes of what Flower's messages carry: each party's own, from the bytes that it received."""

from collections.abc import Iterable

from flwr.app import ConfigRecord, MetricRecord, RecordDict

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
    """32 bytes for what is trained, or evaluated, whatever the configuration: see `spent`."""
    if not content.array_records:
        return application_of(kind, content, b"")
    arrays = (
        label("array", n, d, label("shape", *s), digest("a", b)) for n, d, s, b in _arrays(content)
    )
    return digest("spent model", kind, *arrays)


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
