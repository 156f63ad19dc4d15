"""Secure aggregation for Flower's Message API, on its simulation and its deployment engine.

Two lines of an existing app change: the client's `ClientApp(mods=[secure_mod(PROTECTION)])`,
and the server's `strategy.start(grid=secure(strategy, grid, PROTECTION), …)`. Needs the extra
`flower`; nothing else in this project does. See docs/flower.md.
"""

from importlib.util import find_spec

if find_spec("flwr") is None:
    raise ImportError("fl.flower needs Flower; install it with: pip install 'secagg[flower]'")

from fl.flower.client import secure_mod
from fl.flower.exchange import Patience
from fl.flower.grid import SecureGrid
from fl.flower.protection import Protection
from fl.flower.report import Lost, RoundReport
from fl.flower.roles import find_helpers
from fl.flower.strategies import secure

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
