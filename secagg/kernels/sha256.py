"""SHA-256 of sixteen messages at once, and HKDF on top of it.

A lane is a message: vectors have sixteen 32-bit lanes whatever the CPU, and LLVM splits them
where registers are narrower. Messages of one call have the same length, which is public. Secrets
go through additions, rotations and bitwise operations only: no branch, no table index and no
address depends on them, so this is constant-time by construction.

Words in memory stand as `work[place, lane]`: the state, the block, and a state to come. Rows are
messages, padded, as little-endian machines read their words; so are digests and keys.
Sources: FIPS 180-4, 6.2; RFC 2104; RFC 5869.

The kernels and the intrinsics they call share this file on purpose: numba's cache looks only
at the file of the kernel to see whether it is stale.
"""

from collections.abc import Callable
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types

from secagg.kernels import _parallel
from secagg.kernels._jit import compiles, declare, intrinsic, kernel

__all__ = [
    "BLOCK_BYTES",
    "LANES",
    "PIECE_GROUPS",
    "Rows",
    "compiles",
    "digest_rows",
    "digests",
    "hmac_rows",
    "hmacs",
    "rows",
    "state_after",
]

Rows = npt.NDArray[np.uint32]

LANES = 16
BLOCK_BYTES = 64
PIECE_GROUPS = 32  # of lanes: about 100 microseconds
_WORDS, _STATE_WORDS = 16, 8
_BLOCK, _LATER, _PLACES = 8, 24, 32


def _root(number: int, power: int) -> int:
    """The first 32 bits after the point of the square (2) or cube (3) root of `number`."""
    raised = number << 32 * power
    root = isqrt(raised) if power == 2 else round(number ** (1 / 3) * 2**32)
    while root**power > raised:
        root -= 1
    while (root + 1) ** power <= raised:
        root += 1
    return root & 2**32 - 1


_PRIMES = [n for n in range(2, 312) if all(n % d for d in range(2, isqrt(n) + 1))]
_CONSTANTS = [_root(prime, 3) for prime in _PRIMES]
_FIRST = np.array([_root(prime, 2) for prime in _PRIMES[:_STATE_WORDS]], np.uint32)
_AFTER_KEY = np.array([1 << 31, *[0] * 6, 8 * (BLOCK_BYTES + 32)], np.uint32)  # pads a digest
_IPAD, _OPAD = np.uint32(0x36363636), np.uint32(0x5C5C5C5C)
_U8, _U24, _LOW, _HIGH = (np.uint32(n) for n in (8, 24, 0xFF00, 0xFF0000))

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_I32, LANES)
_POINTER = _VECTOR.as_pointer()


def _spread(word: int) -> Any:
    return ir.Constant(_VECTOR, [word] * LANES)


class _Rounds:
    """Emits SHA-256's functions on vectors, named as in FIPS 180-4, 4.1.2."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        self._funnel = declare(builder.module, kind, f"llvm.fshr.v{LANES}i32")

    def add(self, *terms: Any) -> Any:
        total = terms[0]
        for term in terms[1:]:
            total = self.builder.add(total, term)
        return total

    def sigma(self, x: Any, one: int, two: int, three: int, *, shifted: bool = False) -> Any:
        """x rotated right by three numbers, or shifted by the last; their sum modulo 2."""
        rotated = [self.builder.call(self._funnel, [x, x, _spread(n)]) for n in (one, two, three)]
        if shifted:
            rotated[2] = self.builder.lshr(x, _spread(three))
        return self.builder.xor(self.builder.xor(*rotated[:2]), rotated[2])

    def choose(self, x: Any, y: Any, z: Any) -> Any:
        return self.builder.xor(z, self.builder.and_(x, self.builder.xor(y, z)))

    def majority(self, x: Any, y: Any, z: Any) -> Any:
        build = self.builder
        return build.or_(build.and_(x, y), build.and_(z, build.or_(x, y)))

    def step(self, state: list[Any], word: Any, constant: int) -> list[Any]:
        """6.2.2, step 3."""
        a, b, c, d, e, f, g, h = state
        mixed = self.add(self.choose(e, f, g), h, word, _spread(constant))
        first = self.add(self.sigma(e, 6, 11, 25), mixed)
        second = self.add(self.sigma(a, 2, 13, 22), self.majority(a, b, c))
        return [self.add(first, second), a, b, c, self.add(d, first), e, f, g]

    def next_word(self, words: list[Any]) -> Any:
        """6.2.2, step 1, from the sixteen words before."""
        recent = self.sigma(words[14], 17, 19, 10, shifted=True)
        early = self.sigma(words[1], 7, 18, 3, shifted=True)
        return self.add(words[9], words[0], recent, early)

    def block(self, state: list[Any], words: list[Any]) -> list[Any]:
        """The state after a block of sixteen words."""
        begun = state
        for number, constant in enumerate(_CONSTANTS):
            if number >= _WORDS:
                words = [*words[1:], self.next_word(words)]
            state = self.step(state, words[min(number, _WORDS - 1)], constant)
        return [self.add(old, new) for old, new in zip(begun, state, strict=True)]


def _compression(module: Any) -> Any:
    """A function of the address of `work`, which a module has once."""
    kind = ir.FunctionType(ir.VoidType(), [_POINTER])
    function = declare(module, kind, "secagg.sha256.compress")
    if function.is_declaration:
        function.linkage = "linkonce_odr"
        function.attributes.add("noinline")
        builder = ir.IRBuilder(function.append_basic_block())
        slots = [builder.gep(function.args[0], [_I64(place)]) for place in range(_LATER)]
        vectors = [builder.load(slot, align=4) for slot in slots]
        state = _Rounds(builder).block(vectors[:_BLOCK], vectors[_BLOCK:])
        for slot, vector in zip(slots, state, strict=False):
            builder.store(vector, slot, align=4)
        builder.ret_void()
    return function


@intrinsic
def _compress(typing: Any, work: Any) -> Any:
    """The state of each lane takes in its block."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        builder.call(_compression(builder.module), [builder.bitcast(array.data, _POINTER)])
        return context.get_dummy_value()

    return types.void(work), emit


@kernel
def _swap(word: Any) -> Any:
    """The bytes of a word, in the other order."""
    return word << _U24 | (word & _LOW) << _U8 | (word >> _U8) & _LOW | word >> _U24


@kernel
def _set(work: Any, at: int, state: Any) -> None:
    """One state for all lanes, at place `at`."""
    for word in range(_STATE_WORDS):
        for lane in range(LANES):
            work[at + word, lane] = state[word]


@kernel
def _absorb(work: Any, messages: Any, first: int) -> None:
    """The blocks of sixteen messages from row `first` on."""
    for at in range(0, messages.shape[1], _WORDS):
        for word in range(_WORDS):
            for lane in range(LANES):
                work[_BLOCK + word, lane] = _swap(messages[first + lane, at + word])
        _compress(work)


@kernel
def _close(work: Any) -> None:
    """The outer hash of HMAC: the digest, taken in by the state that was kept for later."""
    for word in range(_STATE_WORDS):
        for lane in range(LANES):
            work[_BLOCK + word, lane] = work[word, lane]
            work[_BLOCK + _STATE_WORDS + word, lane] = _AFTER_KEY[word]
            work[word, lane] = work[_LATER + word, lane]
    _compress(work)


@kernel
def _store(work: Any, out: Any, first: int) -> None:
    for word in range(_STATE_WORDS):
        for lane in range(LANES):
            out[first + lane, word] = _swap(work[word, lane])


@kernel
def _key(work: Any, keys: Any, first: int, pad: Any) -> None:
    """The states after the HMAC keys of 32 bytes, padded."""
    _set(work, 0, _FIRST)
    for word in range(_STATE_WORDS):
        for lane in range(LANES):
            work[_BLOCK + word, lane] = _swap(keys[first + lane, word]) ^ pad
            work[_BLOCK + _STATE_WORDS + word, lane] = pad
    _compress(work)


@kernel
def digest_rows(start: Any, messages: Any, out: Any, work: Any) -> None:
    """out[i]: the state `start` and then the blocks of messages[i]; a multiple of LANES rows."""
    for first in range(0, out.shape[0], LANES):
        _set(work, 0, start)
        _absorb(work, messages, first)
        _store(work, out, first)


@kernel
def hmac_rows(keys: Any, messages: Any, out: Any, work: Any) -> None:
    """out[i]: HMAC of messages[i] under keys[i], or, of LANES keys, under keys[i % LANES]."""
    for first in range(0, out.shape[0], LANES):
        at = first % keys.shape[0]
        _key(work, keys, at, _OPAD)
        for word in range(_STATE_WORDS):
            for lane in range(LANES):
                work[_LATER + word, lane] = work[word, lane]
        _key(work, keys, at, _IPAD)
        _absorb(work, messages, first)
        _close(work)
        _store(work, out, first)


def rows(
    count: int, before: bytes, length: int, after: bytes, skipped: int
) -> tuple[Rows, npt.NDArray[np.uint8]]:
    """Room for `count` messages of `length` bytes between `before` and `after`, padded.

    `skipped` bytes, whole blocks, were hashed earlier. Returns what the functions below take,
    and the (count, length) bytes of it that are to be filled.
    """
    size, at = len(before) + length + len(after), len(before)
    lanes, width = -(-count // LANES) * LANES, -(-(size + 9) // BLOCK_BYTES) * BLOCK_BYTES
    table = np.zeros((lanes, width), np.uint8)
    tail = after + b"\x80" + bytes(width - size - 9) + (8 * (skipped + size)).to_bytes(8, "big")
    table[:, :at] = np.frombuffer(before, np.uint8)
    table[:, at + length :] = np.frombuffer(tail, np.uint8)
    return table.view(np.uint32), table[:count, at : at + length]


def state_after(blocks: bytes) -> Rows:
    """The state after whole blocks, for `digests` to start from."""
    if not blocks:
        return _FIRST
    one = np.frombuffer(blocks, np.uint32)
    after: Rows = digests(_FIRST, np.tile(one, (LANES, 1)))[0].byteswap()
    return after


def digests(start: Rows, messages: Rows) -> Rows:
    """What the state `start`, (8,), becomes with each row of messages: (n, 8), as bytes."""

    def piece(low: int, high: int, work: Rows, out: Rows) -> None:
        digest_rows(start, messages[low:high], out[low:high], work)

    return _spread_out(len(messages), piece)


def hmacs(keys: Rows, messages: Rows) -> Rows:
    """HMAC-SHA256 of rows that `rows` made for BLOCK_BYTES skipped, under keys of 32 bytes: (n, 8).

    keys: (n, 8), or (LANES, 8) for all to have the same.
    """
    several = len(keys) == len(messages)

    def piece(low: int, high: int, work: Rows, out: Rows) -> None:
        under = keys[low:high] if several else keys
        hmac_rows(under, messages[low:high], out[low:high], work)

    return _spread_out(len(messages), piece)


def _spread_out(count: int, work: Callable[[int, int, Rows, Rows], None]) -> Rows:
    """Groups of lanes over all cores."""
    out = np.empty((count, _STATE_WORDS), np.uint32)

    def piece(low: int, high: int) -> None:
        work(low * LANES, high * LANES, np.empty((_PLACES, LANES), np.uint32), out)

    _parallel.spread(piece, count // LANES, PIECE_GROUPS, None)
    return out
