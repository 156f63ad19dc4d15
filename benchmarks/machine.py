"""What the figures were measured on, and the machine's own limit for moving memory."""

import os
import platform
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Contestant, Line, same, timed
from secagg import prg

COPY_BYTES = 64 << 20
PIECE = 1 << 17
"""Words that a thread copies at a time."""

Words = NDArray[np.uint64]
PACKAGES = ("numpy", "numba", "cryptography", "torch", "tenseal", "flwr", "pycryptodome")


def describe() -> dict[str, str]:
    """CPU model, cores, kernel of the masks, Python and the versions of what was compared."""
    return {
        "cpu": _cpu(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1),
        "masks": prg.backend(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version for name in PACKAGES if (version := _version(name))},
    }


def memory_copy(size: int = COPY_BYTES) -> Line:
    """The first line: it carries the description of the machine."""
    source, target = np.arange(size // 8, dtype=np.uint64), np.zeros(size // 8, np.uint64)

    def check() -> None:
        _copy(target, source)
        same(target, source, "memory copy")

    ours = timed(lambda: _copy(target, source))
    return Line("memory copy", {"bytes": size, "machine": describe()}, ours, check)


def copying(moved: int) -> Contestant:
    """The limit of an operation that reads and writes `moved` bytes in all: a copy of half, on
    all cores.
    """
    source = np.zeros(max(1, moved // 16), np.uint64)
    target = np.ones_like(source)
    return timed(lambda: _copy(target, source))


def _copy(target: Words, source: Words) -> None:
    """By as many threads as the kernels have, each piece by `numpy.copyto`."""
    from secagg.kernels._parallel import spread  # noqa: PLC0415 - imports numba

    def piece(low: int, high: int) -> None:
        np.copyto(target[low:high], source[low:high])

    spread(piece, source.size, PIECE, None)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
