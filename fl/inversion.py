"""What a server that sees one client's update in clear can read out of it.

For a model whose first layer is linear with a bias, y = W x + b, one record's gradient has
rows ∂L/∂W_i = x · ∂L/∂b_i. So x = ∂W_i / ∂b_i for every unit i that the record excites: exact,
with no optimisation (Phong et al., IEEE TIFS 2018, section 3; Geiping et al., NeurIPS 2020,
proposition 3.1). With many records or several steps the quotient is a weighted mixture of
them, and how close it still comes is measured by `closest`.

The input may also be an upload the server cannot read (a masked vector decoded as if it were
clear): the answer is then finite noise, which is the picture the report shows.
"""

import copy
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fl.models import Signature, Vector
from fl.training import train
from secagg.errors import ParameterError

Array = NDArray[np.float64]

PSNR_CAP = 150.0
"""Decibels reported for an (almost) identical reconstruction; keeps figures finite."""


def one_record_update(
    model: nn.Module, x: NDArray[np.float32], y: NDArray[np.int64], lr: float
) -> Vector:
    """The update (d,) of a client that holds one record and takes one step (FedSGD).

    `x` is (features,) or (1, features), `y` its label in any shape of one. The model is left
    as it was.
    """
    row, label = x.reshape(1, -1), np.asarray(y, dtype=np.int64).reshape(1)
    return train(copy.deepcopy(model), row, label, epochs=1, lr=lr, batch_size=1, seed=0)


def invert_linear(update: NDArray[np.floating], signature: Signature) -> Array:
    """The record (features,) that best explains `update` (d,): the row with the largest |∂b_i|.

    Finite for any input, zeros where no bias moved. Raises ParameterError if the model does
    not begin with a weight (units, features) and a bias (units,), or the length is wrong.
    """
    _, biases = _first_layer(update, signature)
    guess: Array = candidates(update, signature)[int(np.abs(biases).argmax())]
    return guess


def candidates(update: NDArray[np.floating], signature: Signature) -> Array:
    """∂W_i / ∂b_i of every unit: (units, features), zeros for a unit whose bias did not move."""
    weights, biases = _first_layer(update, signature)
    moved = np.abs(biases) > np.finfo(np.float64).tiny
    divisors = np.where(moved, biases, 1.0)[:, None]
    with np.errstate(over="ignore", under="ignore"):
        quotients = np.where(moved[:, None], weights / divisors, 0.0)
    return np.nan_to_num(quotients)


def _first_layer(update: NDArray[np.floating], signature: Signature) -> tuple[Array, Array]:
    shapes = [shape for _, _, shape in signature]
    if len(shapes) < 2 or len(shapes[0]) != 2 or shapes[1] != shapes[0][:1]:
        raise ParameterError("this attack needs a model that begins with a linear layer and bias")
    if update.shape != (sum(map(prod, shapes)),):
        raise ParameterError(f"the update has shape {update.shape}, which is not this model's")
    clean = np.nan_to_num(update.astype(np.float64))
    units, features = shapes[0]
    end = units * features
    return clean[:end].reshape(units, features), clean[end : end + units]


@dataclass(frozen=True)
class Match:
    """The pair (unit, record) that agrees best, its correlation and its PSNR in dB."""

    unit: int
    record: int
    correlation: float
    psnr: float


def closest(guesses: Array, records: NDArray[np.floating]) -> Match:
    """Which of `guesses` (units, features) comes closest to one of `records` (rows, features).

    Closest in correlation, so that a wrong scale is forgiven; the PSNR is not forgiving.
    """
    table = _centred(guesses) @ _centred(records).T
    unit, record = (int(i) for i in np.unravel_index(table.argmax(), table.shape))
    return Match(unit, record, float(table[unit, record]), psnr(records[record], guesses[unit]))


def psnr(reference: NDArray[np.floating], estimate: NDArray[np.floating]) -> float:
    """Peak signal-to-noise ratio in dB, the peak being the reference's range; at most PSNR_CAP."""
    exact = reference.astype(np.float64)
    with np.errstate(over="ignore"):
        error = float(np.mean((exact - estimate) ** 2))
    peak = float(np.ptp(exact)) or 1.0
    floor = peak**2 * 10 ** (-PSNR_CAP / 10)
    return float(10 * np.log10(peak**2 / min(max(error, floor), np.finfo(np.float64).max)))


def correlation(reference: NDArray[np.floating], estimate: NDArray[np.floating]) -> float:
    """Pearson's correlation of two records; 0 where one of them is constant."""
    return float((_centred(reference[None]) @ _centred(estimate[None]).T)[0, 0])


def _centred(rows: NDArray[np.floating]) -> Array:
    """Rows with mean 0 and norm 1; constant rows become zero. Huge values are scaled first."""
    largest = np.abs(rows).max(axis=1, keepdims=True).astype(np.float64)
    scaled = rows / np.where(largest == 0, 1.0, largest)
    centred = scaled - scaled.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(norms > 1e-9, centred / np.where(norms > 0, norms, 1.0), 0.0)
