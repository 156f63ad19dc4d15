"""The one place that talks to numba's decorators: typed, cached where possible, announced.

Numba assigns its settings at run time and annotates little, hence the values typed `Any`.
"""

import platform
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core import cgutils, codegen, event
from numba.extending import intrinsic as _intrinsic

from secagg import kernels

Function = TypeVar("Function", bound=Callable[..., Any])

intrinsic: Callable[[Callable[..., Any]], Any] = _intrinsic
declare: Any = cgutils.get_or_insert_function
_config: Any = numba.config
_host_features: Any = codegen.get_host_cpu_features
_register: Any = event.register

_NEEDS = {
    "vaes512": {"vaes", "avx512f", "avx512bw", "aes"},
    "vaes256": {"vaes", "avx2", "aes"},
    "aesni": {"aes", "ssse3"},
}


def kernel(function: Function) -> Function:
    """Compile on first call, without the interpreter lock, and cache the machine code.

    Where numba finds no folder to cache in (a read-only installation without a home), the
    kernel is compiled in every process instead.
    """
    try:
        compiled = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        compiled = numba.njit(nogil=True)(function)
    return cast(Function, compiled)


def compiles() -> bool:
    """Whether kernels that touch raw memory can be used: compiled, and little-endian."""
    return not _config.DISABLE_JIT and sys.byteorder == "little"


def features() -> set[str]:
    """LLVM's names of what this x86 CPU can do and numba may use, under its current settings."""
    if platform.machine().lower() not in {"x86_64", "amd64"} or not compiles():
        return set()
    flags = _host_features() if _config.CPU_FEATURES is None else _config.CPU_FEATURES
    last = {flag[1:]: flag[:1] for flag in flags.split(",")}
    return {name for name, sign in last.items() if sign == "+"}


def aes_kernels() -> tuple[str, ...]:
    """The AES kernels that numba can compile for this CPU, under its current settings."""
    present = features()
    return tuple(name for name, needed in _NEEDS.items() if needed <= present)


def cores() -> int:
    """How many threads numba may use: the cores of this process, or NUMBA_NUM_THREADS."""
    return int(_config.NUMBA_NUM_THREADS)


class _Announcer(event.Listener):
    """Passes the start of each compilation of our kernels on to the listeners."""

    def on_start(self, event: Any) -> None:
        function = event.data["dispatcher"].py_func
        if function.__module__.startswith(f"{kernels.__name__}."):
            for listener in kernels._listeners:
                listener(f"{function.__module__.rpartition('.')[2]}.{function.__name__}")

    def on_end(self, event: Any) -> None:
        """Nothing: the next line of output says that this one is done."""


_register("numba:compile", _Announcer())
