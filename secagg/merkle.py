"""A Merkle tree over public byte strings, shaped as in RFC 9162, section 2.1.

Leaves, inner nodes and the root are hashed under different labels, and the root contains the
number of leaves, so a proof stands for one position of one list.
"""

from collections import defaultdict
from collections.abc import Sequence

from secagg.errors import LocalError
from secagg.kdf import DIGEST_BYTES, digest, digests, strings, table

_LEAF, _NODE = "merkle leaf", "merkle node"


def root(leaves: Sequence[bytes]) -> bytes:
    """The 32-byte root of `leaves`, at least one, in order. Raises LocalError for none."""
    if not leaves:
        raise LocalError("a Merkle tree has at least one leaf")
    level = _leaves(leaves)
    while len(level) > 1:
        level = _parents(level)
    return _root(len(leaves), level[0])


def proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The siblings on the way from leaf `index` up, lowest first. Or LocalError."""
    return proofs(leaves, [index])[0]


def proofs(leaves: Sequence[bytes], indices: Sequence[int]) -> list[tuple[bytes, ...]]:
    """The proofs of several leaves of the same tree: the tree is hashed once."""
    if not all(0 <= index < len(leaves) for index in indices):
        raise LocalError(f"a proof is of one of the {len(leaves)} leaves")
    levels = [_leaves(leaves)]
    while len(levels[-1]) > 1:
        levels.append(_parents(levels[-1]))
    return [_path(levels[:-1], index) for index in indices]


def verify(top: bytes, leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bool:
    """Whether `leaf` stands at `index` of the list of `size` leaves whose root is `top`."""
    if not 0 <= index < size < 2**63:
        return False
    node, siblings, width = digest(_LEAF, leaf), list(path), size
    while width > 1:
        if index ^ 1 < width:
            if not siblings:
                return False
            node = _node(index, node, siblings.pop(0))
        index, width = index // 2, (width + 1) // 2
    return not siblings and _root(size, node) == top


def _path(levels: Sequence[Sequence[bytes]], index: int) -> tuple[bytes, ...]:
    path = []
    for level in levels:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        index //= 2
    return tuple(path)


def _parents(level: Sequence[bytes]) -> list[bytes]:
    paired = len(level) & ~1
    ends = (table(level[end:paired:2], DIGEST_BYTES) for end in (0, 1))
    return strings(digests(_NODE, *ends)) + list(level[paired:])


def _root(size: int, node: bytes) -> bytes:
    return digest("merkle root", size, node)


def _leaves(leaves: Sequence[bytes]) -> list[bytes]:
    places = defaultdict(list)
    for at, data in enumerate(leaves):
        places[len(data)].append(at)
    hashed = [b""] * len(leaves)
    for length, alike in places.items():
        rows = digests(_LEAF, table([leaves[at] for at in alike], length))
        for at, found in zip(alike, strings(rows), strict=True):
            hashed[at] = found
    return hashed


def _node(index: int, own: bytes, sibling: bytes) -> bytes:
    left, right = (sibling, own) if index & 1 else (own, sibling)
    return digest(_NODE, left, right)
