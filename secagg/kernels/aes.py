"""AES-128-CTR made in vector registers and added to the accumulator straight from there.

One LLVM function is written here for three vector widths and two rings. It keeps `LANES`
vectors in flight, which hides the latency of an AES round. Such a group of vectors is the
unit of work, and a stream is cut into groups from its block 0 on: within a group only the
last byte of the counter changes, so a lane's counter is the group's with a constant added
without carry. The accumulator is cut into tiles of whole groups that stay in the cache while
every stream is added to them; ragged ends go through a buffer of one group.

Of the ten rounds nine are made for every block. In a run of `RUN` blocks only the last byte of
the counter changes, so after the first round only one column of the state does, and by the same
amounts in every run of a stream. These are kept for a tile, and one block of a run goes through
the first round for all of it: counter-mode caching (Bernstein and Schwabe, "New AES Software
Speed Records", INDOCRYPT 2008), with vectors in the place of tables.

There is no secret-dependent branch or address: what is kept is found by the counter, which is
public, as is whether a stream is added or subtracted. Sources: FIPS 197; NIST SP 800-38A, 6.5;
Intel's AES-NI white paper (key schedule).

The kernels and the intrinsics they call share this file on purpose: numba's cache looks
only at the file of the kernel to see whether it is stale.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types

from secagg.kernels import _parallel
from secagg.kernels._jit import declare, intrinsic, kernel

Words = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
Schedule = npt.NDArray[np.uint32]

LANES = 8
ROUNDS = 10
BLOCK_BYTES = 16
RUN = 256
TILE_BYTES = 128 * 1024
PIECE_BYTES = 2 << 20  # of stream: about 100 microseconds
ROW = 48  # words of a schedule row: 44 of round keys, 3 of IV, 1 that is 1 for subtraction
VECTOR_BYTES = {"vaes512": 64, "vaes256": 32, "aesni": 16}

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BLOCK = ir.VectorType(_I64, 2)
_SUFFIX = {64: ".512", 32: ".256", 16: ""}
_RCON = (0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x1B, 0x36)


def _constant(element: ir.Type, values: list[int]) -> Any:
    return ir.Constant(ir.VectorType(element, len(values)), values)


class _Vectors:
    """Emits the few vector operations that AES-CTR needs, for one vector width."""

    def __init__(self, builder: Any, width: int) -> None:
        self.builder = builder
        self.blocks = width // BLOCK_BYTES
        self.state = ir.VectorType(_I64, 2 * self.blocks)
        kind = ir.FunctionType(self.state, [self.state, self.state])
        self.round = self._declare(f"llvm.x86.aesni.aesenc{_SUFFIX[width]}", kind)
        self.last_round = self._declare(f"llvm.x86.aesni.aesenclast{_SUFFIX[width]}", kind)

    def _declare(self, name: str, kind: Any) -> Any:
        return declare(self.builder.module, kind, name)

    def spread(self, block: Any) -> Any:
        """One 16-byte block copied to every block of a vector."""
        mask = _constant(_I32, [0, 1] * self.blocks)
        return self.builder.shuffle_vector(block, ir.Constant(block.type, ir.Undefined), mask)

    def round_keys(self, row: Any) -> list[Any]:
        """The eleven round keys at the address `row`, each spread over a vector."""
        pointer = self.builder.inttoptr(row, _BLOCK.as_pointer())
        slots = [self.builder.gep(pointer, [_I64(index)]) for index in range(ROUNDS + 1)]
        return [self.spread(self.builder.load(slot, align=4)) for slot in slots]

    def iv(self, row: Any) -> Any:
        """The IV of the schedule row at address `row`, in the first 12 bytes of a block."""
        pointer = self.builder.inttoptr(row, _BLOCK.as_pointer())
        tail = self.builder.load(self.builder.gep(pointer, [_I64(ROUNDS + 1)]), align=4)
        return self.builder.bitcast(tail, ir.VectorType(_I32, 4))

    def counter(self, iv: Any, number: Any) -> Any:
        """Counter block `number`, in every block of a vector."""
        swapped = self.builder.bswap(self.builder.trunc(number, _I32))
        block = self.builder.insert_element(iv, swapped, _I32(3))
        return self.spread(self.builder.bitcast(block, _BLOCK))

    def lanes(self, base: Any) -> list[Any]:
        """`base` with the place in the group, below 256, in the last byte of each block."""
        steps = [range(lane * self.blocks, (lane + 1) * self.blocks) for lane in range(LANES)]
        offsets = [[half for step in each for half in (0, step << 56)] for each in steps]
        return [self.builder.xor(base, _constant(_I64, offset)) for offset in offsets]

    def encrypt(self, states: list[Any], keys: list[Any]) -> list[Any]:
        """The rounds with these keys, of which the last is the last, the lanes side by side."""
        for key in keys[:-1]:
            states = [self.builder.call(self.round, [state, key]) for state in states]
        return [self.builder.call(self.last_round, [state, keys[-1]]) for state in states]


def _repeat(builder: Any, count: Any, carried: Any, body: Callable[[Any, Any], Any]) -> Any:
    """`for i in range(count): carried = body(i, carried)` with `count` >= 1; the last value."""
    before = builder.block
    loop = builder.append_basic_block("groups")
    after = builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    index, value = builder.phi(count.type), builder.phi(carried.type)
    following = body(index, value)
    stepped = builder.add(index, count.type(1))
    for phi, start, again in ((index, count.type(0), stepped), (value, carried, following)):
        phi.add_incoming(start, before)
        phi.add_incoming(again, builder.block)
    builder.cbranch(builder.icmp_unsigned("<", stepped, count), loop, after)
    builder.position_at_end(after)
    return following


class _Run:
    """Emits the first round of one stream's groups: what is the same in a run, and, kept at an
    address, what each place in it changes of that.
    """

    def __init__(self, vectors: _Vectors, keys: list[Any], iv: Any, kept: Any) -> None:
        self._vectors, self._builder, self._keys, self._iv = vectors, vectors.builder, keys, iv
        self._group = LANES * vectors.blocks
        self._kept = self._builder.inttoptr(kept, vectors.state.as_pointer())

    def _plain(self, number: Any) -> Any:
        """The counter block with the first key added."""
        return self._builder.xor(self._vectors.counter(self._iv, number), self._keys[0])

    def _round(self, state: Any, key: Any) -> Any:
        return self._builder.call(self._vectors.round, [state, key])

    def _changes(self, block: Any) -> list[Any]:
        """Where the lanes of the group that begins with this block have theirs."""
        place = self._builder.and_(block, _I64(RUN - 1))
        vector = self._builder.udiv(place, _I64(self._vectors.blocks))
        lanes = [self._builder.add(vector, _I64(lane)) for lane in range(LANES)]
        return [self._builder.gep(self._kept, [lane]) for lane in lanes]

    def keep(self, first: Any, groups: Any) -> None:
        """Keep what the places change that so many groups from group `first` on will ask for."""
        builder, zero = self._builder, ir.Constant(self._vectors.state, None)
        begin = self._round(self._plain(_I64(0)), zero)
        all_places = _I64(RUN // self._group)
        few = builder.icmp_unsigned("<", groups, all_places)

        def body(_: Any, number: Any) -> Any:
            block = builder.and_(builder.mul(number, _I64(self._group)), _I64(RUN - 1))
            lanes = self._vectors.lanes(self._plain(block))
            for state, at in zip(lanes, self._changes(block), strict=True):
                builder.store(builder.xor(self._round(state, zero), begin), at, align=4)
            return builder.add(number, _I64(1))

        _repeat(builder, builder.select(few, groups, all_places), first, body)

    def begin(self, number: Any) -> Any:
        """What is the same in the run of group `number` after the first round."""
        block = self._builder.mul(number, _I64(self._group))
        return self._round(self._plain(self._builder.and_(block, _I64(-RUN))), self._keys[1])

    def states(self, number: Any, begin: Any) -> list[Any]:
        """The lanes of group `number` after the first round."""
        changes = self._changes(self._builder.mul(number, _I64(self._group)))
        return [self._builder.xor(begin, self._builder.load(at, align=4)) for at in changes]


def _emit_stream(builder: Any, width: int, ring: Any, args: Any) -> None:
    """Groups of one stream, added to or subtracted from the accumulator at address `out`."""
    out, row, first, groups, kept = args
    vectors = _Vectors(builder, width)
    sums = ir.VectorType(ring, 8 * width // ring.width)
    keys, iv = vectors.round_keys(row), vectors.iv(row)
    base = builder.inttoptr(out, sums.as_pointer())
    run = _Run(vectors, keys, iv, kept)
    run.keep(first, groups)
    begin = run.begin(first)

    def group(index: Any, begin: Any, combine: Any) -> Any:
        """The next group's begin comes first, so that nothing waits for it: 8 % in all."""
        number = builder.add(first, index)
        following = run.begin(builder.add(number, _I64(1)))
        for lane, words in enumerate(vectors.encrypt(run.states(number, begin), keys[2:])):
            at = builder.gep(base, [builder.add(builder.mul(index, _I64(LANES)), _I64(lane))])
            old = builder.load(at, align=ring.width // 8)
            builder.store(combine(old, builder.bitcast(words, sums)), at, ring.width // 8)
        return following

    flag_at = builder.inttoptr(builder.add(row, _I64(4 * (ROW - 1))), _I32.as_pointer())
    minus = builder.icmp_unsigned("!=", builder.load(flag_at), _I32(0))
    with builder.if_else(minus) as (negative, positive):
        with negative:
            _repeat(builder, groups, begin, lambda i, b: group(i, b, builder.sub))
        with positive:
            _repeat(builder, groups, begin, lambda i, b: group(i, b, builder.add))


def _stream_intrinsic(width: int) -> Any:
    """`f(acc, at, schedule, stream, first, groups, kept)` for one vector width.

    Adds groups `first` to `first + groups - 1` (at least one) of stream number `stream` to
    `acc`, from the accumulator's own group `at` on. `kept` is overwritten. Nothing is checked.
    """

    def add_stream(
        typing: Any,
        acc: Any,
        at: Any,
        schedule: Any,
        stream: Any,
        first: Any,
        groups: Any,
        kept: Any,
    ) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            base, rows, changes = (
                _address(context, builder, signature, args, place) for place in (0, 2, 6)
            )
            out = builder.add(base, builder.mul(args[1], _I64(LANES * width)))
            row = builder.add(rows, builder.mul(args[3], _I64(4 * ROW)))
            ring = ir.IntType(acc.dtype.bitwidth)
            _emit_stream(builder, width, ring, (out, row, args[4], args[5], changes))
            return context.get_dummy_value()

        return types.void(acc, at, schedule, stream, first, groups, kept), emit

    return intrinsic(add_stream)


def _address(context: Any, builder: Any, signature: Any, args: Any, place: int) -> Any:
    """Where the data of an array argument begins, as an integer."""
    array = context.make_array(signature.args[place])(context, builder, args[place])
    return builder.ptrtoint(array.data, _I64)


@intrinsic
def _expand_key(typing: Any, schedule: Any, stream: Any) -> Any:
    """Fill round keys 1 to 10 of a row whose first four words are the key (FIPS 197, 5.2)."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows = _address(context, builder, signature, args, 0)
        row = builder.add(rows, builder.mul(args[1], _I64(4 * ROW)))
        pointer = builder.inttoptr(row, ir.VectorType(_I32, 4).as_pointer())
        kind = ir.FunctionType(_BLOCK, [_BLOCK, _I8])
        assist = declare(builder.module, kind, "llvm.x86.aesni.aeskeygenassist")
        key = builder.load(pointer, align=4)
        for number, rcon in enumerate(_RCON, start=1):
            mixed = builder.call(assist, [builder.bitcast(key, _BLOCK), _I8(rcon)])
            key = _next_round_key(builder, key, builder.bitcast(mixed, key.type))
            builder.store(key, builder.gep(pointer, [_I64(number)]), align=4)
        return context.get_dummy_value()

    return types.void(schedule, stream), emit


def _next_round_key(builder: Any, key: Any, assist: Any) -> Any:
    """Word i of the next key is the sum of words 0 to i of this one and the mixed word 3."""
    word = builder.extract_element(assist, _I32(3))
    for place in range(4):
        word = builder.xor(word, builder.extract_element(key, _I32(place)))
        key = builder.insert_element(key, word, _I32(place))
    return key


def _spin_intrinsic(width: int) -> Any:
    """`f(groups)`: the rounds of that many groups, registers only. See `pipeline_limit`."""

    def spin(typing: Any, count: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vectors = _Vectors(builder, width)
            keys = [ir.Constant(vectors.state, [n] * 2 * vectors.blocks) for n in range(ROUNDS + 1)]

            def body(_: Any, carried: Any) -> Any:
                lanes = [builder.extract_value(carried, lane) for lane in range(LANES)]
                return _gather(builder, vectors.encrypt(lanes, keys[1:]))

            start = [ir.Constant(vectors.state, [n] * 2 * vectors.blocks) for n in range(LANES)]
            last = _repeat(builder, args[0], _gather(builder, start), body)
            mixed = builder.extract_value(last, 0)
            for lane in range(1, LANES):
                mixed = builder.xor(mixed, builder.extract_value(last, lane))
            return builder.extract_element(mixed, _I32(0))

        return types.int64(count), emit

    return intrinsic(spin)


def _gather(builder: Any, lanes: list[Any]) -> Any:
    """The lanes as one value that a loop can carry."""
    value = ir.Constant(ir.ArrayType(lanes[0].type, len(lanes)), ir.Undefined)
    for place, lane in enumerate(lanes):
        value = builder.insert_value(value, lane, place)
    return value


_stream512, _spin512 = _stream_intrinsic(64), _spin_intrinsic(64)
_stream256, _spin256 = _stream_intrinsic(32), _spin_intrinsic(32)
_stream128, _spin128 = _stream_intrinsic(16), _spin_intrinsic(16)


@kernel
def expand_keys(keys: Any, minus: Any, schedule: Any) -> None:
    """Rows of `schedule` (see `ROW`) from rows of 28 bytes, key then IV."""
    for stream in range(keys.shape[0]):
        for word in range(7):
            value = np.uint32(0)
            for byte in range(4):
                value |= np.uint32(keys[stream, 4 * word + byte]) << np.uint32(8 * byte)
            schedule[stream, word if word < 4 else word + 40] = value
        schedule[stream, ROW - 1] = minus[stream]
        _expand_key(schedule, stream)


# The next three differ in the intrinsic only. A factory would do, but numba cannot cache a
# kernel that closes over an intrinsic.


@kernel
def vaes512(acc: Any, schedule: Any, first: int, groups: int, tile: int, kept: Any) -> None:
    """Every stream into `groups` groups of `acc`, `tile` of them at a time; VAES, AVX-512.

    `kept` has room for a run of blocks, and holds secrets afterwards.
    """
    for low in range(0, groups, tile):
        count = min(tile, groups - low)
        for stream in range(schedule.shape[0]):
            _stream512(acc, low, schedule, stream, first + low, count, kept)


@kernel
def vaes256(acc: Any, schedule: Any, first: int, groups: int, tile: int, kept: Any) -> None:
    """As `vaes512`; VAES, AVX2."""
    for low in range(0, groups, tile):
        count = min(tile, groups - low)
        for stream in range(schedule.shape[0]):
            _stream256(acc, low, schedule, stream, first + low, count, kept)


@kernel
def aesni(acc: Any, schedule: Any, first: int, groups: int, tile: int, kept: Any) -> None:
    """As `vaes512`; AES-NI."""
    for low in range(0, groups, tile):
        count = min(tile, groups - low)
        for stream in range(schedule.shape[0]):
            _stream128(acc, low, schedule, stream, first + low, count, kept)


@kernel
def limit_vaes512(groups: int) -> int:
    """Ten AES rounds, as wide as in `vaes512`, and nothing else."""
    return int(_spin512(groups))


@kernel
def limit_vaes256(groups: int) -> int:
    """Ten AES rounds, as wide as in `vaes256`, and nothing else."""
    return int(_spin256(groups))


@kernel
def limit_aesni(groups: int) -> int:
    """Ten AES rounds, as wide as in `aesni`, and nothing else."""
    return int(_spin128(groups))


KERNELS = {"vaes512": vaes512, "vaes256": vaes256, "aesni": aesni}
LIMITS = {"vaes512": limit_vaes512, "vaes256": limit_vaes256, "aesni": limit_aesni}


def add_masks(
    name: str,
    acc: Words,
    keys: npt.NDArray[np.uint8],
    minus: npt.NDArray[np.bool_],
    start: int,
    threads: int | None,
) -> None:
    """What `secagg.prg.add_masks` does, once everything is checked; `keys` is wiped.

    `keys` holds rows of 28 bytes, `minus` says which streams are subtracted; neither they
    nor `acc` are empty. `start` is in words of `acc`, which is no subclass of an array.
    """
    schedule = np.empty((len(keys), ROW), np.uint32)
    try:
        expand_keys(keys, minus, schedule)
        _add(name, acc, schedule, start, threads)
    finally:
        keys.fill(0)
        schedule.fill(0)


def pipeline_limit(name: str, stream_bytes: int) -> int:
    """Run the ten rounds of at least `stream_bytes` bytes in registers: time it for the limit.

    Returns the bytes whose rounds were run. No counter, no load and no store: nothing that makes
    all rounds of every block can be faster.
    """
    group = LANES * VECTOR_BYTES[name]
    groups = max(1, -(-stream_bytes // group))
    LIMITS[name](groups)
    return groups * group


def _add(name: str, acc: Words, schedule: Schedule, start: int, threads: int | None) -> None:
    """A ragged head, whole groups over the threads, and a ragged tail."""
    run, group_bytes = KERNELS[name], LANES * VECTOR_BYTES[name]
    group, tile = group_bytes // acc.itemsize, TILE_BYTES // group_bytes
    number, skip = divmod(start, group)
    head = min(acc.size, group - skip) if skip else 0
    first = number + 1 if head else number
    whole = (acc.size - head) // group
    tail = head + whole * group

    def groups_of(part: Words, number: int, count: int) -> None:
        kept = np.empty(RUN * BLOCK_BYTES, np.uint8)
        run(part, schedule, number, count, tile, kept)
        kept.fill(0)

    def piece(low: int, high: int) -> None:
        groups_of(acc[head + low * group : head + high * group], first + low, high - low)

    def edge(part: Words, number: int, place: int) -> None:
        buffer = np.zeros(group, acc.dtype)
        buffer[place : place + part.size] = part
        groups_of(buffer, number, 1)
        part[:] = buffer[place : place + part.size]
        buffer.fill(0)

    if head:
        edge(acc[:head], number, skip)
    _parallel.spread(piece, whole, _piece_groups(tile, len(schedule)), threads)
    if tail < acc.size:
        edge(acc[tail:], first + whole, 0)


def _piece_groups(tile: int, streams: int) -> int:
    """Whole tiles, enough for a piece of work to outlast the start of a thread."""
    return tile * max(1, PIECE_BYTES // (streams * TILE_BYTES))
