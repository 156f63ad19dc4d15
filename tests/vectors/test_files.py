"""The files of vectors: how many there are, and that the reference makes exactly these."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.vectors.files import FOLDER, load
from tests.vectors.make import GENERATORS, text

BY_HAND = {"prg", "packing"}
NEGATIVE = {"negative", "refused", "out_of_range", "refusals"}


def vectors() -> Iterator[tuple[str, str, Any]]:
    """(file, section, vector)."""
    for path in sorted(FOLDER.glob("*.json")):
        for section, cases in load(path.stem).items():
            for case in cases if isinstance(cases, list) else ():
                yield path.stem, section, case


def is_negative(section: str, case: Any) -> bool:
    return section in NEGATIVE or (isinstance(case, dict) and "abort" in case)


@pytest.mark.parametrize("name", GENERATORS)
def test_the_reference_makes_this_file(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text("utf-8") == text(name)


def test_every_file_is_made_or_names_its_source() -> None:
    found = {path.stem for path in FOLDER.glob("*.json")}
    assert found == set(GENERATORS) | BY_HAND
    assert all(load(name)["source"] for name in BY_HAND)


def test_there_are_enough_and_a_quarter_is_negative() -> None:
    every = list(vectors())
    negative = [case for _, section, case in every if is_negative(section, case)]
    assert len(every) >= 300
    assert 4 * len(negative) >= len(every)


def test_every_negative_vector_says_which_error() -> None:
    for name, section, case in vectors():
        if name in GENERATORS and name != "merkle" and is_negative(section, case):
            error = case.get("abort", case)
            assert error["error"], (name, case)
            assert "message" in error or error["reason"], (name, case)
