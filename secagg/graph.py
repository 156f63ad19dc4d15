"""The communication graph of SecAgg+ and how sparse it may be.

Bell, Bonawitz, Gascón, Lepoint and Raykova, "Secure Single-Server Aggregation with
(Poly)Logarithmic Overhead", CCS 2020: the clients are put on a ring in random order, and each
is joined to the `degree / 2` nearest on either side. Masks and Shamir shares go to neighbours
only, so the degree must be large enough that, except with the probabilities below,

* security: no honest client has `threshold` corrupt neighbours, and the honest clients that
  did not drop out stay connected (else the server learns the sum over a component);
* correctness: enough shares of every client come back to unmask the sum.

Corrupt and dropped clients are two fixed sets, chosen independently of the graph. Of each
secret a client deals one share to every neighbour and keeps one itself, so a client that
answers the last stage needs `threshold - 1` neighbours that do, any other `threshold`.
"""

import math
from bisect import bisect_right
from typing import Literal, NamedTuple

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from secagg.errors import LocalError, ParameterError
from secagg.kdf import derive
from secagg.rng import SEED_BYTES

MAX_CLIENTS = 1 << 24
"""Far below the 2^32 blocks of a counter; the rounding bounds below are stated for it."""

SECURITY_FAILURE = 2.0**-40
CORRECTNESS_FAILURE = 2.0**-20

_KEY_BYTES = 16
_IV_BYTES = 12
_BLOCK_BYTES = 16

# Probabilities are products and sums of at most 2^24 correctly rounded terms, all positive:
# their relative error is below 2^-28 (below 2^-32 for a million clients). Every result is
# enlarged by this factor, so that rounding can never make a failure look too unlikely.
_ROUND_UP = 1 + 2.0**-24
# Windows of a distribution are cut where Hoeffding's exp(-2 x^2 / draws) is 2^-110, which is
# 2^-46 of the smallest tail that matters (2^-40 over 2^24 clients).
_WINDOW = 110 * math.log(2) / 2


class GraphParameters(NamedTuple):
    """Neighbours of each client, and how many shares recover one of its secrets."""

    degree: int
    threshold: int


class Cohort(NamedTuple):
    """Numbers of clients: all, corrupt (with the server), and dropped (at any stage).

    Corrupt and dropped clients count as different ones, which is the worst case. Functions
    that take a cohort raise `ParameterError` unless at least two clients are neither.
    """

    clients: int
    corrupt: int
    dropped: int

    @property
    def honest(self) -> int:
        """Clients that are not corrupt, whether they drop out or stay."""
        return self.clients - self.corrupt

    @property
    def remaining(self) -> int:
        """Honest clients that did not drop: their inputs hide each other."""
        return self.clients - self.corrupt - self.dropped


# --- the graph ---------------------------------------------------------------------------


def permutation(n: int, seed: bytes) -> NDArray[np.int64]:
    """The ring's order: entry i, in 0..n-1, is the client at place i of the ring; shape (n,).

    Client v is ranked by the 16-byte block v, read as a big-endian number, of the AES-128-CTR
    stream whose key and IV are derived from the 32-byte `seed`; its counter starts at 0.
    Blocks of one key are all different, so there are no ties, and under an ideal cipher every
    order is exactly equally likely. Raises `ParameterError` for n and `LocalError` for seed.
    """
    _check_clients(n)
    _check_seed(seed)
    material = derive(seed, "graph permutation", length=_KEY_BYTES + _IV_BYTES)
    counter = material[_KEY_BYTES:] + bytes(_BLOCK_BYTES - _IV_BYTES)
    stream = Cipher(AES128(material[:_KEY_BYTES]), CTR(counter)).encryptor()
    blocks = np.frombuffer(stream.update(bytes(_BLOCK_BYTES * n)), dtype=">u8").reshape(n, 2)
    return _ranked(*blocks.T.astype(np.uint64))


def _ranked(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The rows in the order of high · 2^64 + low: of their high halves, where these differ."""
    order = np.argsort(high)
    ranked = high[order]
    if (ranked[1:] == ranked[:-1]).any():
        order = np.lexsort((low, high))
    return order.astype(np.int64, copy=False)


def neighbours(n: int, degree: int, seed: bytes) -> NDArray[np.int64]:
    """Row v holds the neighbours of client v in rising order; shape (n, degree).

    `degree` is even, 2..n-2, or n - 1 for the complete graph, where the seed changes nothing
    but is checked all the same. The graph is regular, symmetric and without loops. Memory is
    8 * n * degree bytes. Raises `ParameterError` for n or degree, `LocalError` for seed.
    """
    _check_degree(n, degree)
    _check_seed(seed)
    if degree == n - 1:
        return complete(n)
    order = permutation(n, seed)
    half = degree // 2
    ring = np.concatenate((order[-half:], order, order[:half]))
    around = np.lib.stride_tricks.sliding_window_view(ring, degree + 1)
    table = np.empty((n, degree), dtype=np.int64)
    table[order, :half] = around[:, :half]
    table[order, half:] = around[:, half + 1 :]
    table.sort(axis=1)
    return table


def neighbours_of(client: int, n: int, degree: int, seed: bytes) -> NDArray[np.int64]:
    """Row `client` of `neighbours(n, degree, seed)`, in memory O(n); shape (degree,).

    What one client needs. Raises as `neighbours` does, and `LocalError` unless
    0 <= client < n.
    """
    _check_degree(n, degree)
    if not 0 <= client < n:
        raise LocalError(f"there is no client {client} among {n}")
    _check_seed(seed)
    if degree == n - 1:
        return np.delete(np.arange(n, dtype=np.int64), client)
    order = permutation(n, seed)
    place = int(np.flatnonzero(order == client)[0])
    steps = np.arange(1, degree // 2 + 1)
    return np.sort(order[np.concatenate((place - steps, place + steps)) % n])


def complete(n: int) -> NDArray[np.int64]:
    """Everyone but oneself, as in SecAgg; shape (n, n - 1), rows in rising order."""
    _check_clients(n)
    others = np.arange(n - 1, dtype=np.int64)
    return others + (others >= np.arange(n)[:, np.newaxis])


# --- its failure probabilities -----------------------------------------------------------


def security_failure(cohort: Cohort, parameters: GraphParameters) -> float:
    """Bound on the probability, per session, that the graph does not hide honest inputs.

    The sum of `disconnection` and, over all honest clients, of the exact probability of
    `threshold` or more corrupt neighbours. It grows with the number of dropouts wherever it
    is below 2^-24, so the worst case is the largest number: see `disconnection`.
    """
    disconnected = disconnection(cohort, parameters.degree)
    count = _corrupt_neighbours(cohort, parameters.degree)
    return disconnected + cohort.honest * count.at_least(parameters.threshold)


def correctness_failure(cohort: Cohort, parameters: GraphParameters) -> float:
    """Bound on the probability that, for anyone, too few shares come back.

    The sum over all clients of exact probabilities: fewer than `threshold - 1` answering
    neighbours for one that answers, fewer than `threshold` for one that does not. Fewer
    dropouts only add answers, so the worst case is the largest number.
    """
    _check_cohort(cohort)
    _check_degree(cohort.clients, parameters.degree)
    return _Answers(cohort, parameters.degree).too_few(parameters.threshold)


def disconnection(cohort: Cohort, degree: int) -> float:
    """Bound on the probability that the remaining honest clients are disconnected.

    Let r clients remain of n and let h = degree / 2. On the ring, the removed ones fall into
    r gaps. Across a gap shorter than h its two ends are joined; a gap of h or more nobody
    reaches across; so the rest is disconnected iff two gaps or more are that long. The gaps
    are a uniform composition of n - r, and the bound S2 is the expected number of pairs of
    long gaps, C(r, 2) times the product over i < degree of (n - r - i) / (n - 1 - i).

    S2 is all but exact: the probability is at least S2 * (1 - sqrt(S2)) (by Bonferroni it is
    at least S2 - 2 S3, and binomials are log-concave), 2^-20 less at S2 = 2^-40. S2 is also
    log-concave in r, and at least 1 / (n - 1) at r = 2 unless the graph is complete: where
    it is smaller than that, it falls as r grows, so fewer dropouts only make it smaller.
    """
    _check_cohort(cohort)
    _check_degree(cohort.clients, degree)
    return float(_disconnections(cohort)[degree])


def _disconnections(cohort: Cohort) -> NDArray[np.float64]:
    """`disconnection` for every degree in 0..n-1 (between the even ones, the formula's)."""
    r = cohort.remaining
    i = np.arange(cohort.clients - 1, dtype=np.float64)
    all_removed = np.cumprod(np.maximum(cohort.clients - r - i, 0) / (cohort.clients - 1 - i))
    return _ROUND_UP * (r * (r - 1) / 2) * np.concatenate(([1.0], all_removed))


class _Hypergeometric:
    """How many of `draws` without replacement are among the `marked` of a population.

    Weights relative to the mode come from the ratio of neighbouring terms and are divided by
    their sum: no factorial, so no cancellation, is involved.
    """

    def __init__(self, population: int, marked: int, draws: int) -> None:
        rest = population - marked
        mean = draws * marked / population
        reach = math.sqrt(_WINDOW * min(draws, population - draws, marked, rest)) + 1
        self.low = low = max(0, draws - rest, math.floor(mean - reach))
        high = min(draws, marked, math.ceil(mean + reach))
        mode = min(max((draws + 1) * (marked + 1) // (population + 2), low), high) - low
        k = np.arange(low, high, dtype=np.float64)
        fewer = (k + 1) * (rest - draws + k + 1)
        more = (marked - k) * (draws - k)
        up = np.cumprod(more[mode:] / fewer[mode:])
        down = np.cumprod((fewer[:mode] / more[:mode])[::-1])[::-1]
        weights = np.concatenate((down, [1.0], up))
        probability = weights * (_ROUND_UP / weights.sum())
        self.lower = np.cumsum(probability)  # entry i: at most low + i
        self.upper = np.cumsum(probability[::-1])[::-1]  # entry i: at least low + i

    def at_most(self, k: int) -> float:
        """P[X <= k], rounded up."""
        return float(self.lower[min(k - self.low, len(self.lower) - 1)]) if k >= self.low else 0.0

    def at_least(self, k: int) -> float:
        """P[X >= k], rounded up."""
        i = max(k - self.low, 0)
        return float(self.upper[i]) if i < len(self.upper) else 0.0


class _Answers:
    """Answers that come back from the neighbours of one client."""

    def __init__(self, cohort: Cohort, degree: int) -> None:
        n, self.silent = cohort.clients, cohort.dropped
        self.answering = n - self.silent
        self.to_answering = _Hypergeometric(n - 1, self.answering - 1, degree)
        self.to_silent = _Hypergeometric(n - 1, min(self.answering, n - 1), degree)

    def too_few(self, threshold: int) -> float:
        """Union over all clients; rises with the threshold."""
        answering = self.answering * self.to_answering.at_most(threshold - 2)
        return answering + self.silent * self.to_silent.at_most(threshold - 1)


def _corrupt_neighbours(cohort: Cohort, degree: int) -> _Hypergeometric:
    return _Hypergeometric(cohort.clients - 1, cohort.corrupt, degree)


# --- the choice --------------------------------------------------------------------------


def choose_parameters(
    n_clients: int, corrupt: float, dropout: float, adversary: Literal["semi-honest", "active"]
) -> GraphParameters:
    """Degree and threshold for `n_clients` (2..2^24), of which fractions in [0, 1) are bad.

    Both fractions are rounded up to whole clients. `corrupt` of them work with the server,
    `dropout` of them vanish or do not answer, at any stage; fewer only help. With more, what
    `security_failure` bounds no longer holds, and on a sparse graph `threshold` does not
    notice: whoever runs the protocol must abort when more of them are missing.

    "semi-honest": the smallest even degree at which some threshold, 2 or more, makes
    `security_failure` at most 2^-40 and `correctness_failure` at most 2^-20, and the smallest
    threshold that is secure, which leaves the widest margin for dropouts. If there is none,
    the complete graph, which fails with probability 0: its threshold is floor((n + c) / 2) + 1
    for c corrupt clients, or n minus the dropouts where that is less (it is still above c).

    "active": the complete graph, and the smallest t with 2t > n + c, so that two answered
    survivor sets share an honest client (Bonawitz et al., CCS 2017, Section 6).

    Raises `ParameterError` for values out of range, if fewer than two honest clients would
    remain, and if, under an active server, fewer than t would answer.
    """
    if adversary not in ("semi-honest", "active"):
        raise ParameterError(f"adversary is 'semi-honest' or 'active', not {adversary!r}")
    cohort = cohort_of(n_clients, corrupt, dropout)
    if adversary == "active":
        return _active(cohort)
    return _sparse(cohort) or _complete(cohort)


def _sparse(cohort: Cohort) -> GraphParameters | None:
    """The smallest even degree below n - 1 that will do, with its smallest safe threshold.

    Adding two neighbours adds zero to two corrupt ones and zero to two answers, so the
    smallest safe threshold (leaving disconnection aside) never falls, and the largest
    workable one rises by at most 2. No degree is feasible before that shortfall is made up,
    which makes the jump below skip infeasible degrees only.
    """
    cut = _disconnections(cohort)
    degree = 2 * int(np.count_nonzero(cut[::2] > SECURITY_FAILURE))  # cut[0] >= 1
    while degree <= cohort.clients - 2:
        workable = _workable_threshold(cohort, degree)
        corrupt = _corrupt_neighbours(cohort, degree)
        shortfall = _safe_threshold(cohort, corrupt, SECURITY_FAILURE) - workable
        if shortfall <= 0:
            budget = SECURITY_FAILURE - float(cut[degree])
            threshold = _safe_threshold(cohort, corrupt, budget)
            if threshold <= workable:
                return GraphParameters(degree, threshold)
        degree += max(2, shortfall + shortfall % 2)
    return None


def _safe_threshold(cohort: Cohort, corrupt: _Hypergeometric, budget: float) -> int:
    """The smallest threshold that exposes an honest client with probability <= budget."""
    too_small = np.count_nonzero(cohort.honest * corrupt.upper > budget)
    return max(2, corrupt.low + int(too_small))


def _workable_threshold(cohort: Cohort, degree: int) -> int:
    """The largest threshold at which enough shares come back."""
    answers = _Answers(cohort, degree)
    return bisect_right(range(degree + 2), CORRECTNESS_FAILURE, key=answers.too_few) - 1


def _complete(cohort: Cohort) -> GraphParameters:
    n = cohort.clients
    return GraphParameters(n - 1, min(_majority(cohort), n - cohort.dropped))


def _active(cohort: Cohort) -> GraphParameters:
    n, t, answers = cohort.clients, _majority(cohort), cohort.clients - cohort.dropped
    if answers < t:
        raise ParameterError(
            f"against an active server {t} of {n} clients must answer (2t > n + "
            f"{cohort.corrupt} corrupt), but only {answers} would: assume a smaller dropout "
            "or fewer corrupt clients, or accept adversary='semi-honest'"
        )
    return GraphParameters(n - 1, t)


def _majority(cohort: Cohort) -> int:
    """The smallest t with 2t > n + c."""
    return (cohort.clients + cohort.corrupt) // 2 + 1


# --- checks ------------------------------------------------------------------------------


def cohort_of(n: int, corrupt: float, dropout: float) -> Cohort:
    """The counts that fractions in [0, 1) stand for, rounded up. Raises ParameterError."""
    _check_clients(n)
    cohort = Cohort(n, _part(n, corrupt, "corrupt"), _part(n, dropout, "dropout"))
    _check_cohort(cohort)
    return cohort


def _check_cohort(cohort: Cohort) -> None:
    _check_clients(cohort.clients)
    if min(cohort) < 0:
        raise ParameterError(f"numbers of clients are not negative, unlike {cohort}")
    if cohort.remaining < 2:
        raise ParameterError(
            f"of {cohort.clients} clients with {cohort.corrupt} corrupt and {cohort.dropped} "
            "dropped, fewer than two honest ones may remain, and the sum would reveal the input "
            "of a single one: admit more clients, or assume fewer corrupt or dropped ones"
        )


def _part(n: int, fraction: float, name: str) -> int:
    """`fraction` of n, rounded up, unless only float noise (0.1 * 30 > 3) lifts it."""
    number = isinstance(fraction, int | float) and not isinstance(fraction, bool)
    if not number or not 0 <= fraction < 1:
        raise ParameterError(f"{name} is a fraction from 0 to below 1, not {fraction!r}")
    return math.ceil(n * fraction * (1 - 2.0**-50))


def _check_clients(n: int) -> None:
    if not isinstance(n, int) or isinstance(n, bool) or not 2 <= n <= MAX_CLIENTS:
        raise ParameterError(f"a graph has 2 to {MAX_CLIENTS} clients (an int), not {n!r}")


def _check_seed(seed: bytes) -> None:
    if not isinstance(seed, bytes) or len(seed) != SEED_BYTES:
        raise LocalError(f"a graph seed is {SEED_BYTES} bytes")


def _check_degree(n: int, degree: int) -> None:
    _check_clients(n)
    if not isinstance(degree, int) or isinstance(degree, bool) or not 1 <= degree < n:
        raise ParameterError(
            f"a graph of {n} clients has degree {min(2, n - 1)} to {n - 1}, not {degree!r}"
        )
    if degree % 2 and degree != n - 1:
        raise ParameterError(f"degree {degree} is odd: take an even one, or {n - 1} (complete)")
