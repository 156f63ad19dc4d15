"""AES-128-CTR streams and packing: spec section 4, SP 800-38A section 6.5."""

from collections.abc import Iterator, Sequence

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CTR

from tests.reference.errors import Decode, Local

StreamKey = tuple[bytes, bytes]
"""AES-128 key and 12-byte IV."""


def keystream(key: bytes, iv: bytes, length: int, block: int = 0) -> bytes:
    """`length` bytes from the start of that block."""
    counter = iv + block.to_bytes(4, "big")
    return Cipher(AES128(key), CTR(counter)).encryptor().update(bytes(length))


def stream_words(key: bytes, iv: bytes, start: int, length: int, bits: int) -> list[int]:
    """The words of 32 or 64 bits from word `start` on. Or Local."""
    size = bits // 8
    if (len(key), len(iv)) != (16, 12) or bits not in (32, 64):
        raise Local("a stream key is 16 and 12 bytes, its words have 32 or 64 bits")
    if start < 0 or (start + length) * size > 16 * 2**32:
        raise Local("a stream has 2^32 blocks")
    if not length:
        return []
    block, skip = divmod(start * size, 16)
    raw = keystream(key, iv, skip + length * size, block)[skip:]
    return [int.from_bytes(raw[i : i + size], "little") for i in range(0, len(raw), size)]


def add_streams(
    values: Sequence[int], keys: Sequence[StreamKey], signs: Sequence[int], start: int, bits: int
) -> list[int]:
    """Values below 2^bits and the words of all streams from `start` on. Or Local."""
    if len(signs) != len(keys) or not set(signs) <= {1, -1}:
        raise Local("a sign for each stream, +1 or -1")
    total = list(values)
    for (key, iv), sign in zip(keys, signs, strict=True):
        words = stream_words(key, iv, start, len(total), bits)
        total = [(x + sign * w) % 2**bits for x, w in zip(total, words, strict=True)]
    return total


def ctr_words(key: bytes, iv: bytes) -> Iterator[int]:
    """32-bit words from block 0, without end."""
    encryptor = Cipher(AES128(key), CTR(iv + bytes(4))).encryptor()
    while True:
        yield int.from_bytes(encryptor.update(bytes(4)), "little")


def mask(raw: bytes, length: int, bits: int) -> list[int]:
    """The first `length` values of the stream with this 28-byte key, below 2^bits."""
    words = stream_words(raw[:16], raw[16:], 0, length, 32 if bits <= 32 else 64)
    return [word % 2**bits for word in words]


def packed_bytes(length: int, bits: int) -> int:
    return -(-length * bits // 8)


def pack_values(values: Sequence[int], bits: int) -> bytes:
    """Or Local."""
    whole = 0
    for at, value in enumerate(values):
        if not 0 <= value < 2**bits:
            raise Local(f"a value does not fit in {bits} bits")
        whole |= value << at * bits
    return whole.to_bytes(packed_bytes(len(values), bits), "little")


def unpack_values(data: bytes, bits: int, length: int) -> list[int]:
    """Or Decode."""
    expected = packed_bytes(length, bits)
    if len(data) != expected:
        raise Decode(f"{length} values of {bits} bits are {expected} bytes, got {len(data)}")
    whole = int.from_bytes(data, "little")
    if whole >> length * bits:
        raise Decode(f"a padding bit after {length} values of {bits} bits is set")
    return [whole >> at * bits & 2**bits - 1 for at in range(length)]
