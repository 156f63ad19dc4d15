"""`secagg params`: what is printed is what the plans say."""

import pytest
from rich.console import Console

from fl.params import show
from secagg.errors import ParameterError


def printed(*arguments: object) -> str:
    console = Console(record=True, width=120)
    show(*arguments, console)
    return console.export_text()


def test_the_chosen_set_and_its_budget_are_printed() -> None:
    text = printed("lattice", 1000, 32, 10**6)
    (chosen,) = [line for line in text.splitlines() if line.rstrip().endswith("chosen")]
    assert chosen.split() == ["B", "8192", "180", "202", "5", "4.50", "4.52", "MB", "chosen"]
    assert "delta = 160001" in text
    assert "delta M + 2 n B = 2^177.3 < q = 2^180.0: exact, with 2.7 bits to spare" in text


def test_a_set_that_does_not_hold_the_sum_is_left_out() -> None:
    text = printed("committee", 10**6, 64, 100)
    assert " A " not in text
    assert "chosen" in text


@pytest.mark.parametrize(
    ("protocol", "clients", "bits"),
    [("masking", 10, 32), ("lattice", 1, 32), ("lattice", 10, 0), ("lattice", 10, 65)],
)
def test_what_cannot_be_is_refused(protocol: str, clients: int, bits: int) -> None:
    with pytest.raises(ParameterError):
        printed(protocol, clients, bits, 10)


@pytest.mark.parametrize(
    ("clients", "bits", "length", "admissible"),
    [
        (0, 32, 10, "choose 2 to 26843545 for"),
        (1, 32, 10, "choose 2 to 26843545 for"),
        (-5, 20, 10, "choose 2 to 1048575 for"),
        (256, 8, 10, "choose 2 to 255 for"),
        (10, 0, 10, "choose 2 to 64"),
        (10, 1, 10, "choose 2 to 64"),
        (10, 99, 10, "choose 2 to 64"),
        (10, 32, 0, "at least 1"),
        (10, 32, 10**10, "at most 2684313520"),
    ],
)
def test_a_refusal_names_the_admissible_range(
    clients: int, bits: int, length: int, admissible: str
) -> None:
    with pytest.raises(ParameterError, match=admissible):
        printed("lattice", clients, bits, length)
