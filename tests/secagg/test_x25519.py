"""X25519 of many points together, against RFC 7748, OpenSSL and whole numbers."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from secagg import seal, x25519
from secagg.errors import DecodeError, LocalError
from tests.reference.curve import LOW_ORDER, P255
from tests.reference.curve import x25519 as by_definition

kernel = pytest.importorskip("secagg.kernels.x25519", reason="needs numba")
numba = pytest.importorskip("numba")
fused = pytest.mark.skipif(not kernel.usable(), reason="this CPU has no 52-bit products")

RFC7748 = [  # section 5.2: scalar, u-coordinate, their product
    (
        "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    ),
    (
        "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
        "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
        "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    ),
]
AFTER_A_THOUSAND = "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"
NINE = (9).to_bytes(32, "little")
LEAST = x25519.MOST_ALONE + 1
real = np.empty


def by_openssl(scalar: bytes, points: list[bytes]) -> list[bytes]:
    private = X25519PrivateKey.from_private_bytes(scalar)
    return [private.exchange(X25519PublicKey.from_public_bytes(point)) for point in points]


def together(scalar: bytes, points: list[bytes]) -> list[bytes]:
    found = x25519.agreed(scalar, points)
    assert found is not None
    return found


@fused
@pytest.mark.parametrize(("scalar", "u", "product"), RFC7748)
def test_the_vectors_of_rfc_7748(scalar: str, u: str, product: str) -> None:
    others = [NINE] * (LEAST - 1)
    found = together(bytes.fromhex(scalar), [*others, bytes.fromhex(u)])
    assert found[-1].hex() == product
    assert found[:-1] == by_openssl(bytes.fromhex(scalar), others)


@fused
def test_the_thousandth_of_rfc_7748() -> None:
    """Section 5.2: the product is the next scalar, and the scalar the next point."""
    k = u = NINE
    for _ in range(1000):
        k, u = together(k, [u] * LEAST)[0], k
    assert k.hex() == AFTER_A_THOUSAND


@fused
@pytest.mark.parametrize("count", [LEAST, 7, 8, 9, 16, 31, 32, 33, 65, 100, 130])
def test_any_number_of_points_is_as_one_by_one(count: int) -> None:
    scalar, points = os.urandom(32), [os.urandom(32) for _ in range(count)]
    assert together(scalar, points) == by_openssl(scalar, points)


@fused
@pytest.mark.parametrize("scalar", [bytes(32), b"\xff" * 32, b"\x07" + bytes(30) + b"\x80", NINE])
def test_scalars_and_points_at_the_ends(scalar: bytes) -> None:
    """Not canonical ones, with their highest bit set, and of the twist, too."""
    numbers = [2, 3, P255 - 2, P255 + 2, P255 + 18, 2**255 - 3, 2**255 + 2, 2**256 - 21]
    numbers += [2**51 - 1, 2**51, 2**102 - 1, 2**204 + 5, 2**254, 2**254 - 1, *range(4, 9)]
    points = [number.to_bytes(32, "little") for number in numbers]
    expected = by_openssl(scalar, points)
    assert together(scalar, points) == expected
    assert expected[:6] == [by_definition(scalar, point) for point in points[:6]]


@fused
@pytest.mark.parametrize("u", [*LOW_ORDER, P255, P255 + 1])
@pytest.mark.parametrize("place", [0, 2, 8])
def test_a_point_of_low_order_is_refused_wherever_it_stands(u: int, place: int) -> None:
    points = [NINE] * 9
    points[place] = u.to_bytes(32, "little")
    found = together(scalar := os.urandom(32), points)
    assert found[place] == b""
    assert found[:place] + found[place + 1 :] == by_openssl(scalar, [NINE] * 8)


@pytest.mark.parametrize("sizes", [(31, 32), (33, 32), (0, 32), (32, 31), (32, 0), (32, 64)])
def test_other_lengths_are_local_errors(sizes: tuple[int, int]) -> None:
    scalar, point = map(bytes, sizes)
    with pytest.raises(LocalError, match="32 bytes"):
        x25519.agreed(scalar, [NINE] * LEAST + [point])


@pytest.mark.parametrize("points", [[], [NINE], [NINE] * x25519.MOST_ALONE])
def test_few_points_are_left_to_openssl(points: list[bytes]) -> None:
    assert x25519.agreed(os.urandom(32), points) is None


@fused
def test_no_secret_stays_in_what_the_kernel_worked_in(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms: list[np.ndarray] = []
    monkeypatch.setattr(kernel.np, "empty", lambda *a: rooms.append(real(*a)) or rooms[-1])
    out, limbs = real((4, 4), "<u8"), x25519._limbs([NINE] * 4, kernel.WIDTH, kernel.LIMBS)
    kernel.ladders(os.urandom(32), limbs, out)
    assert out.all(axis=1).all()
    assert [room.any() for room in rooms] == [False]


CHECK = """
import os, sys
from secagg import kernels, seal
{before}
pairs = [seal.X25519.key_pair(os.urandom(32)) for _ in range(12)]
public = [pair.public for pair in pairs]
assert pairs[0].agree_each(public) == [pairs[0].agree(each) for each in public]
{after}
"""
WITHOUT: dict[str, tuple[dict[str, str], str, str]] = {
    "numba": ({}, "sys.modules['numba'] = None", ""),
    "compilation": ({"NUMBA_DISABLE_JIT": "1"}, "", ""),
    "the instructions": ({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+sse2"}, "", ""),
    "one of them": ({"NUMBA_CPU_FEATURES": "+avx512f,+avx512ifma,-avx512ifma"}, "", ""),
    "time to load": ({}, "kernels.postpone()", "assert 'numba' not in sys.modules"),
}


@pytest.mark.parametrize("what", WITHOUT)
def test_keys_agree_without(what: str) -> None:
    features, before, after = WITHOUT[what]
    code = CHECK.format(before=before, after=after)
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | features)


@fused
def test_nothing_beyond_the_points_is_read(tmp_path: Path) -> None:
    """The private folder, because numba's cache does not know of the setting."""
    checked = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    code = CHECK.format(before="", after="").replace("range(12)", "range(13)")
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | checked)


@fused
def test_the_compiler_makes_no_branch_of_a_secret() -> None:
    """A step is a single block: nothing in it is jumped over."""
    compiled = numba.njit(stepping)
    values = np.zeros(7 * 40, np.uint64)
    compiled(values, np.uint64(1))
    (text,) = compiled.inspect_llvm().values()
    body = text[text.index("define") :].split("\n}", 1)[0]
    assert "vpmadd52" in body
    assert "br i1" not in body
    assert "switch" not in body


def stepping(values: Any, swap: Any) -> None:
    kernel._step(values, swap)


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("name", seal.SUITES)
def test_key_pairs_agree_with_each_as_with_one(
    name: str, vectors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not vectors:
        monkeypatch.setattr(x25519, "_compiled", lambda: None)
    suite = seal.SUITES[name]
    own, *others = (suite.key_pair(os.urandom(suite.seed_bytes)) for _ in range(LEAST + 4))
    for count in (0, 1, LEAST, len(others)):
        chosen = [other.public for other in others[:count]]
        expected = [other.agree(own.public) for other in others[:count]]
        assert own.agree_each(chosen) == expected
    low = X25519PublicKey.from_public_bytes(bytes(32))
    unchecked = seal.PublicKey(seal.X25519, bytes(32), low, low, None)
    with pytest.raises(DecodeError, match="a public key is of low order") as caught:
        own.agree_each([*chosen, unchecked])
    assert caught.value.__cause__ is None


# --- the arithmetic, with limbs as large as they may be -------------------------------------

LANES, LIMBS, ELEMENT = 8, 5, 40
MOST = 2**51 + 2**14 - 1


@numba.njit
def times(values: Any, out: int, one: int, other: int) -> None:
    kernel._times(values, out, one, other)


@numba.njit
def square(values: Any, at: int) -> None:
    kernel._square(values, at)


@numba.njit
def step(values: Any, swap: Any) -> None:
    kernel._step(values, swap)


def elements(seed: int, count: int) -> np.ndarray:
    """(count, LIMBS, LANES), reduced: many limbs, and a whole lane, the largest; one of zeros."""
    rng = np.random.default_rng(seed)
    limbs = rng.integers(0, MOST, (count, LIMBS, LANES), endpoint=True, dtype=np.uint64)
    limbs = np.where(rng.integers(0, 3, limbs.shape) == 0, np.uint64(MOST), limbs)
    limbs[:, :, 0], limbs[:, :, 1] = MOST, 0
    return limbs


def numbers(element: np.ndarray) -> list[int]:
    """What it stands for in each lane."""
    assert (element <= MOST).all()  # still reduced
    columns = element.reshape(LIMBS, LANES).T.tolist()
    return [sum(limb << 51 * at for at, limb in enumerate(column)) % P255 for column in columns]


@fused
@pytest.mark.parametrize("seed", range(20))
def test_products_and_squares(seed: int) -> None:
    a, b = elements(seed, 2)
    values = np.concatenate([a, b, np.zeros_like(a)]).ravel()
    times(values, 2 * ELEMENT, 0, ELEMENT)
    square(values, 0)
    squares, product = numbers(values[:ELEMENT]), numbers(values[2 * ELEMENT :])
    assert product == [x * y % P255 for x, y in zip(numbers(a), numbers(b), strict=True)]
    assert squares == [x * x % P255 for x in numbers(a)]


@fused
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("swap", [0, 1])
def test_a_step_is_that_of_rfc_7748(seed: int, swap: int) -> None:
    x1, *both = elements(seed, 5)
    values = np.concatenate([x1, *both, *np.zeros((2, LIMBS, LANES), np.uint64)]).ravel()
    step(values, np.uint64(swap))
    found = [numbers(values[at * ELEMENT : (at + 1) * ELEMENT]) for at in range(5)]
    assert found[0] == numbers(x1)
    points = [*map(numbers, both)]
    points = points[2:] + points[:2] if swap else points
    for lane, (u, x2, z2, x3, z3) in enumerate(zip(numbers(x1), *points, strict=True)):
        da, cb = (x3 - z3) * (x2 + z2), (x3 + z3) * (x2 - z2)
        aa, bb = (x2 + z2) ** 2, (x2 - z2) ** 2
        e = aa - bb
        expected = [aa * bb, e * (aa + 121665 * e), (da + cb) ** 2, u * (da - cb) ** 2]
        assert [each[lane] for each in found[1:]] == [each % P255 for each in expected]


@fused
def test_inverses() -> None:
    (a,) = elements(1, 1)
    values = np.concatenate([a, *np.zeros((6, LIMBS, LANES), np.uint64)]).ravel()
    kernel._invert(values, 0)
    assert numbers(values[:ELEMENT]) == [pow(x, P255 - 2, P255) for x in numbers(a)]


@fused
def test_the_least_number_is_written() -> None:
    """Of reduced elements at, around and far above p."""
    wanted = [0, 1, P255 - 1, P255, P255 + 1, P255 + 18, 2**255 - 1]
    limbs = [[number >> 51 * at & 2**51 - 1 for at in range(LIMBS)] for number in wanted]
    limbs.append([MOST] * LIMBS)
    out = np.empty((LANES, 4), "<u8")
    values = np.array(limbs, np.uint64).T.ravel()
    for lane in range(LANES):
        kernel._encode(values, lane, out, lane)
    found = [int.from_bytes(row.tobytes(), "little") for row in out]
    assert found == numbers(values)
