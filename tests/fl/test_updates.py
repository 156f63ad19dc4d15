"""An update on its way in and out: clipped and counted, encoded, summed, decoded."""

import numpy as np
import pytest

from fl.updates import decode_sum, encode_update
from secagg.encoding import FixedPoint
from secagg.errors import LocalError
from secagg.rng import SeededSource, SystemSource

ENCODING = FixedPoint.filling(32, clip=0.5, max_weight=1024, max_clients=10)


def test_the_weighted_mean_comes_back_to_within_the_resolution() -> None:
    rng = np.random.default_rng(0)
    updates = rng.uniform(-0.5, 0.5, (7, 500)).astype(np.float32)
    weights = rng.integers(1, 1025, 7)
    total = sum(
        encode_update(u, int(w), ENCODING, SystemSource()).words.astype(np.uint64)
        for u, w in zip(updates, weights, strict=True)
    )
    mean = decode_sum(np.asarray(total), ENCODING)
    assert mean.weight == weights.sum()
    exact = np.average(updates.astype(np.float64), axis=0, weights=weights)
    assert np.abs(mean.update - exact).max() <= len(weights) / (ENCODING.scale * weights.sum())


def test_what_is_clipped_is_counted() -> None:
    update = np.array([0.4, 0.6, -0.7, 0.5], np.float32)
    values, clipped = encode_update(update, 1, ENCODING, SeededSource(b"c"))
    assert clipped == 2
    assert decode_sum(values, ENCODING).update == pytest.approx([0.4, 0.5, -0.5, 0.5], abs=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_refused_not_clipped(bad: float) -> None:
    with pytest.raises(LocalError, match="NaN"):
        encode_update(np.array([0.1, bad]), 1, ENCODING, SystemSource())
