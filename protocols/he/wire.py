"""What is checked of a peer's bytes before SEAL sees them, and TenSEAL's own framing.

Only single SEAL objects cross the wire, never TenSEAL's protocol buffers: those are made here,
from our own parameters, because TenSEAL ends the process when their counts disagree. A SEAL
object is a 16-byte header and one Zstandard frame (RFC 8878, section 3.1.1); the header, the
frame's declared size and every block's size must be those of an object of our own library with
our own parameters, so decompression is bounded before it begins.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from secagg.errors import DecodeError

_HEADER = 16
_MAGIC_AND_DESCRIPTOR = 5
_CONTENT_SIZE = {0x20: 1, 0x60: 2, 0xA0: 4}
"""Frame header descriptor -> bytes of the declared size: one segment, no checksum, no
dictionary; anything else is refused."""
_LARGEST_BLOCK = 1 << 17
_BLOCKS_SPARE = 8
_RAW, _RLE, _COMPRESSED = 0, 1, 2

Field = tuple[int, bytes | int]


@dataclass(frozen=True)
class Form:
    """What all SEAL objects of one kind share under one set of parameters.

    prefix: the header before its length: magic, versions, compression; frame: that of
    Zstandard, up to its first block; size: bytes of the object once decompressed.
    """

    prefix: bytes
    frame: bytes
    size: int

    @classmethod
    def of(cls, sample: bytes) -> "Form":
        """The form of an object that our own library wrote."""
        size = _declared_size(sample)
        return cls(sample[:8], sample[_HEADER : _first_block(sample)], size)

    def wrap(self, contents: bytes) -> bytes:
        """The object with these contents, `size` bytes: as an encoder writes what it cannot
        compress, in blocks of their own length.
        """
        assert len(contents) == self.size  # noqa: S101 - made by this side, of this form
        frame = self.frame + b"".join(
            (int(at + _LARGEST_BLOCK >= self.size) | len(block) << 3).to_bytes(3, "little") + block
            for at, block in _blocks(contents)
        )
        return self.prefix + struct.pack("<Q", _HEADER + len(frame)) + frame

    def check(self, raw: bytes) -> None:
        """Raise DecodeError unless `raw` may be handed to SEAL as such an object."""
        if len(raw) < _HEADER + _MAGIC_AND_DESCRIPTOR or raw[:8] != self.prefix:
            raise DecodeError("not a SEAL object of this library's version")
        if struct.unpack_from("<Q", raw, 8)[0] != len(raw):
            raise DecodeError("a SEAL object of another length than it says")
        if _declared_size(raw) != self.size:
            raise DecodeError("a SEAL object of another size than these parameters give")
        _check_blocks(raw, self.size)


def _declared_size(raw: bytes) -> int:
    magic, descriptor = raw[_HEADER : _HEADER + 4], raw[_HEADER + 4]
    if magic != b"\x28\xb5\x2f\xfd" or descriptor not in _CONTENT_SIZE:
        raise DecodeError("not one Zstandard segment of declared size")
    count = _CONTENT_SIZE[descriptor]
    start = _HEADER + _MAGIC_AND_DESCRIPTOR
    if len(raw) < start + count:
        raise DecodeError("a truncated Zstandard frame")
    size = int.from_bytes(raw[start : start + count], "little")
    return size + 256 if count == 2 else size


def opening_of(sample: bytes, length: int) -> bytes:
    """The first bytes of what is in an object whose first block is not compressed, as that of a
    ciphertext never is. DecodeError where it is.
    """
    at = _first_block(sample)
    header = int.from_bytes(sample[at : at + 3], "little")
    if header >> 1 & 3 != _RAW or header >> 3 < length:
        raise DecodeError("this TenSEAL compresses what does not compress")
    return sample[at + 3 : at + 3 + length]


def _first_block(raw: bytes) -> int:
    return _HEADER + _MAGIC_AND_DESCRIPTOR + _CONTENT_SIZE[raw[_HEADER + 4]]


def _blocks(contents: bytes) -> Iterator[tuple[int, bytes]]:
    """Pieces that may be blocks, and where they begin."""
    starts = range(0, len(contents), _LARGEST_BLOCK)
    return ((at, contents[at : at + _LARGEST_BLOCK]) for at in starts)


def _check_blocks(raw: bytes, size: int) -> None:
    """Walk the block headers: they end where the object ends, and their number bounds what they
    can become.
    """
    at = _first_block(raw)
    for _ in range(size // _LARGEST_BLOCK + _BLOCKS_SPARE):
        header = int.from_bytes(raw[at : at + 3], "little")
        last, kind, length = header & 1, header >> 1 & 3, header >> 3
        if kind > _COMPRESSED or length > _LARGEST_BLOCK:
            raise DecodeError("a Zstandard block that no encoder writes")
        at += 3 + (1 if kind == _RLE else length)
        if at > len(raw):
            raise DecodeError("a truncated Zstandard frame")
        if last:
            break
    if not last or at != len(raw):
        raise DecodeError("a Zstandard frame with leftovers or too many blocks")


def fields_of(message: bytes) -> list[Field]:
    """The fields of a protocol buffer that our own TenSEAL wrote: (number, value)."""
    fields: list[Field] = []
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
                fields.append((tag >> 3, value))
                continue
            case 1:
                length = 8
            case 2:
                length, at = _varint(message, at)
            case _:
                raise DecodeError("a field that TenSEAL does not write")
        fields.append((tag >> 3, message[at : at + length]))
        at += length
    return fields


def bytes_of(fields: Iterable[Field], number: int) -> list[bytes]:
    """The values of the byte fields of this number."""
    return [value for field, value in fields if field == number and isinstance(value, bytes)]


def message_of(fields: Iterable[Field], *, doubles: Sequence[int] = ()) -> bytes:
    """The protocol buffer with these fields; those in `doubles` are 8 bytes, little-endian."""
    return b"".join(_field(number, value, number in doubles) for number, value in fields)


def packed_ints(values: Iterable[int]) -> bytes:
    """A packed repeated integer field's value."""
    return b"".join(map(_encoded, values))


def _field(number: int, value: bytes | int, double: bool) -> bytes:
    if isinstance(value, int):
        return _encoded(number << 3) + _encoded(value)
    if double:
        return _encoded(number << 3 | 1) + value
    return _encoded(number << 3 | 2) + _encoded(len(value)) + value


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value >> 7:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte >> 7:
            return value, at
