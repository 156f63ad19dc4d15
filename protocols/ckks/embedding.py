"""The canonical embedding of real slots: a discrete cosine transform.

Slot i is the polynomial m at zeta^(3^i), zeta = exp(pi i / N) (Cheon et al., ASIACRYPT 2017,
section 2.2; the order is SEAL's). Real slots have the same value at the conjugate root. So with
Z_k the value at zeta^(2 k + 1), k below N / 2,

    m_j = (2 / N) sum over k of Z_k cos(pi (2 k + 1) j / N),    m_(N - j) = -m_j,

which is a cosine transform of type II, and that one real Fourier transform of as many points
(Makhoul, "A fast cosine transform in one and two dimensions", 1980).
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.he.packing import powers_of_three

Reals = NDArray[np.float64]


def inverse(slots: Reals) -> Reals:
    """The polynomials with these slots: (rows, N / 2) real numbers to (rows, N) coefficients."""
    half = slots.shape[1]
    turned = np.fft.rfft(slots[:, _order(2 * half)]) * _turns(half)
    out = np.zeros((len(slots), 2 * half))
    out[:, : half // 2 + 1] = turned.real
    out[:, half // 2 + 1 : half] = -turned.imag[:, 1 : half // 2][:, ::-1]
    out[:, half + 1 :] = -out[:, 1:half][:, ::-1]
    scaled: Reals = out / half
    return scaled


@cache
def _order(degree: int) -> NDArray[np.int64]:
    """Which slot is where in the Fourier transform's input: Z_0, Z_2, …, …, Z_3, Z_1."""
    exponents = powers_of_three(degree)
    below = np.minimum(exponents, 2 * degree - exponents)
    slot_of = np.empty(degree // 2, np.int64)
    slot_of[below // 2] = np.arange(degree // 2)
    return np.concatenate([slot_of[::2], slot_of[1::2][::-1]])


@cache
def _turns(half: int) -> NDArray[Any]:
    """exp(-pi i j / (2 half)) for j up to half / 2."""
    turns: NDArray[Any] = np.exp(-0.5j * np.pi / half * np.arange(half // 2 + 1))
    return turns
