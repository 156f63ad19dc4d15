"""The random source: fresh from the system, or replayed from a seed."""

import ast
import hashlib
import inspect

import pytest

from secagg import rng
from secagg.rng import SEED_BYTES, SeededSource, SystemSource


def reference(seed: bytes, index: int) -> bytes:
    start = hashlib.sha256(b"secagg/seeded-source" + seed).digest()
    return hashlib.sha256(start + index.to_bytes(8, "big")).digest()


@pytest.mark.parametrize("source", [SystemSource(), SeededSource(b"")])
def test_seeds_have_32_bytes_and_differ(source: rng.RandomSource) -> None:
    drawn = [source.seed() for _ in range(100)]
    assert {len(seed) for seed in drawn} == {SEED_BYTES}
    assert len(set(drawn)) == len(drawn)


def test_system_sources_share_nothing() -> None:
    assert SystemSource().seed() != SystemSource().seed()


def test_system_source_asks_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(rng.secrets, "token_bytes", lambda n: asked.append(n) or bytes(n))
    assert SystemSource().seed() == bytes(32)
    assert asked == [32]


@pytest.mark.parametrize("seed", [b"", b"\0", b"seed", bytes(1000)])
def test_seeded_source_is_the_published_construction(seed: bytes) -> None:
    source = SeededSource(seed)
    assert [source.seed() for _ in range(5)] == [reference(seed, i) for i in range(1, 6)]


def test_known_answer() -> None:
    known = "917f12f7c1c3c9bdce10eca2ef39fc20816f960cad194e34f4730d4f5f3bb77b"
    assert SeededSource(b"known answer").seed().hex() == known


def test_seeded_source_replays_and_seeds_separate() -> None:
    first, again, other = SeededSource(b"a"), SeededSource(b"a"), SeededSource(b"b")
    streams = [[source.seed() for _ in range(10)] for source in (first, again, other)]
    assert streams[0] == streams[1]
    assert not set(streams[0]) & set(streams[2])


@pytest.mark.parametrize("bad", [5, "seed", None])
def test_seeded_source_takes_bytes_only(bad: object) -> None:
    with pytest.raises(TypeError):
        SeededSource(bad)  # type: ignore[arg-type]


def test_repr_shows_no_seed() -> None:
    source = SeededSource(b"very secret")
    shown = repr(source)
    assert "very secret" not in shown
    assert source.seed().hex() not in shown


def test_nothing_else_is_imported() -> None:
    """No generator of NumPy's or Python's, no clock."""
    tree = ast.parse(inspect.getsource(rng))
    plain = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    origins = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert (plain, origins) == ({"hashlib", "secrets"}, {"typing"})
