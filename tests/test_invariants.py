"""docs/invariants.md names real places and real tests, one of each for every invariant."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "invariants.md").read_text("utf-8")
ENTRY = re.compile(
    r"^(\d+)\. \*\*(.+?)\*\*.*?Enforced: `(.+?)`\.\s+Attacked: `(.+?)`\.$", re.DOTALL | re.MULTILINE
)
INVARIANTS = [match.groups() for match in ENTRY.finditer(PAGE)]
each = pytest.mark.parametrize(
    ("number", "what", "place", "test"), INVARIANTS, ids=lambda text: str(text)[:40]
)


def names_in(path: Path) -> set[str]:
    """What a module defines: functions, classes, constants, and methods after a dot."""
    found: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            inside = [n for n in node.body if isinstance(n, ast.FunctionDef)]
            found |= {f"{node.name}.{n.name}" for n in inside}
    return found


@each
def test_the_place_and_the_test_exist(number: str, what: str, place: str, test: str) -> None:
    del number, what
    for reference in (place, test):
        path, _, name = reference.partition("::")
        assert (ROOT / path).is_file(), reference
        assert name in names_in(ROOT / path), reference
    path, _, name = test.partition("::")
    assert Path(path).parts[0] == "tests"
    assert Path(path).name.startswith("test_")
    assert name.startswith("test_")


def test_they_are_numbered_in_order_and_none_is_skipped() -> None:
    assert [int(number) for number, *_ in INVARIANTS] == list(range(1, len(INVARIANTS) + 1))
    assert len(INVARIANTS) == len(re.findall(r"^\d+\. ", PAGE, re.MULTILINE))
    assert len(INVARIANTS) >= 25


def test_none_is_said_twice() -> None:
    said = [what for _, what, *_ in INVARIANTS]
    assert len(set(said)) == len(said)


def test_a_name_that_does_not_exist_would_be_noticed() -> None:
    here = names_in(Path(__file__))
    assert "names_in" in here
    assert "no_such_test" not in here
