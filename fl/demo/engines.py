"""What the demo runs on: processes of its own, or Flower's."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from fl.settings import DEFAULT_DATA
from secagg.errors import ParameterError

LOCAL, FLOWER = "local", "flower"
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    LOCAL: {"data": DEFAULT_DATA},
    FLOWER: {"data": "opt", "clients": 4, "rounds": 3},  # an exchange takes seconds
}


def with_defaults(engine: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` with the engine's own where nothing was said. Raises ParameterError."""
    if engine not in DEFAULTS:
        raise ParameterError(f"there is no engine {engine!r}; choose {', '.join(DEFAULTS)}")
    if engine == FLOWER and find_spec("flwr") is None:
        raise ParameterError(
            "--engine flower needs Flower; install it with: pip install 'secagg[flower]'"
        )
    own = DEFAULTS[engine]
    return {name: value or own.get(name, value) for name, value in options.items()}


def as_in_clear(worst: float) -> str:
    """What the report says where sums are not compared; worst: furthest of a mean, as trained."""
    return (
        "As far as rounding lets one tell: the command trained the same again in clear, and each "
        f"mean is within {worst:.1e} of that, which the encoding's step and the model's own "
        "float32 explain. The sums were not compared bit for bit: nobody sees what clients encode."
    )
