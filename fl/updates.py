"""What happens to an update between training and the protocol, and back.

On the client: clip each coordinate (counted), then encode with the weight inside. On the
server: decode the sum into the weighted mean. Only what commutes with a sum belongs here.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secagg.encoding import Encoded, FixedPoint
from secagg.kdf import derive
from secagg.prg import STREAM_KEY_BYTES, StreamKey
from secagg.rng import RandomSource

Update = NDArray[np.floating[Any]]


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
    raw = derive(source.seed(), "stochastic rounding", length=STREAM_KEY_BYTES)
    return encoding.encode_words(update, weight, StreamKey.of(raw), clip=True)


def decode_sum(total: NDArray[np.unsignedinteger[Any]], encoding: FixedPoint) -> Mean:
    """The weighted mean of what was encoded. Raises LocalError for an impossible sum."""
    return Mean(*encoding.decode(total))
