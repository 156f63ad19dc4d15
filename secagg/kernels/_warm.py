"""Calls every kernel once on a few words, so that it is compiled or loaded."""

from collections.abc import Iterator

import numpy as np

from secagg import packing, prg
from secagg.kernels import _jit


def steps() -> Iterator[str]:
    """The name of each kernel, before it is called."""
    for name in _jit.aes_kernels()[:1]:
        yield f"masks of 32-bit words, {name}"
        _mask(np.zeros(1, np.uint32), name)
        yield f"masks of 64-bit words, {name}"
        _mask(np.zeros(1, np.uint64), name)
    for bits in (17, 33):
        yield f"packing of {bits // 32 * 32 + 32}-bit words"
        packing.pack(packing.unpack(bytes(bits), bits, 8), bits)


def _mask(acc: prg.Words, name: str) -> None:
    """One stream under a key of zeros, which protects nothing."""
    key = prg.StreamKey(bytes(prg.KEY_BYTES), bytes(prg.IV_BYTES))
    prg.add_masks(acc, [key], [1], backend=name)
