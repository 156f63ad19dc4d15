"""How large the noise of a sum of fresh ciphertexts is, except with probability 2^-40.

SEAL encrypts under both primes and divides by the second, p, rounding each coefficient. What is
left of the encryption's own error is below n * 21 (2N + 1) / p (its errors are cut at 21), far
below one; what remains is the rounding tau_0 + s tau_1, with tau uniform in [-1/2, 1/2] and
independent (the usual heuristic of Cheon et al. 2017, section 3, and of Costache et al. 2022).
Uniform variables on an interval of width 1 are strictly sub-Gaussian with variance 1/12, ternary
ones with variance 2/3, so for weights of squared length W
P(|sum| >= x) <= 2 exp(-6 x^2 / W).
"""

import math

from protocols.he.parameters import PRIME_BITS

FAILURE_BITS = 40
"""-log2 of the probability that any coordinate of a session is wrong."""
_ERROR_CUT = 21
_ROUNDING = 2.0**-53
_FFT_CONSTANT = 6.7  # Higham 2002, theorem 24.2: eta = mu + gamma_4 (sqrt 2 + mu)


def _tail(events: float) -> float:
    """ln(2 * events / 2^-(FAILURE_BITS + 1)): two such bounds together keep 2^-40."""
    return math.log(2 * events) + (FAILURE_BITS + 1) * math.log(2)


def _leftover(clients: int, degree: int) -> float:
    """Of the encryption's errors after the division by p, in the worst case, a coefficient."""
    return clients * _ERROR_CUT * (2 * degree + 1) / 2.0 ** (PRIME_BITS[1] - 1)


def coefficient_noise(clients: int, degree: int, coefficients: int) -> float:
    """Bound on the noise of every coefficient of the sum (`coefficients`: over all
    ciphertexts), with rounding of the scaled plaintexts (BFV).
    """
    weight = clients * (1 + degree)  # |s|^2 <= N
    rounding = math.sqrt(weight * _tail(coefficients) / 6)
    return rounding + clients / 2 + _leftover(clients, degree)


def slot_noise(clients: int, degree: int, slots: int) -> float:
    """Bound on the noise of every slot of the sum before it is divided by the scale (CKKS).

    |s(zeta)|^2 by Hsu, Kakade, Zhang 2012, theorem 2.1, over all N / 2 pairs of roots; then the
    real part of tau_0 + s(zeta) tau_1 and of the rounding of the encoding.
    """
    t = _tail(degree / 2)
    key = 2 / 3 * degree * (1 + math.sqrt(2 * t) + t)
    weight = clients * degree / 2 * (2 + key)
    leftover = degree * _leftover(clients, degree)
    return math.sqrt(weight * _tail(slots) / 6) + leftover


def transform_error(degree: int, magnitude: float) -> float:
    """Bound on the error of encoding and decoding slots of at most this size in doubles: the
    transform's relative error in the Euclidean norm (Higham 2002, theorem 24.2), all in one slot.
    """
    relative = _FFT_CONSTANT * _ROUNDING * math.log2(degree)
    return 2 * relative * math.sqrt(degree / 2) * magnitude
