"""Kernels without the interpreter lock, spread over a few short-lived threads.

Numba's own parallel loops are not used: their thread pool aborts the process when two
Python threads enter it at once, or when the process was forked after its first use. Threads
that live for one call have neither problem and start in about 50 microseconds.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from secagg.kernels._jit import cores


def spread(work: Callable[[int, int], None], total: int, step: int, threads: int | None) -> None:
    """`work(low, high)` for consecutive pieces of `range(total)`, `step` at a time.

    The calling thread works too; `threads` (all cores where None) counts it. Each takes the
    next piece when it is free. An exception of any piece is raised here.
    """
    pieces = deque(range(0, total, step))
    helpers = min(threads or cores(), len(pieces) // 2) - 1  # two pieces pay for a thread

    def drain() -> None:
        while True:
            try:
                low = pieces.popleft()
            except IndexError:
                return
            work(low, min(low + step, total))

    if helpers < 1:
        drain()
        return
    with ThreadPoolExecutor(helpers) as pool:
        futures = [pool.submit(drain) for _ in range(helpers)]
        drain()
        for future in futures:
            future.result()
