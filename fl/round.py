"""What one round is bound to: the model and the common configuration, hashed by each party."""

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fl.models import signature
from secagg.codec import Value, encode
from secagg.context import application_digest
from secagg.encoding import FixedPoint
from secagg.errors import DecodeError


class RoundConfig(Value, frozen=True):
    """What all clients of a round do alike. Hashed into the application digest."""

    round: int
    epochs: int
    lr: float
    batch_size: int
    seed: int
    bits: int
    clip: float
    max_weight: int
    max_clients: int

    @property
    def encoding(self) -> FixedPoint:
        """How updates are encoded."""
        return FixedPoint(self.bits, self.clip, self.max_weight, self.max_clients)


def round_digest(architecture: nn.Module, model: bytes, config: RoundConfig) -> bytes:
    """The application digest, from the received bytes of the model (float32, all parameters).

    Raises DecodeError where they are not those of this architecture.
    """
    sizes = [int(np.prod(shape)) for _, _, shape in signature(architecture)]
    if len(model) != 4 * sum(sizes):
        raise DecodeError(f"a model of {len(model)} bytes; expected {4 * sum(sizes)}")
    flat = np.frombuffer(model, "<f4")
    arrays, start = [], 0
    for name, dtype, shape in signature(architecture):
        size = int(np.prod(shape))
        arrays.append((name, dtype, shape, flat[start : start + size].tobytes()))
        start += size
    return application_digest(arrays, encode(config))


def model_bytes(vector: NDArray[np.floating]) -> bytes:
    """A model as it travels: little-endian float32."""
    return vector.astype("<f4").tobytes()


def model_vector(raw: bytes) -> NDArray[np.float32]:
    """The inverse of `model_bytes`."""
    return np.frombuffer(raw, "<f4").astype(np.float32)


def training_seed(config: RoundConfig, client: int) -> int:
    """The seed of one client's record order in this round: 63 bits, the same in every run."""
    return (config.seed * 1_000_003 + config.round * 1009 + client) % 2**63
