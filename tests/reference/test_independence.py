"""The reference is an implementation of its own: what it may import, and how long it is."""

import ast
import sys
from pathlib import Path

import pytest

SOURCES = [p for p in sorted(Path(__file__).parent.glob("*.py")) if not p.stem.startswith("test_")]
ALLOWED = {"cryptography", "tests"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_shares_nothing_but_cryptography(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            top = name.split(".")[0]
            assert top in ALLOWED or top in sys.stdlib_module_names, name
            assert top != "tests" or name.startswith("tests.reference"), name


def test_it_is_small() -> None:
    assert sum(len(path.read_text("utf-8").splitlines()) for path in SOURCES) < 2000
