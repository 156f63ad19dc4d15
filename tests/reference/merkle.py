"""The Merkle tree: spec section 3, in the recursive definitions of RFC 9162, section 2.1."""

from collections.abc import Sequence

from tests.reference.labels import digest


def merkle_hash(leaves: Sequence[bytes]) -> bytes:
    """MTH of section 2.1.1."""
    if len(leaves) == 1:
        return digest("merkle leaf", leaves[0])
    k = _largest_power_below(len(leaves))
    return digest("merkle node", merkle_hash(leaves[:k]), merkle_hash(leaves[k:]))


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The hash of the tree, under the number of its leaves."""
    return digest("merkle root", len(leaves), merkle_hash(leaves))


def merkle_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """PATH of section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = _largest_power_below(len(leaves))
    if index < k:
        return [*merkle_path(leaves[:k], index), merkle_hash(leaves[k:])]
    return [*merkle_path(leaves[k:], index - k), merkle_hash(leaves[:k])]


def verify(root: bytes, leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bool:
    """By the recursion that makes paths, from the top: the last sibling is the highest."""
    if not 0 <= index < size:
        return False
    top = _climb(digest("merkle leaf", leaf), index, size, list(path))
    return top is not None and digest("merkle root", size, top) == root


def _climb(node: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    if size == 1:
        return None if path else node
    if not path:
        return None
    k = _largest_power_below(size)
    sibling = path[-1]
    if index < k:
        left = _climb(node, index, k, path[:-1])
        return left and digest("merkle node", left, sibling)
    right = _climb(node, index - k, size - k, path[:-1])
    return right and digest("merkle node", sibling, right)


def _largest_power_below(n: int) -> int:
    return 1 << (n - 1).bit_length() - 1
