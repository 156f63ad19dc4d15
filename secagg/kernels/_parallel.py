"""Kernels without the interpreter lock, spread over a few short-lived threads.

Numba's own parallel loops are not used: their thread pool aborts the process when two
Python threads enter it at once, or when the process was forked after its first use. Threads
that live for one call have neither problem and start in about 50 microseconds, a third of what
an executor of the standard library takes.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from threading import Thread

from secagg.kernels._jit import cores


def spread(work: Callable[[int, int], None], total: int, step: int, threads: int | None) -> None:
    """`work(low, high)` for consecutive pieces of `range(total)`, `step` at a time.

    The calling thread works too; `threads` (all cores where None) counts it. Each takes the
    next piece when it is free, in the context of the caller. An exception of any piece is raised
    here, once no thread works any more; pieces that nobody has begun are left undone then.
    """
    pieces = deque(range(0, total, step))
    failures = _Failures()

    def drain() -> None:
        while True:
            try:
                low = pieces.popleft()
            except IndexError:
                return
            with failures:
                work(low, min(low + step, total))
            if failures.kept:
                return

    count = min(threads or cores(), len(pieces) // 2) - 1  # two pieces pay for a thread
    helpers = [Thread(target=copy_context().run, args=(drain,)) for _ in range(count)]
    started = []
    with suppress(RuntimeError):  # of a system without a thread to spare: then fewer do it
        for helper in helpers:
            helper.start()
            started.append(helper)
    drain()
    for helper in started:
        helper.join()
    if failures.kept:
        raise failures.kept[0]


class _Failures:
    """Keeps what is raised in a block, of whichever thread, for the one that called."""

    def __init__(self) -> None:
        self.kept: list[BaseException] = []

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if error is not None:
            self.kept.append(error)
        return True
