"""Compiled kernels and what an application may want to know about them.

Importing this package compiles nothing and does not import numba. A kernel is compiled, or
loaded from numba's cache on disk, when it is first called; the cache is keyed by source file
and CPU. It holds machine code: an application that does not trust the folder numba would
pick (beside the source, or the user's own cache) names a private one with `set_cache_dir`.
"""

import sys
from collections.abc import Callable

from secagg.errors import LocalError

LOADING = 500_000_000
"""Nanoseconds that a process takes to import numba and to load kernels from its cache, about."""

_listeners: list[Callable[[str], None]] = []
_first: list[int] = []


def supported() -> tuple[str, ...]:
    """The AES kernels that this CPU runs, widest first; none where numba does not import."""
    try:
        from secagg.kernels import _jit  # noqa: PLC0415 - numba takes half a second to import
    except ImportError:
        return ()
    return _jit.aes_kernels()


def postpone() -> None:
    """Load kernels only once as much time has gone into doing without them as loading takes.

    For a process that may have one message to answer, and no more: whatever follows, it takes
    at most twice the time that the better choice would have taken. All results are the same.
    """
    _first[:] = [LOADING]


def worth(nanoseconds: int) -> bool:
    """Whether to use kernels for work that takes about so long without them."""
    if not _first or "numba" in sys.modules:
        return True
    _first[0] -= nanoseconds
    return _first[0] <= 0


def on_compile(listener: Callable[[str], None]) -> None:
    """Call `listener` with the name of each kernel that is about to be compiled.

    Loading a kernel from the cache is not a compilation. The listener runs in the thread
    that compiles, holding numba's compiler lock: it must be quick and must not raise.
    """
    _listeners.append(listener)


def set_cache_dir(path: str) -> None:
    """Keep compiled code under `path`, which should exist with mode 0700.

    Call it before the first kernel is used: `LocalError` afterwards. Without numba it does
    nothing.
    """
    if "secagg.kernels._jit" in sys.modules:
        raise LocalError("the cache folder is chosen before the first kernel is loaded")
    try:
        import numba  # noqa: PLC0415
    except ImportError:
        return
    vars(numba.config)["CACHE_DIR"] = path  # numba assigns its settings at run time
