"""What else is done to every coordinate: encode, pack, unpack, add up, decode; and the keys of
many streams.

Lines that all cores share have the time of one thread beside them.
"""

import os

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from benchmarks.machine import copying
from benchmarks.masks import streams_of
from benchmarks.measure import DifferentResultsError, Line, same, timed
from secagg import kdf, packing, prg
from secagg.encoding import FixedPoint

_CHUNK = 1 << 16


def packed(d: int, bits: int) -> Line:
    """Values of `bits` bits to bytes."""
    values = _values(d, bits)
    size = packing.packed_bytes(d, bits)

    def check() -> None:
        expected = numpy_pack(values, bits)
        for threads in (None, 1):
            data = packing.pack(values, bits, threads=threads)
            same(np.frombuffer(data, np.uint8), expected, "pack")

    return Line(
        f"pack {bits} bits",
        {"d": d, "bits": bits},
        timed(lambda: packing.pack(values, bits)),
        check,
        peers={
            "NumPy": timed(lambda: numpy_pack(values, bits).tobytes()),
            "1 thread": timed(lambda: packing.pack(values, bits, threads=1)),
        },
        limit=copying(4 * d + size),
        bytes_per_param=size / d,
    )


def unpacked(d: int, bits: int) -> Line:
    """Bytes to values of `bits` bits."""
    data = packing.pack(_values(d, bits), bits)

    def check() -> None:
        expected = numpy_unpack(data, bits, d)
        for threads in (None, 1):
            same(packing.unpack(data, bits, d, threads=threads), expected, "unpack")

    return Line(
        f"unpack {bits} bits",
        {"d": d, "bits": bits},
        timed(lambda: packing.unpack(data, bits, d)),
        check,
        peers={
            "NumPy": timed(lambda: numpy_unpack(data, bits, d)),
            "1 thread": timed(lambda: packing.unpack(data, bits, d, threads=1)),
        },
        limit=copying(4 * d + len(data)),
        bytes_per_param=len(data) / d,
    )


def running_sum(d: int, bits: int) -> Line:
    """The server's part per upload: packed bytes straight into the sum."""
    data = packing.pack(_values(d, bits), bits)
    ours, theirs = np.zeros(d, np.uint32), np.zeros(d, np.uint32)

    def check() -> None:
        for threads in (None, 1):
            packing.add_packed(ours, data, bits, threads=threads)
            np.add(theirs, numpy_unpack(data, bits, d), out=theirs)
            same(ours, theirs, "running sum")

    return Line(
        f"running sum, {bits} bits",
        {"d": d, "bits": bits},
        timed(lambda: packing.add_packed(ours, data, bits)),
        check,
        peers={
            "NumPy": timed(lambda: np.add(theirs, numpy_unpack(data, bits, d), out=theirs)),
            "1 thread": timed(lambda: packing.add_packed(ours, data, bits, threads=1)),
        },
        limit=copying(8 * d + len(data)),
        bytes_per_param=len(data) / d,
    )


def encode(d: int) -> Line:
    """Clip, scale, round at random: float32 to 32-bit fixed point, with its random stream."""
    encoding = FixedPoint.filling(32, clip=1.0, max_weight=1, max_clients=100)
    update = np.random.default_rng(0).uniform(-1.05, 1.05, d).astype(np.float32)
    (coins,) = streams_of(1)

    def ours(threads: int | None = None) -> NDArray[np.unsignedinteger]:
        return encoding.encode_words(update, 1, coins, clip=True, threads=threads).words

    def check() -> None:
        expected = numpy_encode(encoding, update, coins)
        for threads in (None, 1):
            same(ours(threads)[:-1], expected, "encode")

    return Line(
        "encode",
        {"d": d, "bits": encoding.bits},
        timed(ours),
        check,
        peers={
            "OpenSSL + NumPy": timed(lambda: numpy_encode(encoding, update, coins)),
            "1 thread": timed(lambda: ours(1)),
        },
        limit=copying(8 * d),
        bytes_per_param=4.0,
    )


def decode(d: int) -> Line:
    """A sum of 32-bit fixed point to the weighted mean in float64, its range checked."""
    encoding = FixedPoint.filling(32, clip=1.0, max_weight=1, max_clients=100)
    total = _values(d + 1, encoding.bits)
    total[-1] = 100

    def theirs() -> NDArray[np.float64]:
        if total[:-1].max() > 100 * (2**encoding.bits - 1):
            raise DifferentResultsError("decode: a sum that no clients have")
        return total[:-1] / (encoding.scale * 100) - encoding.clip

    def check() -> None:
        for threads in (None, 1):
            same(encoding.decode(total, threads=threads)[0], theirs(), "decode")

    return Line(
        "decode",
        {"d": d, "bits": encoding.bits},
        timed(lambda: encoding.decode(total)),
        check,
        peers={
            "NumPy": timed(theirs),
            "1 thread": timed(lambda: encoding.decode(total, threads=1)),
        },
        limit=copying(12 * d),
    )


def derivations(count: int) -> Line:
    """The keys and IVs of `count` streams from as many seeds, by HKDF-SHA256."""
    seeds, parties = [os.urandom(32) for _ in range(count)], np.arange(count)
    rows, length = kdf.table(seeds, 32), prg.STREAM_KEY_BYTES

    def ours() -> kdf.Table:
        return kdf.derive_many(rows, "pair", bytes(32), 1, parties, length=length)

    def theirs() -> list[bytes]:
        infos = (kdf.label("pair", bytes(32), 1, v) for v in range(count))
        return [
            HKDF(SHA256(), length, salt=None, info=info).derive(seed)
            for seed, info in zip(seeds, infos, strict=True)
        ]

    return Line(
        f"{count} keys derived",
        {"keys": count},
        timed(ours),
        lambda: same(kdf.strings(ours()), theirs(), "derivations"),
        peers={"HKDF of cryptography": timed(theirs)},
    )


def numpy_pack(values: NDArray[np.uint32], bits: int) -> NDArray[np.uint8]:
    """Bits as bytes, chosen, and packed again, in chunks that stay in the cache."""
    parts = []
    for low in range(0, values.size, _CHUNK):
        chunk = values[low : low + _CHUNK].view(np.uint8).reshape(-1, 4)
        lanes = np.unpackbits(chunk, axis=1, bitorder="little")[:, :bits]
        parts.append(np.packbits(lanes, bitorder="little"))
    return np.concatenate(parts)


def numpy_unpack(data: bytes, bits: int, d: int) -> NDArray[np.uint32]:
    """The inverse of `numpy_pack`."""
    raw, out = np.frombuffer(data, np.uint8), np.empty(d, np.uint32)
    for low in range(0, d, _CHUNK):
        count = min(_CHUNK, d - low)
        piece = raw[low * bits // 8 :][: (count * bits + 7) // 8]
        lanes = np.zeros((count, 32), np.uint8)
        flat = np.unpackbits(piece, count=count * bits, bitorder="little")
        lanes[:, :bits] = flat.reshape(count, bits)
        packed_words = np.packbits(lanes, axis=1, bitorder="little")
        out[low : low + count] = packed_words.view(np.uint32)[:, 0]
    return out


def numpy_encode(
    encoding: FixedPoint, update: NDArray[np.float32], coins: prg.StreamKey
) -> NDArray[np.uint32]:
    """The same encoding with the same coins, by OpenSSL and NumPy."""
    random = prg.stream(coins, update.size, np.uint32)
    exact = np.clip(update.astype(np.float64), -encoding.clip, encoding.clip)
    exact += encoding.clip
    exact *= encoding.scale
    exact += random * 2.0**-32
    return np.minimum(np.floor(exact), 2**encoding.bits - 1).astype(np.uint32)


def _values(d: int, bits: int) -> NDArray[np.uint32]:
    return np.random.default_rng(0).integers(0, 2**bits, d, np.uint32)
