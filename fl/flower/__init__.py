"""Secure aggregation for Flower's Message API, on its simulation and its deployment engine.

Two lines of an existing app change: the client's `ClientApp(mods=[secure_mod(PROTECTION)])`,
and the server's `strategy.start(grid=secure(strategy, grid, PROTECTION), …)`. Needs the extra
`flower`; nothing else in this project does. See docs/flower.md.

What is named here is loaded when it is used: on SuperNodes each message starts a process, and a
client needs nothing of the server's side.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if find_spec("flwr") is None:
    raise ImportError("fl.flower needs Flower; install it with: pip install 'secagg[flower]'")

if TYPE_CHECKING:
    from fl.flower.client import secure_mod
    from fl.flower.exchange import Patience
    from fl.flower.grid import SecureGrid
    from fl.flower.helpers import find_helpers
    from fl.flower.protection import Protection
    from fl.flower.report import Lost, RoundReport
    from fl.flower.strategies import secure

_HOMES = {
    "Lost": "report",
    "Patience": "exchange",
    "Protection": "protection",
    "RoundReport": "report",
    "SecureGrid": "grid",
    "find_helpers": "helpers",
    "secure": "strategies",
    "secure_mod": "client",
}

__all__ = [
    "Lost",
    "Patience",
    "Protection",
    "RoundReport",
    "SecureGrid",
    "find_helpers",
    "secure",
    "secure_mod",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
