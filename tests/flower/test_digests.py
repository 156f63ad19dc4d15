"""One model has one digest, however it is packed."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict

from fl.flower.digests import model_of
from fl.flower.wire import Refusal
from tests.flower.support import model


def test_there_is_one_record_of_arrays() -> None:
    with pytest.raises(Refusal, match=r"2 ArrayRecords.*exactly one"):
        model_of("evaluate", RecordDict({"a": model(), "b": model()}))
    with pytest.raises(Refusal, match=r"0 ArrayRecords.*exactly one"):
        model_of("evaluate", RecordDict())


def one(array: np.ndarray, name: str = "w", kind: str = "train") -> bytes:
    return model_of(kind, RecordDict({"arrays": ArrayRecord({name: Array(array)})}))


W = np.asarray([[0.0, 1.5, -2.0]], np.float32)


@pytest.mark.parametrize(
    "same",
    [
        W.astype(np.float64),
        W.astype(np.float16),
        W.astype(">f4"),
        np.asfortranarray(np.repeat(W, 2, axis=0))[:1],
        W * np.asarray([1, 1, 1], np.float32),
        np.asarray([[-0.0, 1.5, -2.0]], np.float32),
    ],
    ids=["float64", "float16", "big-endian", "strided", "copy", "minus zero"],
)
def test_one_model_has_one_digest(same: np.ndarray) -> None:
    assert one(same) == one(W)


def test_whole_numbers_and_nan_have_one_digest_too() -> None:
    assert one(np.arange(3)) == one(np.arange(3.0)) == one(np.arange(3, dtype=np.uint8))
    strange = np.asarray([0x7FC00001, 0xFFC00000], np.uint32).view(np.float32)
    assert one(strange) == one(np.full(2, np.nan))
    assert one(np.full(2, 0.1)) != one(np.full(2, 0.1, np.float32)), "another number"


@pytest.mark.parametrize(
    "other",
    [
        one(np.nextafter(W, np.float32(9))),
        one(W.ravel()),
        one(W, name="v"),
        one(W, kind="evaluate"),
        one(W, kind="train.again"),
    ],
    ids=["value", "shape", "name", "kind", "action"],
)
def test_another_model_has_another_digest(other: bytes) -> None:
    assert other != one(W)
    assert one(W) == one(W, kind="train.default")


@pytest.mark.parametrize(
    "bad",
    [
        Array(np.asarray(["a"])),
        Array(np.asarray([1j])),
        Array("float32", (1,), "numpy.ndarray", b"nothing"),
        Array("float32", (1,), "pickle", b"nothing"),
    ],
    ids=["text", "complex", "damaged", "serialised otherwise"],
)
def test_what_is_no_number_is_refused_by_name(bad: Array) -> None:
    with pytest.raises(Refusal, match="array 'w'"):
        model_of("train", RecordDict({"arrays": ArrayRecord({"w": bad})}))
