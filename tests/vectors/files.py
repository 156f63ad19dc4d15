"""The files of vectors: where they are, how they are read, what a refusal looks like."""

import builtins
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
Vectors = dict[str, Any]


def load(name: str) -> Vectors:
    """The published vectors of one file."""
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def error(name: str, module: object) -> type[Exception]:
    """The class that a negative vector names: one of `module`, or Python's own."""
    return getattr(module, name, None) or getattr(builtins, name)


def refused(what: str, kind: str, message: str, **inputs: object) -> Vectors:
    return {"refused": what, **inputs, "error": kind, "message": message}
