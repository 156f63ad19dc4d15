"""Strategies: how the aggregate of a round becomes the next model."""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.registry import entry
from secagg.errors import ParameterError

Vector = NDArray[np.float64]


class Strategy(Protocol):
    """Turns the weighted mean of the clients' updates into the next model.

    `needs` says what of the round it looks at: the `sum`, or `individuals`.
    """

    name: str
    needs: Literal["sum", "individuals"]

    def next_model(self, model: Vector, mean_update: Vector) -> Vector:
        """The next model (d,), from the current one and the mean update, (d,) each."""
        ...


class FedAvg:
    """Federated averaging (McMahan et al., AISTATS 2017, algorithm 1), on updates."""

    name = "FedAvg"
    needs: Literal["sum", "individuals"] = "sum"

    def __init__(self, server_rate: float = 1.0) -> None:
        self._rate = server_rate

    def next_model(self, model: Vector, mean_update: Vector) -> Vector:
        """`model + rate * mean_update`."""
        return model + self._rate * mean_update


def check_served(strategy: Strategy, protocol: str) -> None:
    """Refuse a strategy that needs what the protocol hides. Raises ParameterError."""
    about = entry(protocol)
    if strategy.needs not in about.serves:
        raise ParameterError(
            f"{strategy.name} looks at {strategy.needs}, and protocol {protocol!r} hides "
            f"{about.hides}; use a strategy that needs only a sum, such as FedAvg"
        )
