"""The one place that talks to numba's decorators: typed, cached where possible, announced."""

import platform
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba import config
from numba.core import codegen, event

from secagg import kernels

Function = TypeVar("Function", bound=Callable[..., Any])

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


def aes_kernels() -> tuple[str, ...]:
    """The AES kernels that numba can compile for this CPU, under its current settings."""
    if platform.machine().lower() not in {"x86_64", "amd64"} or config.DISABLE_JIT:
        return ()
    flags = codegen.get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    present = {flag[1:] for flag in flags.split(",") if flag.startswith("+")}
    return tuple(name for name, needed in _NEEDS.items() if needed <= present)


def cores() -> int:
    """How many threads numba may use: the cores of this process, or NUMBA_NUM_THREADS."""
    return int(config.NUMBA_NUM_THREADS)


class _Announcer(event.Listener):  # type: ignore[misc] # numba has no types
    """Passes the start of each compilation of our kernels on to the listeners."""

    def on_start(self, event: Any) -> None:
        function = event.data["dispatcher"].py_func
        if function.__module__.startswith(kernels.__name__ + "."):
            for listener in kernels._listeners:
                listener(f"{function.__module__.rpartition('.')[2]}.{function.__name__}")

    def on_end(self, event: Any) -> None:
        """Nothing: the next line of output says that this one is done."""


event.register("numba:compile", _Announcer())
