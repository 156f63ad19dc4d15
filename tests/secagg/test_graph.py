"""The graph against its definition, and its parameters against exact rational arithmetic."""

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import ECB

from secagg import graph
from secagg.errors import LocalError, ParameterError
from secagg.graph import Cohort, GraphParameters, choose_parameters
from secagg.kdf import derive

SEED = bytes(range(32))
SECURITY = Fraction(1, 2**40)
CORRECTNESS = Fraction(1, 2**20)
KNOWN_ORDER = [6, 12, 1, 7, 11, 9, 0, 5, 3, 13, 10, 8, 14, 15, 2, 4]
KNOWN_ROW = [3, 5, 9, 11]

# --- slow references: definitions, searched and counted ----------------------------------


def joined(u: int, v: int, n: int, degree: int) -> bool:
    """The circulant, or complete, graph on places 0..n-1, from its definition."""
    return u != v and (degree == n - 1 or min((u - v) % n, (v - u) % n) <= degree // 2)


def connected(vertices: set[int], n: int, degree: int) -> bool:
    left = set(vertices)
    queue = [left.pop()] if left else []
    while queue:
        u = queue.pop()
        reached = {v for v in left if joined(u, v, n, degree)}
        left -= reached
        queue.extend(reached)
    return not left


def long_gap_sum(n: int, degree: int, r: int, j: int) -> Fraction:
    """S_j: the expected number of j-sets of gaps with degree / 2 removed vertices or more."""
    m, h = n - r, degree // 2
    ways = math.comb(m - j * h + r - 1, r - 1) if m >= j * h else 0
    return Fraction(math.comb(r, j) * ways, math.comb(m + r - 1, r - 1))


def exact_disconnection(n: int, degree: int, r: int) -> Fraction:
    """The probability that r random vertices of the circulant are disconnected."""
    if degree == n - 1:
        return Fraction(0)
    terms = ((-1) ** j * (j - 1) * long_gap_sum(n, degree, r, j) for j in range(2, r + 1))
    return sum(terms, Fraction(0))


def pmf(population: int, marked: int, draws: int) -> list[Fraction]:
    """P[X = k] for k = 0..draws."""
    rest, total = population - marked, math.comb(population, draws)
    return [
        Fraction(math.comb(marked, k) * math.comb(rest, draws - k), total) for k in range(draws + 1)
    ]


def slow_failures(cohort: Cohort, degree: int) -> tuple[list[Fraction], list[Fraction]]:
    """Security and correctness failure for each threshold 0..degree + 1."""
    n, c, d = cohort
    cut = exact_disconnection(n, degree, n - c - d)
    corrupt = pmf(n - 1, c, degree)
    one, other = pmf(n - 1, n - d - 1, degree), pmf(n - 1, min(n - d, n - 1), degree)
    thresholds = range(degree + 2)
    security = [cut + (n - c) * sum(corrupt[t:], Fraction(0)) for t in thresholds]
    correctness = [
        (n - d) * sum(one[: max(0, t - 1)], Fraction(0)) + d * sum(other[:t], Fraction(0))
        for t in thresholds
    ]
    return security, correctness


def good_thresholds(cohort: Cohort, degree: int) -> list[int]:
    security, correctness = slow_failures(cohort, degree)
    return [
        t for t in range(2, degree + 2) if security[t] <= SECURITY and correctness[t] <= CORRECTNESS
    ]


def slow_choice(cohort: Cohort) -> GraphParameters | None:
    for degree in range(2, cohort.clients - 1, 2):
        good = good_thresholds(cohort, degree)
        if good:
            return GraphParameters(degree, good[0])
    return None


def degrees(n: int) -> Iterator[int]:
    yield from range(2, n - 1, 2)
    yield n - 1


def cohort_of(n: int, corrupt: Fraction, dropout: Fraction) -> Cohort:
    return Cohort(n, math.ceil(n * corrupt), math.ceil(n * dropout))


# --- the graph ---------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 9, 20, 101])
def test_graph_is_the_permuted_circulant(n: int) -> None:
    order = graph.permutation(n, SEED).tolist()
    assert sorted(order) == list(range(n))
    place = {client: i for i, client in enumerate(order)}
    for degree in degrees(n):
        table = graph.neighbours(n, degree, SEED)
        assert table.shape == (n, degree)
        assert table.dtype == np.int64
        for v in range(n):
            expected = [u for u in range(n) if joined(place[u], place[v], n, degree)]
            assert table[v].tolist() == expected
            assert graph.neighbours_of(v, n, degree, SEED).tolist() == expected


@pytest.mark.parametrize(("n", "degree"), [(1000, 44), (1001, 998), (20_000, 120)])
def test_large_graph_is_regular_symmetric_and_without_loops(n: int, degree: int) -> None:
    table = graph.neighbours(n, degree, SEED)
    assert np.all(np.diff(table, axis=1) > 0)
    assert table.min() >= 0
    assert table.max() < n
    here = np.repeat(np.arange(n), degree)
    there = table.ravel()
    assert not np.any(here == there)
    assert np.array_equal(np.sort(here * n + there), np.sort(there * n + here))


def test_permutation_ranks_the_blocks_of_the_stream() -> None:
    material = derive(SEED, "graph permutation", length=28)
    cipher = Cipher(AES128(material[:16]), ECB()).encryptor()  # noqa: S305 - CTR by hand
    blocks = [cipher.update(material[16:] + i.to_bytes(4, "big")) for i in range(500)]
    expected = sorted(range(500), key=lambda i: blocks[i])
    assert graph.permutation(500, SEED).tolist() == expected


@pytest.mark.parametrize("highs", [[3, 1, 2], [5, 5, 5, 5], [7, 1, 7, 0, 1], [2**64 - 1, 2**63]])
def test_equal_high_halves_are_ranked_by_the_low_ones(highs: list[int]) -> None:
    """Of 500 clients none has them: here some have."""
    lows = [9 * i % 4 for i in range(len(highs))]
    blocks = list(zip(highs, lows, range(len(highs)), strict=True))
    high, low = np.array(highs, np.uint64), np.array(lows, np.uint64)
    assert graph._ranked(high, low).tolist() == [at for *_, at in sorted(blocks)]


def test_permutation_known_answer() -> None:
    assert graph.permutation(16, SEED).tolist() == KNOWN_ORDER
    assert graph.neighbours(16, 4, SEED)[0].tolist() == KNOWN_ROW


def test_seed_decides_and_nothing_else() -> None:
    other = SEED[:-1] + b"\0"
    assert np.array_equal(graph.neighbours(100, 10, SEED), graph.neighbours(100, 10, SEED))
    assert not np.array_equal(graph.neighbours(100, 10, SEED), graph.neighbours(100, 10, other))
    assert np.array_equal(graph.neighbours(100, 99, SEED), graph.neighbours(100, 99, other))
    assert np.array_equal(graph.neighbours(101, 100, SEED), graph.complete(101))


@pytest.mark.parametrize("degree", [0, 1, 3, 7, 9, 10, -2, True, 2.0])
def test_degree_is_even_or_complete(degree: int) -> None:
    for refused in (
        lambda: graph.neighbours(9, degree, SEED),
        lambda: graph.neighbours_of(0, 9, degree, SEED),
        lambda: graph.disconnection(Cohort(9, 1, 1), degree),
        lambda: graph.correctness_failure(Cohort(9, 1, 1), GraphParameters(degree, 2)),
    ):
        with pytest.raises(ParameterError, match="degree"):
            refused()


@pytest.mark.parametrize("n", [1, 0, -3, True, 5.0, "5", None, (1 << 24) + 1])
def test_graph_needs_two_clients(n: int) -> None:
    with pytest.raises(ParameterError, match="2 to 16777216 clients"):
        graph.permutation(n, SEED)
    with pytest.raises(ParameterError, match="2 to 16777216 clients"):
        graph.complete(n)


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33), "0" * 32, None])
def test_seed_is_32_bytes(seed: bytes) -> None:
    for degree in (4, 9):
        with pytest.raises(LocalError, match="32 bytes"):
            graph.neighbours(10, degree, seed)


@pytest.mark.parametrize("client", [-1, 10])
def test_client_is_in_the_graph(client: int) -> None:
    with pytest.raises(LocalError, match="no client"):
        graph.neighbours_of(client, 10, 4, SEED)


# --- failure probabilities ---------------------------------------------------------------


@pytest.mark.parametrize("n", range(3, 12))
def test_disconnection_formula_against_graph_search(n: int) -> None:
    """Every set of removed vertices, every degree, wrap-around ones included."""
    for degree, r in product(degrees(n), range(1, n + 1)):
        subsets = list(combinations(range(n), r))
        cut = sum(not connected(set(kept), n, degree) for kept in subsets)
        exact = Fraction(cut, len(subsets))
        assert exact_disconnection(n, degree, r) == exact
        if r >= 2:
            assert exact <= graph.disconnection(Cohort(n, n - r, 0), degree)


@pytest.mark.parametrize("n", [60, 151, 400])
def test_disconnection_is_tight_where_it_matters(n: int) -> None:
    seen = 0
    for degree, r in product(range(2, n - 1, max(2, n // 60 * 2)), range(2, n, 7)):
        bound = graph.disconnection(Cohort(n, n - r, 0), degree)
        pairs = long_gap_sum(n, degree, r, 2)
        assert bound == pytest.approx(float(pairs), rel=2e-7)
        assert pairs <= bound <= float(pairs) * (1 + 2e-7)
        if 0 < bound < 1:
            exact = float(exact_disconnection(n, degree, r))
            assert bound * (1 - math.sqrt(bound)) <= exact * (1 + 2e-7)
            seen += bound < SECURITY
    assert seen


def roles(n: int, corrupt: int, dropped: int) -> Iterator[tuple[set[int], set[int]]]:
    for bad in combinations(range(n), corrupt):
        good = [v for v in range(n) if v not in bad]
        for gone in combinations(good, dropped):
            yield set(bad), set(gone)


@pytest.mark.parametrize("n", [4, 5, 7, 8])
def test_failure_bounds_against_every_arrangement(n: int) -> None:
    """Each client's failure, counted; the bounds are their expected number, plus the cut."""
    for corrupt, dropped in product(range(n), repeat=2):
        if n - corrupt - dropped >= 2:
            arrangements = list(roles(n, corrupt, dropped))
            for degree in degrees(n):
                check_arrangements(Cohort(n, corrupt, dropped), degree, arrangements)


def check_arrangements(
    cohort: Cohort, degree: int, arrangements: list[tuple[set[int], set[int]]]
) -> None:
    n = cohort.clients
    near = [{v for v in range(n) if joined(u, v, n, degree)} for u in range(n)]
    exposed, short, insecure, stuck = ([0] * (degree + 2) for _ in range(4))
    for bad, gone in arrangements:
        whole = connected(set(range(n)) - bad - gone, n, degree)
        held = [len(near[u] & bad) for u in range(n) if u not in bad]
        answers = [len((near[u] | {u}) - gone) for u in range(n)]
        for t in range(degree + 2):
            exposed[t] += sum(h >= t for h in held)
            short[t] += sum(a < t for a in answers)
            insecure[t] += not whole or max(held) >= t
            stuck[t] += min(answers) < t
    security, correctness = slow_failures(cohort, degree)
    cut = exact_disconnection(n, degree, cohort.remaining)
    total = len(arrangements)
    for t in range(degree + 2):
        assert security[t] - cut == Fraction(exposed[t], total)
        assert correctness[t] == Fraction(short[t], total)
        safe = graph.security_failure(cohort, GraphParameters(degree, t))
        works = graph.correctness_failure(cohort, GraphParameters(degree, t))
        assert Fraction(insecure[t], total) <= security[t] <= safe
        assert Fraction(stuck[t], total) <= correctness[t] <= works
        cut_bound = graph.disconnection(cohort, degree)
        assert safe - cut_bound == pytest.approx(float(security[t] - cut), rel=2e-7, abs=1e-12)
        assert works == pytest.approx(float(correctness[t]), rel=2e-7)


@pytest.mark.parametrize(
    ("cohort", "degree"),
    [
        (Cohort(1000, 100, 100), 44),
        (Cohort(3000, 1400, 300), 800),
        (Cohort(10**4, 3300, 3300), 412),
        (Cohort(10**6, 50_000, 50_000), 38),
        (Cohort(10**6, 5, 999_000), 300),
    ],
)
def test_failure_bounds_are_accurate_and_never_too_small(cohort: Cohort, degree: int) -> None:
    n, c, d = cohort
    corrupt = pmf(n - 1, c, degree)
    one, other = pmf(n - 1, n - d - 1, degree), pmf(n - 1, n - d, degree)
    cut = long_gap_sum(n, degree, n - c - d, 2) if n < 10**5 else None
    for t in range(2, degree + 2, 5):
        parameters = GraphParameters(degree, t)
        exposed = (n - c) * sum(corrupt[t:], Fraction(0))
        short = (n - d) * sum(one[: t - 1], Fraction(0)) + d * sum(other[:t], Fraction(0))
        bound = graph.security_failure(cohort, parameters) - graph.disconnection(cohort, degree)
        if exposed > 2.0**-70 and cut is not None and cut < exposed:
            assert bound == pytest.approx(float(exposed), rel=2e-7)
        if short > 2.0**-70:
            assert short <= graph.correctness_failure(cohort, parameters)
            assert graph.correctness_failure(cohort, parameters) <= float(short) * (1 + 2e-7)


@pytest.mark.parametrize("bad", [Cohort(9, 4, 4), Cohort(9, -1, 2), Cohort(1, 0, 0)])
def test_probabilities_refuse_a_cohort_without_two_honest_clients(bad: Cohort) -> None:
    for failure in (graph.security_failure, graph.correctness_failure):
        with pytest.raises(ParameterError):
            failure(bad, GraphParameters(2, 2))


def test_fewer_dropouts_only_help() -> None:
    for n, corrupt, dropout in [(60, 0.1, 0.6), (200, 0.2, 0.3), (300, 0.0, 0.9), (101, 0.1, 0.1)]:
        parameters = choose_parameters(n, corrupt, dropout, "semi-honest")
        failures = [
            (f(Cohort(n, math.ceil(n * corrupt), d), parameters))
            for f in (graph.security_failure, graph.correctness_failure)
            for d in range(math.ceil(n * dropout) + 1)
        ]
        half = len(failures) // 2
        assert failures[:half] == sorted(failures[:half])
        assert failures[half:] == sorted(failures[half:])


# --- the choice --------------------------------------------------------------------------

FRACTIONS = [Fraction(k, 20) for k in (0, 1, 2, 5, 7, 9, 10, 14, 18)]


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 9, 16, 25, 40, 61])
def test_choice_is_the_smallest_by_exact_arithmetic(n: int) -> None:
    for corrupt, dropout in product(FRACTIONS, repeat=2):
        cohort = cohort_of(n, corrupt, dropout)
        if cohort.remaining < 2:
            with pytest.raises(ParameterError, match="two honest"):
                choose_parameters(n, float(corrupt), float(dropout), "semi-honest")
            continue
        chosen = choose_parameters(n, float(corrupt), float(dropout), "semi-honest")
        expected = slow_choice(cohort)
        if expected is None:
            default = (n + cohort.corrupt) // 2 + 1
            expected = GraphParameters(n - 1, min(default, n - cohort.dropped))
            assert max(2, cohort.corrupt + 1) <= chosen.threshold
        assert chosen == expected


@pytest.mark.parametrize(
    ("n", "corrupt", "dropout"),
    [(150, 0.1, 0.1), (150, 0.3, 0.2), (200, 0.05, 0.4), (200, 0.2, 0.0), (256, 0.0, 0.5)],
)
def test_choice_is_the_smallest_for_more_clients(n: int, corrupt: float, dropout: float) -> None:
    cohort = cohort_of(n, Fraction(str(corrupt)), Fraction(str(dropout)))
    assert choose_parameters(n, corrupt, dropout, "semi-honest") == slow_choice(cohort)


@pytest.mark.parametrize("cohort", [Cohort(76, 26, 2), Cohort(83, 15, 2), Cohort(97, 39, 2)])
def test_choice_adds_both_security_failures(cohort: Cohort) -> None:
    """At the smallest degree that stays connected, either failure alone would be in bounds."""
    n = cohort.clients
    chosen = choose_parameters(n, cohort.corrupt / n, cohort.dropped / n, "semi-honest")
    assert chosen == slow_choice(cohort)
    assert exact_disconnection(n, chosen.degree - 2, cohort.remaining) <= SECURITY


@pytest.mark.parametrize(
    ("n", "corrupt", "dropout", "expected"),
    [
        (1000, 0.1, 0.1, (44, 26)),
        (10**4, 0.05, 0.05, (32, 19)),
        (10**4, 0.2, 0.2, (118, 65)),
        (10**5, 0.1, 0.1, (56, 32)),
    ],
)
def test_choice_meets_both_bounds_and_two_fewer_do_not(
    n: int, corrupt: float, dropout: float, expected: tuple[int, int]
) -> None:
    cohort = cohort_of(n, Fraction(str(corrupt)), Fraction(str(dropout)))
    assert choose_parameters(n, corrupt, dropout, "semi-honest") == expected
    degree, threshold = expected
    assert tight_thresholds(cohort, degree)[0] == threshold
    assert not tight_thresholds(cohort, degree - 2)


def tight_thresholds(cohort: Cohort, degree: int) -> list[int]:
    """As `good_thresholds`, with the bound S_2 as a product, which is quick for large n."""
    n, c, d = cohort
    r = cohort.remaining
    cut = Fraction(math.comb(r, 2) * math.perm(n - r, degree), math.perm(n - 1, degree))
    corrupt = pmf(n - 1, c, degree)
    one, other = pmf(n - 1, n - d - 1, degree), pmf(n - 1, n - d, degree)
    good = []
    for t in range(2, degree + 2):
        short = (n - d) * sum(one[: t - 1], Fraction(0)) + d * sum(other[:t], Fraction(0))
        if cut + (n - c) * sum(corrupt[t:], Fraction(0)) <= SECURITY and short <= CORRECTNESS:
            good.append(t)
    return good


@pytest.mark.parametrize(
    ("corrupt", "dropout"),
    [(0.0, 0.0), (0.05, 0.05), (0.3, 0.3), (0.45, 0.5), (0.49, 0.5), (0.499, 0.5), (0.0, 0.99)],
)
def test_million_clients_are_answered(corrupt: float, dropout: float) -> None:
    n = 10**6
    parameters = choose_parameters(n, corrupt, dropout, "semi-honest")
    cohort = Cohort(n, round(n * corrupt), round(n * dropout))
    assert parameters.degree % 2 == 0
    assert graph.security_failure(cohort, parameters) <= SECURITY
    assert graph.correctness_failure(cohort, parameters) <= CORRECTNESS
    if parameters.degree > 2:
        assert not fits(cohort, parameters.degree - 2)


def fits(cohort: Cohort, degree: int) -> bool:
    """Whether the largest threshold that is correct is secure (bisected)."""
    low, high = 0, degree + 1
    while low < high:
        t = (low + high + 1) // 2
        short = graph.correctness_failure(cohort, GraphParameters(degree, t)) > CORRECTNESS
        low, high = (low, t - 1) if short else (t, high)
    return graph.security_failure(cohort, GraphParameters(degree, low)) <= SECURITY


@pytest.mark.parametrize(
    ("n", "corrupt", "dropout", "expected"),
    [
        (10, 0.1, 0.7, (9, 3)),  # 7 would be the default, but only 3 answer
        (10, 0.8, 0.0, (9, 10)),  # floor((10 + 8) / 2) + 1, and 10 answer
        (3, 0.0, 0.0, (2, 2)),
        (2, 0.0, 0.0, (1, 2)),
        (1000, 0.498, 0.5, (999, 500)),
    ],
)
def test_complete_graph_where_nothing_sparser_will_do(
    n: int, corrupt: float, dropout: float, expected: tuple[int, int]
) -> None:
    chosen = choose_parameters(n, corrupt, dropout, "semi-honest")
    assert chosen == expected
    cohort = cohort_of(n, Fraction(str(corrupt)), Fraction(str(dropout)))
    assert graph.security_failure(cohort, chosen) == 0
    assert graph.correctness_failure(cohort, chosen) == 0


@pytest.mark.parametrize(
    ("n", "corrupt", "dropout", "threshold"),
    [(2, 0, 0, 2), (10, 0, 0.4, 6), (10, 0.2, 0.3, 7), (11, 0.2, 0.2, 8), (1000, 0.33, 0.33, 666)],
)
def test_active_takes_the_smallest_majority(
    n: int, corrupt: float, dropout: float, threshold: int
) -> None:
    assert choose_parameters(n, corrupt, dropout, "active") == (n - 1, threshold)
    c = math.ceil(Fraction(str(corrupt)) * n)
    assert 2 * (threshold - 1) <= n + c < 2 * threshold


def test_active_refuses_dropouts_it_cannot_survive() -> None:
    with pytest.raises(ParameterError, match=r"7 of 10 clients must answer.*only 6 would"):
        choose_parameters(10, 0.2, 0.4, "active")


def test_float_noise_adds_no_client() -> None:
    assert 0.07 * 100 > 7
    assert choose_parameters(100, 0.07, 0, "active") == (99, (100 + 7) // 2 + 1)
    assert choose_parameters(31, 0.1, 0, "active") == (30, (31 + 4) // 2 + 1)
    for n in (3, 7, 49, 1000, 10**6):
        for k in range(0, n // 2, max(1, n // 97)):
            assert choose_parameters(n, k / n, 0.0, "active").threshold == (n + k) // 2 + 1


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, math.nan, math.inf, True, "0.1", None])
def test_fractions_are_in_range(fraction: float) -> None:
    with pytest.raises(ParameterError, match="corrupt is a fraction"):
        choose_parameters(100, fraction, 0.1, "semi-honest")
    with pytest.raises(ParameterError, match="dropout is a fraction"):
        choose_parameters(100, 0.1, fraction, "active")


@pytest.mark.parametrize("n", [1, 0, True, 100.0, "100"])
def test_number_of_clients_is_an_integer(n: int) -> None:
    with pytest.raises(ParameterError, match="clients"):
        choose_parameters(n, 0.1, 0.1, "semi-honest")


@pytest.mark.parametrize("adversary", ["honest", "", None, "malicious"])
def test_adversary_is_known(adversary: str) -> None:
    with pytest.raises(ParameterError, match="'semi-honest' or 'active'"):
        choose_parameters(100, 0.1, 0.1, adversary)  # type: ignore[arg-type]
