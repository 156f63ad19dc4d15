"""Sets of clients as bits: bit v - 1, from the lowest bit of the first byte, is client v."""

from collections.abc import Collection

from secagg.errors import DecodeError


def bitmap_of(members: Collection[int], clients: int) -> bytes:
    """ceil(clients / 8) bytes for members between 1 and `clients`."""
    number = sum(1 << (v - 1) for v in members)
    return number.to_bytes(-(-clients // 8), "little")


def members_of(bitmap: bytes, clients: int) -> frozenset[int]:
    """The set. Raises DecodeError for another length, or a bit that is nobody's."""
    number = int.from_bytes(bitmap, "little")
    if len(bitmap) != -(-clients // 8) or number >> clients:
        raise DecodeError(f"not a set of the {clients} clients")
    return frozenset(v for v in range(1, clients + 1) if number >> (v - 1) & 1)
