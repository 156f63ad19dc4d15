"""The mask generator: AES-128-CTR streams, added to or subtracted from a vector in place.

A stream is the AES-128-CTR keystream of NIST SP 800-38A, section 6.5, whose initial counter
block is the 12-byte IV followed by a 32-bit big-endian block counter that starts at 0. Its
bytes, read as little-endian 32- or 64-bit words, are uniform on the ring of the accumulator.
The counter never wraps: one stream has 2^36 bytes, and asking for more is a `LocalError`.

Four backends give the same bytes. `vaes512`, `vaes256` and `aesni` (`secagg.kernels.aes`)
make the stream in registers and never write it to memory; `openssl` works everywhere and is
their reference. The widest that this CPU has is chosen at the first use, which is also when
numba is imported: importing this module is cheap.
"""

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any, SupportsIndex, TypeVar, overload

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CTR

from secagg import kernels
from secagg.errors import LocalError

KEY_BYTES = 16
IV_BYTES = 12
STREAM_KEY_BYTES = KEY_BYTES + IV_BYTES
BLOCK_BYTES = 16
STREAM_BYTES = BLOCK_BYTES << 32
BACKENDS = ("vaes512", "vaes256", "aesni", "openssl")

Words = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
Word = TypeVar("Word", np.uint32, np.uint64)

_RINGS = (np.dtype(np.uint32), np.dtype(np.uint64))
_CHUNK_BYTES = 1 << 16
_chosen: ContextVar[str | None] = ContextVar("secagg_prg_backend", default=None)


@dataclass(frozen=True, slots=True)
class StreamKey:
    """Key (16 bytes) and IV (12 bytes) of one stream; use each pair for one vector only.

    Raises `LocalError` for any other type or length. Neither value appears in the `repr`.
    """

    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if type(self.key) is not bytes or len(self.key) != KEY_BYTES:
            raise LocalError(f"a stream key is {KEY_BYTES} bytes")
        if type(self.iv) is not bytes or len(self.iv) != IV_BYTES:
            raise LocalError(f"the IV of a stream is {IV_BYTES} bytes")

    @classmethod
    def of(cls, raw: bytes) -> "StreamKey":
        """From 28 derived bytes: the key, then the IV. Or LocalError."""
        return cls(raw[:KEY_BYTES], raw[KEY_BYTES:])


class StreamKeys(Sequence[StreamKey]):
    """Many stream keys: rows of 28 bytes, key and IV, in one array that is not copied.

    Raises `LocalError` for any other array. No value appears in the `repr`.
    """

    def __init__(self, rows: npt.NDArray[np.uint8]) -> None:
        plain = isinstance(rows, np.ndarray) and rows.dtype == np.uint8 and rows.ndim == 2
        if not plain or rows.shape[1] != STREAM_KEY_BYTES:
            raise LocalError(f"stream keys are rows of {STREAM_KEY_BYTES} bytes")
        self.rows = rows

    def __repr__(self) -> str:
        return f"<{len(self)} StreamKeys>"

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> StreamKey: ...

    @overload
    def __getitem__(self, index: slice) -> "StreamKeys": ...

    def __getitem__(self, index: int | slice) -> "StreamKey | StreamKeys":
        if isinstance(index, slice):
            return StreamKeys(self.rows[index])
        return StreamKey.of(self.rows[index].tobytes())

    def __add__(self, others: "StreamKeys") -> "StreamKeys":
        return StreamKeys(np.concatenate([self.rows, others.rows]))


def add_masks(
    acc: Words,
    streams: Sequence[StreamKey],
    signs: Sequence[int] | npt.NDArray[np.signedinteger[Any]],
    *,
    start: SupportsIndex = 0,
    backend: str | None = None,
    threads: int | None = None,
) -> None:
    """`acc[i] += sum_j signs[j] * stream_j[start + i]` modulo 2^32 or 2^64, in place.

    `acc` is one-dimensional, contiguous, writeable, uint32 or uint64 (which fixes the ring)
    and may be empty; `signs` holds +1 or -1 for each stream; `start` counts words and need
    not be a multiple of a block. `threads` defaults to all cores numba may use, and is
    ignored by `openssl`. The interpreter lock is released. Everything is checked before
    anything is added: `LocalError` means that `acc` is unchanged.
    """
    words = _check_accumulator(acc)
    first = _check_range(start, acc.size, acc.itemsize)
    _check_streams(streams)
    minus = _check_signs(signs, len(streams))
    chosen = backend or _chosen.get()
    fast = chosen is not None or kernels.worth(len(streams) * words.nbytes // 4)
    name = _check_backend(chosen) if fast else "openssl"
    if threads is not None and (type(threads) is not int or threads < 1):
        raise LocalError("threads are a whole number, at least one")
    if acc.size == 0 or not streams:
        return
    if name == "openssl":
        _add_openssl(words, streams, minus, first)
    else:
        from secagg.kernels import aes  # noqa: PLC0415 - imports numba

        aes.add_masks(name, words, _key_matrix(streams), minus, first, threads)


def stream(
    key: StreamKey, length: SupportsIndex, dtype: type[Word], *, start: SupportsIndex = 0
) -> npt.NDArray[Word]:
    """Words `start` to `start + length - 1` of one stream, by OpenSSL: the reference.

    `dtype` is `numpy.uint32` or `numpy.uint64`. Raises `LocalError` as `add_masks` does.
    """
    if np.dtype(dtype) not in _RINGS:
        raise LocalError("streams are uint32 or uint64")
    first = _check_range(start, length, np.dtype(dtype).itemsize)
    _check_streams([key])
    words = np.zeros(operator.index(length), dtype)
    _add_openssl(words, [key], np.zeros(1, np.bool_), first)
    return words


@cache
def available_backends() -> tuple[str, ...]:
    """The backends this machine can run, fastest first; the last is always `openssl`."""
    return (*kernels.supported(), "openssl")


def backend() -> str:
    """The backend that `add_masks` uses when it is given none."""
    return _chosen.get() or available_backends()[0]


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within the block, and in this thread or task only, use this backend by default.

    Raises `LocalError` for a name that is not in `available_backends()`.
    """
    token = _chosen.set(_check_backend(name))
    try:
        yield
    finally:
        _chosen.reset(token)


def _add_openssl(
    acc: Words, streams: Sequence[StreamKey], minus: npt.NDArray[np.bool_], start: int
) -> None:
    """Stream by stream, in chunks that stay in the first-level cache."""
    little = acc.dtype.newbyteorder("<")
    step = _CHUNK_BYTES // acc.itemsize
    plain = bytes(_CHUNK_BYTES)
    chunk = bytearray(_CHUNK_BYTES)
    block, skip = divmod(start * acc.itemsize, BLOCK_BYTES)
    for each, negative in zip(streams, minus, strict=True):
        apply = np.subtract if negative else np.add
        counter = each.iv + (block & 0xFFFFFFFF).to_bytes(4, "big")
        encryptor = Cipher(AES128(each.key), CTR(counter)).encryptor()
        encryptor.update(plain[:skip])
        for low in range(0, acc.size, step):
            part = acc[low : low + step]
            encryptor.update_into(memoryview(plain)[: part.nbytes], chunk)
            apply(part, np.frombuffer(chunk, little, part.size), out=part)
    chunk[:] = plain


def _key_matrix(streams: Sequence[StreamKey]) -> npt.NDArray[np.uint8]:
    """Keys and IVs as rows of 28 bytes, in memory that can be wiped."""
    if isinstance(streams, StreamKeys):
        return streams.rows.copy()
    joined = bytearray().join(part for each in streams for part in (each.key, each.iv))
    return np.frombuffer(joined, np.uint8).reshape(-1, STREAM_KEY_BYTES)


def _check_accumulator(acc: object) -> Any:
    """`acc` as a plain array that shares its memory."""
    if not isinstance(acc, np.ndarray) or acc.dtype not in _RINGS:
        raise LocalError("the accumulator is an array of native uint32 or uint64")
    if acc.ndim != 1 or not acc.flags.carray:
        raise LocalError("the accumulator is one-dimensional, contiguous, aligned and writeable")
    return np.asarray(acc)


def _check_range(start: SupportsIndex, length: SupportsIndex, itemsize: int) -> int:
    """`start` as an integer, once every word asked for is known to exist."""
    try:
        first, words = operator.index(start), operator.index(length)
    except TypeError:
        raise LocalError("start and length are whole numbers of words") from None
    if first < 0 or words < 0:
        raise LocalError("start and length are not negative")
    if (first + words) * itemsize > STREAM_BYTES:
        raise LocalError("a stream has 2^32 blocks of 16 bytes and no more")
    return first


def _check_streams(streams: Sequence[StreamKey]) -> None:
    if type(streams) is StreamKeys:
        return
    if not all(type(each) is StreamKey for each in streams):
        raise LocalError("streams are StreamKey values")


def _check_signs(signs: object, count: int) -> npt.NDArray[np.bool_]:
    """True where the stream is subtracted."""
    try:
        values = np.asarray(signs)
    except ValueError:
        raise LocalError("signs are a flat sequence of +1 and -1") from None
    if values.shape != (count,):
        raise LocalError(f"one sign for each of {count} streams, got shape {values.shape}")
    if count and (values.dtype.kind not in "iu" or not np.all((values == 1) | (values == -1))):
        raise LocalError("a sign is +1 or -1")
    minus: npt.NDArray[np.bool_] = values == -1
    return minus


def _check_backend(name: str | None) -> str:
    if name is None:
        return backend()
    if name not in available_backends():
        raise LocalError(f"backend {name!r} is not one of {available_backends()}")
    return name
