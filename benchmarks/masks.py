"""Masks: many AES-128-CTR streams into one vector. The limit is the AES pipeline itself.

The kernels make nine rounds of ten for every block, so they may come out a little beyond it.
"""

import os
from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CTR

from benchmarks.measure import Contestant, Line, same, timed
from secagg import prg

PIECE = 2 << 20
"""Bytes of stream that a thread of the limit takes at a time, as the kernels' threads do."""

CHUNK = 1 << 16
"""Bytes of stream at a time: what OpenSSL and NumPy together are fastest with."""


def streams_of(count: int) -> list[prg.StreamKey]:
    """Fresh keys."""
    return [prg.StreamKey(os.urandom(16), os.urandom(12)) for _ in range(count)]


def masks(d: int, streams: int, bits: int, threads: int) -> Line:
    """`streams` masks added to a vector of `d` words of `bits` bits."""
    kind = np.uint32 if bits == 32 else np.uint64
    keys, signs = streams_of(streams), [1] * streams
    ours, theirs = np.zeros(d, kind), np.zeros(d, kind)

    def check() -> None:
        prg.add_masks(ours, keys, signs, threads=threads)
        openssl_and_numpy(theirs, keys)
        same(ours, theirs, "masks")

    peers = {"OpenSSL + NumPy": timed(lambda: openssl_and_numpy(theirs, keys))}
    if threads > 1:
        peers["1 thread"] = timed(lambda: prg.add_masks(ours, keys, signs, threads=1))
    return Line(
        f"{streams} masks, {bits}-bit, {threads} thread{'s' * (threads > 1)}",
        {"d": d, "streams": streams, "bits": bits, "threads": threads, "kernel": prg.backend()},
        timed(lambda: prg.add_masks(ours, keys, signs, threads=threads)),
        check,
        peers=peers,
        limit=pipeline(d * streams * bits // 8, threads),
    )


def openssl_and_numpy(acc: prg.Words, keys: Sequence[prg.StreamKey]) -> None:
    """What one writes without a kernel: encrypt zeros, add them up, chunk by chunk."""
    zeros, chunk = bytes(CHUNK), bytearray(CHUNK)
    step = CHUNK // acc.itemsize
    for key in keys:
        encryptor = Cipher(AES128(key.key), CTR(key.iv + bytes(4))).encryptor()
        for low in range(0, acc.size, step):
            part = acc[low : low + step]
            encryptor.update_into(memoryview(zeros)[: part.nbytes], chunk)
            np.add(part, np.frombuffer(chunk, acc.dtype, part.size), out=part)


def pipeline(size: int, threads: int) -> Contestant | None:
    """All ten AES rounds of `size` bytes and nothing else, in registers; None without a kernel."""
    name = prg.backend()
    if name == "openssl":
        return None
    from secagg.kernels import aes  # noqa: PLC0415 - needs a CPU with AES
    from secagg.kernels._parallel import spread  # noqa: PLC0415

    aes.pipeline_limit(name, 1)

    def work() -> None:
        spread(lambda low, high: aes.pipeline_limit(name, high - low), size, PIECE, threads)

    return timed(work)
