"""What happens to an update between training and the protocol, and back.

On the client: clip each coordinate (counted), then encode with the weight inside. On the
server: decode the sum into the weighted mean. Only what commutes with a sum belongs here.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secagg.encoding import FixedPoint
from secagg.errors import LocalError
from secagg.kdf import derive
from secagg.prg import IV_BYTES, KEY_BYTES, StreamKey
from secagg.rng import RandomSource

Update = NDArray[np.floating[Any]]


class Encoded(NamedTuple):
    """An update as integers (d + 1,), the last being the weight; how many were clipped."""

    values: NDArray[np.uint64]
    clipped: int


class Mean(NamedTuple):
    """What the server gets from a sum: the weighted mean (d,), and the sum of the weights."""

    update: NDArray[np.float64]
    weight: int


def encode_update(
    update: Update, weight: int, encoding: FixedPoint, source: RandomSource
) -> Encoded:
    """Clip to the encoding's range and encode, with fresh coins.

    Raises LocalError for NaN and infinity: what is not a number is not clipped into one.
    """
    if not np.all(np.isfinite(update)):
        raise LocalError("the update contains NaN or infinity; check the training")
    clipped = np.clip(update, -encoding.clip, encoding.clip)
    raw = derive(source.seed(), "stochastic rounding", length=KEY_BYTES + IV_BYTES)
    coins = StreamKey(raw[:KEY_BYTES], raw[KEY_BYTES:])
    values = encoding.encode(clipped, weight, coins)
    return Encoded(values, int(np.count_nonzero(np.abs(update) > encoding.clip)))


def decode_sum(total: NDArray[np.unsignedinteger[Any]], encoding: FixedPoint) -> Mean:
    """The weighted mean of what was encoded. Raises LocalError for an impossible sum."""
    return Mean(*encoding.decode(total))
