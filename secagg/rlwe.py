"""Key-additive encryption of vectors: `ct = a s + e + delta M` in Z_q[X] / (X^N + 1).

A client draws one short key s for all its chunks of one session. The sum of ciphertexts is a
ciphertext of the sum under the sum of the keys, which may be known: ACORN (Bell et al.,
USENIX Security 2023; section 3.2 of ePrint 2022/1461). docs/lattice.md says why a sum of keys
and errors is all the server learns. Chunks are independent of each other: they are made in
parallel, and streamed.

`a` is public and nobody's choice: the words of an AES-128-CTR stream whose key is derived from
the context that all parties share, cut to 30 bits, those below the prime in order. For chunk c
and prime l of L they are words (c L + l) (N + 256) on; N accepted ones are not among so many
with a probability below 2^-300. As a uniform polynomial is as uniform when transformed, what is
drawn is the transform of a.

On the wire a chunk is a row for each prime, largest first, 30 bits a residue, chunk after
chunk. Value j dw + i of a chunk, dw = the chunk's carriers, is field j of coefficient i.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg import gaussian, kdf, ntt, prg, rlwe_numpy
from secagg.checks import whole
from secagg.errors import DecodeError, LocalError
from secagg.gaussian import BOUND
from secagg.ring import check_vector
from secagg.ringset import Plan

Residues = ntt.Residues
Short = NDArray[np.int32]
"""(N,) coefficients of a short key or an error."""

SPARE_WORDS = 256
"""Words beyond N from which a row of `a` is taken."""


def draw_key(seed: bytes, context: bytes, plan: Plan) -> Short:
    """The short key s that a 32-byte seed stands for in this session. Or LocalError."""
    return gaussian.sample(plan.ring.degree, _stream(seed, "lattice key", context))


def encrypt(
    plan: Plan, seed: bytes, context: bytes, values: NDArray[Any], key: Short, step: int
) -> Iterator[bytes]:
    """The ciphertext, `step` chunks at a time.

    seed: 32 bytes, for the errors of this one vector; context: 32 bytes that fix `a`; values:
    (length,) unsigned, none above `plan.largest`; key: (N,) signed, none beyond +-B; step: at
    least 1. Raises LocalError, before the first chunk.
    """
    check_values(plan, values)
    _check_key(plan, key)
    if _beyond(key, BOUND):
        raise LocalError(f"a short key has no coefficient beyond {BOUND}")
    at_once = whole(step, "a step", 1, unit=" chunks")
    encryption = _Encryption(plan, seed, context, values, key)
    firsts = range(0, plan.chunks, at_once)
    return (encryption.piece(range(at, min(at + at_once, plan.chunks))) for at in firsts)


def check_values(plan: Plan, values: NDArray[Any]) -> None:
    """Raise LocalError unless this is a vector that the plan has room for."""
    check_vector(values, plan.length)
    if int(values.max(initial=0)) > plan.largest:
        raise LocalError(f"a value is above {plan.largest}, the largest that sums have room for")


def check_piece(plan: Plan, chunks: range, data: bytes) -> None:
    """Raise DecodeError unless these are the packed residues of these chunks.

    LocalError for chunks that the plan does not have.
    """
    raw = _raw(plan, chunks, data)
    if _kernels().beyond(raw, plan.residues(chunks), plan.ring.degree, _primes(plan)):
        raise DecodeError("a residue is not below its prime")


def residues_of(plan: Plan, total: Residues, chunk: int) -> Residues:
    """The residues of a chunk in a sum, (primes, width): a view. Or LocalError."""
    _check_total(plan, total)
    _check_chunks(plan, range(chunk, chunk + 1))
    return total[_place(plan, range(chunk, chunk + 1))].reshape(plan.ring.count, -1)


def zero_sum(plan: Plan) -> Residues:
    """The running sum of no ciphertexts: 4 bytes a residue, whatever will be added."""
    return np.zeros(plan.residues(range(plan.chunks)), np.uint32)


def add_chunks(plan: Plan, total: Residues, chunks: range, data: bytes) -> None:
    """Add these chunks, straight from packed bytes that `check_piece` found good, in place.

    Raises DecodeError for another number of bytes, and LocalError for chunks that the plan does
    not have and for a sum that is not its own or cannot be written to; nothing is added then.
    """
    raw = _raw(plan, chunks, data)
    _check_total(plan, total)
    if not total.flags.writeable:
        raise LocalError("the sum is read-only")
    part = total[_place(plan, chunks)]
    _kernels().add_packed(part, raw, plan.ring.degree, _primes(plan))


def is_sum(plan: Plan, total: Residues) -> bool:
    """Whether these are the residues of a sum of that plan's ciphertexts."""
    return _fits(plan, total) and all(
        bool(np.all(row < prime))
        for chunk in range(plan.chunks)
        for row, prime in zip(residues_of(plan, total, chunk), plan.ring.primes, strict=True)
    )


def open_sum(
    plan: Plan,
    total: Residues,
    context: bytes,
    key_sum: NDArray[np.int64],
    count: int,
    bits: int = 64,
) -> NDArray[np.uint64]:
    """The sum of the vectors of `count` clients, (length,), each modulo 2^bits.

    key_sum: (N,) signed, the sum of their short keys; bits: 1 to 64. Raises DecodeError where it
    cannot be that: a coefficient beyond count * B, a sum that is too large, or a canary that is
    not `count`. LocalError for anything of another type or shape.
    """
    width = whole(bits, "a width", 1, 64, " bits")
    opening = _Opening(plan, total, context, key_sum, count)
    if opening.beyond:
        raise DecodeError(f"the sum of {count} short keys is beyond its bound")
    _spread(opening.chunk, plan.chunks)
    if opening.spilled or opening.canary != count:
        raise DecodeError("the opened sum does not end in its canary: a key or its sum is wrong")
    opening.values &= np.uint64(2**width - 1)
    return opening.values


def is_key_sum(
    plan: Plan, total: Residues, context: bytes, key_sum: NDArray[np.int64], count: int
) -> bool:
    """Whether the canary says that `open_sum` would succeed: one chunk's work. Or LocalError."""
    opening = _Opening(plan, total, context, key_sum, count)
    if opening.beyond:
        return False
    opening.chunk(plan.chunks - 1, plan.chunks)
    return opening.canary == count and not opening.spilled


class _Encryption:
    """What all chunks of one ciphertext need."""

    def __init__(
        self, plan: Plan, seed: bytes, context: bytes, values: NDArray[Any], key: Short
    ) -> None:
        self.plan = plan
        self.values = values.astype(np.uint32 if plan.largest < 2**32 else np.uint64, copy=False)
        self.uniform = _stream(context, "lattice uniform", context)
        self.errors = _stream(seed, "lattice errors", context)
        self.keys = _transformed(plan, key.astype(np.int64))
        self.factors = [_factors(plan, prime) for prime in plan.ring.primes]

    def piece(self, chunks: range) -> bytes:
        """These chunks, packed."""
        data = bytearray(self.plan.bytes_of(chunks))
        raw = np.frombuffer(data, np.uint8)
        size = self.plan.bytes_of([0])

        def work(low: int, high: int) -> None:
            for place in range(low, high):
                self.chunk(chunks[place], raw[place * size : (place + 1) * size])

        _spread(work, len(chunks))
        return bytes(data)

    def chunk(self, chunk: int, out: NDArray[np.uint8]) -> None:
        """Encrypt one chunk into `out`."""
        plan, width = self.plan, self.plan.width(chunk)
        noise = gaussian.sample(width, self.errors, start=chunk * gaussian.WORDS * plan.ring.degree)
        fields = self._fields(chunk)
        rows = _products(plan, self.uniform, chunk, self.keys)
        part = len(out) // plan.ring.count
        for at, prime in enumerate(plan.ring.primes):
            row, (factors, quotients) = rows[at, :width], self.factors[at]
            _kernels().encode(row, noise, fields, factors, quotients, np.uint32(prime))
            _kernels().pack(row, out[at * part : (at + 1) * part])
        noise.fill(0)
        fields.fill(0)

    def _fields(self, chunk: int) -> NDArray[Any]:
        """(fields, width): this chunk's values by field and coefficient, and the canary."""
        plan = self.plan
        first = chunk * plan.ring.degree
        carriers = min(plan.ring.degree, plan.carriers - first)
        fields = np.zeros((plan.fields, plan.width(chunk)), self.values.dtype)
        for at in range(plan.fields):
            begin = plan.fields * first + at * carriers
            part = self.values[begin : begin + carriers]
            fields[at, : part.size] = part
        if plan.carriers // plan.ring.degree == chunk:
            fields[0, plan.carriers - first] = 1
        return fields


class _Opening:
    """What all chunks of one sum need, and what they leave."""

    def __init__(
        self, plan: Plan, total: Residues, context: bytes, key_sum: NDArray[np.int64], count: int
    ) -> None:
        _check_total(plan, total)
        _check_key(plan, key_sum)
        whole(count, "a count", 1, plan.clients, " clients")
        self.plan, self.total = plan, total
        self.beyond = _beyond(key_sum, count * BOUND)
        self.uniform = _stream(context, "lattice uniform", context)
        self.keys = _transformed(plan, key_sum.astype(np.int64))
        self.values = np.empty(plan.length, np.uint64)
        self.spilled, self.canary = 0, -1

    def chunk(self, low: int, high: int) -> None:
        """Open chunks `low` to `high` - 1. No two threads write the same."""
        for chunk in range(low, high):
            self._open(chunk)

    def _open(self, chunk: int) -> None:
        plan = self.plan
        kernels, width, first = _kernels(), plan.width(chunk), chunk * plan.ring.degree
        rows = _products(plan, self.uniform, chunk, self.keys)[:, :width]
        for row, product, prime in zip(
            residues_of(plan, self.total, chunk), rows, plan.ring.primes, strict=True
        ):
            kernels.subtract(row, product, np.uint32(plan.noise % prime), np.uint32(prime))
        fields = np.empty((plan.fields, width), np.uint64)
        bound = np.uint64(plan.delta), np.int64(plan.radix)
        if kernels.decode(rows, _primes(plan), *_garner(plan), *bound, fields):
            self.spilled += 1
        carriers = min(plan.ring.degree, plan.carriers - first)
        for at in range(plan.fields):
            begin = plan.fields * first + at * carriers
            part = self.values[begin : begin + carriers]
            part[:] = fields[at, : part.size]
        if plan.carriers // plan.ring.degree == chunk:
            tail = fields[:, plan.carriers - first :]
            self.canary = int(tail[0, 0]) if np.count_nonzero(tail) == 1 else -1


def _products(plan: Plan, uniform: prg.StreamKey, chunk: int, keys: tuple[Any, Any]) -> Residues:
    """`a` times a key for each prime, (primes, N); keys: transformed, with their quotients."""
    rows = _uniform(plan, uniform, chunk)
    for row, key, quotients, prime in zip(rows, *keys, plan.ring.primes, strict=True):
        (ntt.kernels() or rlwe_numpy).multiply(row, key, quotients, np.uint32(prime))
        ntt.transform(plan.ring.degree, prime).inverse(row)
    return rows


def _uniform(plan: Plan, uniform: prg.StreamKey, chunk: int) -> Residues:
    """The transform of this chunk's `a` for each prime, (primes, N)."""
    count, degree = plan.ring.count, plan.ring.degree
    words = np.zeros((count, degree + SPARE_WORDS), np.uint32)
    prg.add_masks(words.reshape(-1), [uniform], [1], start=chunk * words.size, threads=1)
    rows = np.empty((count, degree), np.uint32)
    for row, drawn, prime in zip(rows, words, plan.ring.primes, strict=True):
        if _kernels().accept(drawn, np.uint32(prime), row) < degree:
            raise LocalError("a public polynomial has too few words; start another session")
    return rows


def _transformed(plan: Plan, key: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """A key's transforms, (primes, N), and their quotients."""
    rows = np.empty((plan.ring.count, plan.ring.degree), np.uint32)
    quotients = np.empty_like(rows)
    for row, quotient, prime in zip(rows, quotients, plan.ring.primes, strict=True):
        row[:] = key + (key >> 63 & prime)  # no coefficient is as large as a prime
        ntt.transform(plan.ring.degree, prime).forward(row)
        quotient[:] = ntt.quotients(row, prime)
    return rows, quotients


def _factors(plan: Plan, prime: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """delta 2^(radix j) mod p for the low word of field j, and 2^32 times that for the high."""
    bits = ((plan.radix * j + high) for j in range(plan.fields) for high in (0, 32))
    factors = np.array([(plan.delta << bit) % prime for bit in bits], np.uint32).reshape(-1, 2)
    return factors, ntt.quotients(factors, prime)


@cache
def _garner(plan: Plan) -> tuple[NDArray[Any], NDArray[Any]]:
    """p_j^-1 mod p_l for j < l, and quotients."""
    primes = plan.ring.primes
    inverses = np.array(
        [[pow(pj, -1, pl) if pj > pl else 0 for pl in primes] for pj in primes], np.uint32
    )
    columns = [ntt.quotients(inverses[:, at], prime) for at, prime in enumerate(primes)]
    return inverses, np.ascontiguousarray(np.stack(columns, axis=1))


@cache
def _primes(plan: Plan) -> Residues:
    return np.array(plan.ring.primes, np.uint32)


def _stream(secret: bytes, kind: str, context: bytes) -> prg.StreamKey:
    if not all(type(each) is bytes and len(each) == kdf.DIGEST_BYTES for each in (secret, context)):
        raise LocalError(f"a seed and a context are {kdf.DIGEST_BYTES} bytes each")
    return prg.StreamKey.of(kdf.derive(secret, kind, context, length=prg.STREAM_KEY_BYTES))


def _raw(plan: Plan, chunks: range, data: bytes) -> NDArray[np.uint8]:
    """The bytes of these chunks as an array, once their number is right."""
    _check_chunks(plan, chunks)
    try:
        raw = np.frombuffer(memoryview(data).cast("B"), np.uint8)
    except TypeError:
        raise LocalError("packed residues are contiguous bytes") from None
    raw.flags.writeable = False  # numba compiles a kernel once more for each kind of array
    if raw.size != (expected := plan.bytes_of(chunks)):
        raise DecodeError(f"{len(chunks)} chunks are {expected} bytes, got {raw.size}")
    return raw


def _place(plan: Plan, chunks: range) -> slice:
    """Where the residues of these chunks are in a sum."""
    begin = plan.ring.count * plan.ring.degree * chunks.start
    return slice(begin, begin + plan.residues(chunks))


def _fits(plan: Plan, total: object) -> bool:
    return (
        isinstance(total, np.ndarray)
        and (total.dtype, total.shape) == (np.uint32, (plan.ring.count * plan.coefficients,))
        and total.flags.c_contiguous
        and total.flags.aligned
    )


def _check_total(plan: Plan, total: object) -> None:
    if not _fits(plan, total):
        size = plan.ring.count * plan.coefficients
        raise LocalError(f"a sum of this plan is a contiguous vector of {size} native uint32")


def _check_chunks(plan: Plan, chunks: object) -> None:
    usable = isinstance(chunks, range) and chunks.step == 1
    if not (usable and 0 <= chunks.start <= chunks.stop <= plan.chunks):  # type: ignore[attr-defined]
        raise LocalError(f"chunks are a range within 0 to {plan.chunks}, one after the other")


def _check_key(plan: Plan, key: object) -> None:
    if not isinstance(key, np.ndarray) or key.dtype.kind != "i" or key.ndim != 1:
        raise LocalError("a short key, or a sum of some, is a vector of signed integers")
    if key.size != plan.ring.degree:
        raise LocalError(f"a key of {key.size} coefficients; expected {plan.ring.degree}")


def _beyond(key: NDArray[Any], bound: int) -> bool:
    """Whether a coefficient is beyond +-bound. (Of the least integer, abs() is negative.)"""
    return bool(int(key.max()) > bound or int(key.min()) < -bound)


def _spread(work: Callable[[int, int], None], total: int) -> None:
    """`work` on each of `range(total)`, on all cores where there are kernels."""
    if _kernels() is rlwe_numpy:
        work(0, total)
        return
    from secagg.kernels import _parallel  # noqa: PLC0415 - imports numba

    _parallel.spread(work, total, 1, None)


@cache
def _kernels() -> Any:
    """The compiled kernels, or the reference where they cannot be used."""
    try:
        from secagg.kernels import rlwe  # noqa: PLC0415
    except ImportError:
        return rlwe_numpy
    return rlwe if rlwe.compiles() else rlwe_numpy
