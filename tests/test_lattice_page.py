"""docs/lattice.md: its table of parameters is what the code chooses. Run me to renew it."""

import re
from itertools import product
from math import log, pi, sqrt
from pathlib import Path

from secagg import gaussian, ntt
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


def test_the_width_that_hints_leave_is_above_the_smoothing_bound() -> None:
    """Section 5: sigma / 2 >= sqrt(2) eta, eta as a standard deviation (Micciancio and Regev)."""
    coefficients, epsilon_bits = 10**7, 120
    eta = sqrt(log(2 * coefficients * (1 + 2.0**epsilon_bits)) / pi)
    assert 3.18 < sqrt(2) * eta / sqrt(2 * pi) < float(gaussian.SIGMA) / 2


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
