"""AES-128-CTR streams and packing: spec section 4, SP 800-38A section 6.5."""

from collections.abc import Iterator, Sequence

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CTR

from tests.reference.errors import Decode


def keystream(key: bytes, iv: bytes, length: int) -> bytes:
    return Cipher(AES128(key), CTR(iv + bytes(4))).encryptor().update(bytes(length))


def ctr_words(key: bytes, iv: bytes) -> Iterator[int]:
    """32-bit words from block 0, without end."""
    encryptor = Cipher(AES128(key), CTR(iv + bytes(4))).encryptor()
    while True:
        yield int.from_bytes(encryptor.update(bytes(4)), "little")


def mask(raw: bytes, length: int, bits: int) -> list[int]:
    """The first `length` values of the stream with this 28-byte key, below 2^bits."""
    word = 4 if bits <= 32 else 8
    stream = keystream(raw[:16], raw[16:], length * word)
    words = (stream[i : i + word] for i in range(0, len(stream), word))
    return [int.from_bytes(each, "little") % 2**bits for each in words]


def packed_bytes(length: int, bits: int) -> int:
    return -(-length * bits // 8)


def pack_values(values: Sequence[int], bits: int) -> bytes:
    whole = 0
    for at, value in enumerate(values):
        whole |= value << at * bits
    return whole.to_bytes(packed_bytes(len(values), bits), "little")


def unpack_values(data: bytes, bits: int, length: int) -> list[int]:
    expected = packed_bytes(length, bits)
    if len(data) != expected:
        raise Decode(f"{length} values of {bits} bits are {expected} bytes, got {len(data)}")
    whole = int.from_bytes(data, "little")
    if whole >> length * bits:
        raise Decode(f"a padding bit after {length} values of {bits} bits is set")
    return [whole >> at * bits & 2**bits - 1 for at in range(length)]
