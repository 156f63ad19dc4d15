"""The full scan of a table of 128-bit entries by vectors of uniform 128-bit numbers.

Every number is compared with every entry, in registers: no branch, no address and no time
depends on a number. `secagg.gaussian` holds the reference. Four vectors are in flight, which
hides the latency of a comparison. Vectors have 8 lanes of 64 bits whatever the CPU.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from secagg.kernels._jit import compiles, intrinsic, kernel

__all__ = ["compiles", "sample"]

_LANES = 8
_VECTORS = 4
_GROUP = _LANES * _VECTORS

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_I64, _LANES)
_ONES = ir.Constant(_VECTOR, [1] * _LANES)
_ZEROS = ir.Constant(_VECTOR, [0] * _LANES)


class _Scan:
    """Emits the scan of one group: the loop over the entries, and the signs."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.builder, self.args = builder, args
        arrays = {
            place: context.make_array(signature.args[place])(context, builder, args[place])
            for place in (0, 3, 4, 5)
        }
        self.words, self.high_table, self.low_table, self.out = (
            arrays[place].data for place in (0, 3, 4, 5)
        )

    def vectors(self, index: Any) -> list[Any]:
        """The group's words from word `index` on."""
        place = self.builder.bitcast(self.builder.gep(self.words, [index]), _VECTOR.as_pointer())
        each = (self.builder.gep(place, [_I32(at)]) for at in range(_VECTORS))
        return [self.builder.load(at, align=8) for at in each]

    def spread(self, table: Any, index: Any) -> Any:
        """An entry's half in every lane."""
        word = self.builder.load(self.builder.gep(table, [index]))
        none = ir.Constant(_VECTOR, ir.Undefined)
        one = self.builder.insert_element(none, word, _I32(0))
        zeros = ir.Constant(ir.VectorType(_I32, _LANES), [0] * _LANES)
        return self.builder.shuffle_vector(one, none, zeros)

    def counted(self, count: Any, high: Any, low: Any, entry: tuple[Any, Any]) -> Any:
        """One more where the number is below the entry."""
        build = self.builder
        tied = build.icmp_unsigned("==", high, entry[0])
        below = build.icmp_unsigned("<", high, entry[0])
        either = build.or_(below, build.and_(tied, build.icmp_unsigned("<", low, entry[1])))
        return build.add(count, build.zext(either, _VECTOR))

    def sizes(self, high: list[Any], low: list[Any], entries: Any) -> list[Any]:
        """How many entries each number is below."""
        build = self.builder
        before = build.block
        loop, after = build.append_basic_block("entries"), build.append_basic_block("signs")
        build.branch(loop)
        build.position_at_end(loop)
        index = build.phi(_I64)
        counts = [build.phi(_VECTOR) for _ in range(_VECTORS)]
        entry = self.spread(self.high_table, index), self.spread(self.low_table, index)
        following = [self.counted(*each, entry) for each in zip(counts, high, low, strict=True)]
        stepped = build.add(index, _I64(1))
        for phi, start, again in zip(
            (index, *counts), (_I64(0), *[_ZEROS] * _VECTORS), (stepped, *following), strict=True
        ):
            phi.add_incoming(start, before)
            phi.add_incoming(again, loop)
        build.cbranch(build.icmp_unsigned("<", stepped, entries), loop, after)
        build.position_at_end(after)
        return following

    def store(self, sizes: list[Any], low: list[Any]) -> None:
        """The sizes with the sign that the lowest bit gives, as 32-bit words."""
        build = self.builder
        narrow = ir.VectorType(_I32, _LANES)
        place = build.bitcast(build.gep(self.out, [self.args[1]]), narrow.as_pointer())
        for at, (size, word) in enumerate(zip(sizes, low, strict=True)):
            minus = build.sub(_ZEROS, build.and_(word, _ONES))
            signed = build.sub(build.xor(size, minus), minus)
            build.store(build.trunc(signed, narrow), build.gep(place, [_I32(at)]), align=4)


@intrinsic
def _scan(
    typing: Any, words: Any, at: Any, low_at: Any, high: Any, low: Any, out: Any, entries: Any
) -> Any:
    """Samples `at` to `at + 31`, whose low halves begin at word `low_at`."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scan = _Scan(context, builder, signature, args)
        highs, lows = scan.vectors(args[1]), scan.vectors(args[2])
        scan.store(scan.sizes(highs, lows, args[6]), lows)
        return context.get_dummy_value()

    numbers = (types.int64, types.int64)
    return types.void(words, *numbers, high, low, out, types.int64), emit


@kernel
def sample(words: Any, high: Any, low: Any, out: Any) -> None:
    """`out[i]` for the number with high half `words[i]`, low half `words[out.size + i]`."""
    count, whole = out.size, out.size // _GROUP * _GROUP
    for at in range(0, whole, _GROUP):
        _scan(words, at, count + at, high, low, out, high.size)
    if whole < count:
        rest = np.zeros(2 * _GROUP, np.uint64)
        rest[: count - whole] = words[whole:count]
        rest[_GROUP : _GROUP + count - whole] = words[count + whole : 2 * count]
        samples = np.empty(_GROUP, np.int32)
        _scan(rest, 0, _GROUP, high, low, samples, high.size)
        out[whole:] = samples[: count - whole]
        rest[:] = 0
