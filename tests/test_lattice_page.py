"""docs/lattice.md: its table of parameters is what the code chooses. Run me to renew it."""

import re
from itertools import product
from math import e, log, log2, pi, sqrt
from pathlib import Path

import pytest

from secagg import gaussian, ntt, ringset
from secagg.errors import ParameterError
from secagg.ringset import SETS, Plan

PAGE = Path(__file__).parent.parent / "docs" / "lattice.md"
START, END = "<!-- parameters -->\n", "<!-- end -->"
CLIENTS, BITS = (10, 100, 1000, 10**6), (16, 20, 24, 32, 64)


def table() -> str:
    """Values a coefficient, and bytes a value, for each set."""
    lines = ["| set | clients | " + " | ".join(f"{bits} bits" for bits in BITS) + " |"]
    lines.append("| --- " * (2 + len(BITS)) + "|")
    for name, clients in product(SETS, CLIENTS):
        cells = " | ".join(_cell(name, clients, bits) for bits in BITS)
        lines.append(f"| {name} | {clients} | {cells} |")
    return "\n".join(lines) + "\n"


def _cell(name: str, clients: int, bits: int) -> str:
    try:
        plan = Plan(SETS[name], clients, 1, (2**bits - 1) // clients)
    except ParameterError:
        return "–"
    return f"{plan.fields} ({plan.ring.bits / plan.fields / 8:.2f} B)"


def page(text: str) -> str:
    """`text` with its table renewed."""
    before, rest = text.split(START)
    return before + START + table() + END + rest.split(END, 1)[1]


def test_the_parameter_table_is_that_of_the_code() -> None:
    text = PAGE.read_text("utf-8")
    assert page(text) == text, "run: python -m tests.test_lattice_page"


def test_the_sets_and_primes_are_those_of_the_code() -> None:
    text = PAGE.read_text("utf-8")
    assert ", ".join(map(str, ntt.primes(6))) in re.sub(r"\s+", " ", text)
    for ring in SETS.values():
        row = f"| {ring.name} | {ring.degree} | {ring.count} | {ring.bits} | {ring.most_bits} |"
        assert row in text


def smoothing(coefficients: int, epsilon_bits: int) -> float:
    """sqrt(2) eta, eta as a standard deviation (Micciancio and Regev)."""
    eta = sqrt(log(2 * coefficients * (1 + 2.0**epsilon_bits)) / pi)
    return sqrt(2) * eta / sqrt(2 * pi)


def test_the_width_that_hints_leave_is_above_the_smoothing_bound() -> None:
    """Section 5, for whatever a plan accepts."""
    left = float(gaussian.SIGMA) / 2
    assert smoothing(10**8, 115) < 3.165 < smoothing(ringset.MOST_COEFFICIENTS, 115) < 3.192 < left
    assert smoothing(10**7, 120) < left < smoothing(10**8, 120)


@pytest.mark.parametrize("name", SETS)
def test_longer_vectors_are_refused(name: str) -> None:
    ring = SETS[name]
    room = Plan(ring, 10, 1, 2**20).fields * (ringset.MOST_COEFFICIENTS - ring.degree - 16)
    fits = Plan(ring, 10, room, 2**20)
    assert ring.degree + fits.coefficients == ringset.MOST_COEFFICIENTS
    with pytest.raises(ParameterError, match=f"too long: at most {room} of this size"):
        Plan(ring, 10, room + 16 * fits.fields, 2**20)


@pytest.mark.parametrize(
    ("clients", "coefficients", "bits"), [(1000, 10**6, 87), (10**6, ringset.MOST_COEFFICIENTS, 68)]
)
def test_what_is_cut_off_adds_up_as_the_page_says(
    clients: int, coefficients: int, bits: int
) -> None:
    each = float(gaussian.tail()) + 80 * 2.0**-128
    total = log2(each * clients * (coefficients + 8192))
    assert -bits - 2 < total < -bits
    assert f"2^-{bits} for" in re.sub(r"\s+", " ", PAGE.read_text("utf-8"))


def block_size(degree: int, q_bits: int, sigma: float) -> int:
    """Of the primal attack by the estimate of Alkim et al. (USENIX Security 2016, section 6.3)."""

    def succeeds(beta: int, samples: int) -> bool:
        root = ((pi * beta) ** (1 / beta) * beta / (2 * pi * e)) ** (1 / (2 * (beta - 1)))
        size = degree + samples + 1
        projected = log2(sigma * sqrt(beta))
        return projected <= (2 * beta - size - 1) * log2(root) + q_bits * samples / size

    def least(samples: int) -> int:
        return next(beta for beta in range(300, 1000) if succeeds(beta, samples))

    return min(least(samples) for samples in range(degree // 2, 2 * degree, degree // 64))


@pytest.mark.parametrize("name", SETS)
def test_core_svp_is_what_the_page_says(name: str) -> None:
    ring = SETS[name]
    beta = block_size(ring.degree, ring.bits, float(gaussian.SIGMA) / 2)
    row = f"| {name} | {beta} | {0.292 * beta:.0f} | {0.265 * beta:.0f} |"
    assert row in PAGE.read_text("utf-8"), row


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
