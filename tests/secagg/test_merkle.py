"""Proofs for every leaf of every small tree, against the recursion of RFC 9162."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import merkle
from secagg.errors import LocalError
from secagg.kdf import digest, label
from tests.vectors import primitives as reference

VECTORS = reference.load("merkle")
SIZES = range(1, 41)


def unpacked(vector: dict[str, Any]) -> tuple[bytes, bytes, int, int, list[bytes]]:
    root, leaf = bytes.fromhex(vector["root"]), bytes.fromhex(vector["leaf"])
    return root, leaf, vector["index"], vector["size"], [bytes.fromhex(p) for p in vector["path"]]


def test_vectors_are_those_of_the_reference() -> None:
    assert reference.merkle_vectors() == VECTORS


@pytest.mark.parametrize("vector", VECTORS["root"], ids=lambda v: str(len(v["leaves"])))
def test_roots(vector: dict[str, Any]) -> None:
    assert merkle.root([bytes.fromhex(x) for x in vector["leaves"]]).hex() == vector["root"]


@pytest.mark.parametrize("vector", VECTORS["proof"], ids=lambda v: f"{v['index']}of{v['size']}")
def test_proofs_verify(vector: dict[str, Any]) -> None:
    leaves = reference.merkle_leaves(vector["size"])
    assert [p.hex() for p in merkle.proof(leaves, vector["index"])] == vector["path"]
    assert merkle.verify(*unpacked(vector))


@pytest.mark.parametrize("vector", VECTORS["negative"], ids=lambda v: v["why"])
def test_wrong_proofs_do_not_verify(vector: dict[str, Any]) -> None:
    assert merkle.verify(*unpacked(vector)) is False


@pytest.mark.parametrize("size", SIZES)
def test_every_leaf_of_every_size(size: int) -> None:
    leaves = reference.merkle_leaves(size)
    top = merkle.root(leaves)
    paths = merkle.proofs(leaves, range(size))
    assert top == reference.merkle_root(leaves)
    for index, path in enumerate(paths):
        assert list(path) == reference.merkle_path(leaves, index)
        assert path == merkle.proof(leaves, index)
        assert merkle.verify(top, leaves[index], index, size, path)


@pytest.mark.parametrize("size", SIZES)
def test_a_proof_stands_for_one_index_and_one_leaf(size: int) -> None:
    leaves = reference.merkle_leaves(size)
    top = merkle.root(leaves)
    for index, path in enumerate(merkle.proofs(leaves, range(size))):
        verified = [
            (i, j)
            for i in range(-1, size + 2)
            for j in ({index, (i if 0 <= i < size else 0)})
            if merkle.verify(top, leaves[j], i, size, path)
        ]
        assert verified == [(index, index)]


@pytest.mark.parametrize("size", SIZES)
def test_damaged_paths_do_not_verify(size: int) -> None:
    leaves = reference.merkle_leaves(size)
    top = merkle.root(leaves)
    for index, path in enumerate(merkle.proofs(leaves, range(size))):
        longer = [*path, top], [top, *path], [*path, b""]
        cut = [path[:i] + path[i + 1 :] for i in range(len(path))]
        flipped = [[*path[:i], bytes(32), *path[i + 1 :]] for i in range(len(path))]
        for bad in (*longer, *cut, *flipped):
            assert not merkle.verify(top, leaves[index], index, size, bad)
        assert not merkle.verify(bytes(32), leaves[index], index, size, path)
        assert not merkle.verify(b"", leaves[index], index, size, path)


def test_an_inner_node_is_not_a_leaf() -> None:
    """The second-preimage attack on trees that hash leaves and nodes alike."""
    leaves = reference.merkle_leaves(4)
    hashes = [digest("merkle leaf", leaf) for leaf in leaves]
    left = digest("merkle node", *hashes[:2])
    right = digest("merkle node", *hashes[2:])
    top = merkle.root(leaves)
    assert top == digest("merkle root", 4, digest("merkle node", left, right))
    for forged in (hashes[0] + hashes[1], label("merkle node", *hashes[:2]), left):
        assert not merkle.verify(top, forged, 0, 2, [right])
        assert merkle.root([forged, hashes[2] + hashes[3]]) != top


def test_the_leaf_is_not_its_hash() -> None:
    leaf = digest("merkle leaf", b"leaf")
    top = digest("merkle root", 1, leaf)
    assert merkle.root([b"leaf"]) == top
    assert not merkle.verify(top, leaf, 0, 1, [])


@pytest.mark.parametrize("size", [2, 3, 4, 7, 8, 31, 32, 40])
def test_another_depth_is_refused(size: int) -> None:
    leaves = reference.merkle_leaves(size)
    top, path = merkle.root(leaves), merkle.proof(leaves, 0)
    depth = (size - 1).bit_length()
    for claimed in (1, *(n for n in range(1, 200) if (n - 1).bit_length() != depth)):
        assert not merkle.verify(top, leaves[0], 0, claimed, path)


def test_another_size_is_refused() -> None:
    leaves = reference.merkle_leaves(3)
    top = merkle.root(leaves)
    as_four = merkle.verify(top, leaves[0], 0, 4, merkle.proof(leaves, 0))
    as_two = merkle.verify(top, leaves[2], 1, 2, merkle.proof(leaves, 2))
    assert not as_four
    assert not as_two  # leaf 2 of 3 is shown as leaf 1 of 2


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=8), min_size=1, max_size=12), st.data())
def test_a_root_depends_on_every_leaf_and_their_order(leaves: list[bytes], data: Any) -> None:
    at = data.draw(st.integers(0, len(leaves) - 1))
    top = merkle.root(leaves)
    assert top == reference.merkle_root(leaves)
    assert merkle.root([*leaves[:at], leaves[at] + b"\0", *leaves[at + 1 :]]) != top
    assert merkle.root([*leaves, leaves[at]]) != top
    turned = leaves[::-1]
    assert (merkle.root(turned) == top) == (turned == leaves)


@settings(max_examples=100)
@given(
    st.integers(-(2**70), 2**70),
    st.integers(-(2**70), 2**70),
    st.lists(st.binary(max_size=40), max_size=80),
    st.binary(max_size=40),
)
def test_verify_never_raises(index: int, size: int, path: list[bytes], leaf: bytes) -> None:
    assert merkle.verify(bytes(32), leaf, index, size, path) is False


@pytest.mark.parametrize("index", [0, 2**40, 2**69 - 1])
def test_a_huge_tree_is_answered_at_once(index: int) -> None:
    assert not merkle.verify(bytes(32), b"leaf", index, 2**69, [bytes(32)] * 69)


def test_proofs_of_several_indices_in_any_order() -> None:
    leaves = reference.merkle_leaves(7)
    assert merkle.proofs(leaves, [6, 0, 6]) == [merkle.proof(leaves, i) for i in (6, 0, 6)]
    assert merkle.proofs(leaves, []) == []


@pytest.mark.parametrize("index", [-1, 5, 6, 100])
def test_a_position_outside_the_list_has_no_proof(index: int) -> None:
    with pytest.raises(LocalError, match="one of the 5 leaves"):
        merkle.proof(reference.merkle_leaves(5), index)


def test_an_empty_list_has_no_root() -> None:
    with pytest.raises(LocalError):
        merkle.root([])
