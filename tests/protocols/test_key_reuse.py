"""A client that starts again, and a server that shows it another cohort each time."""

from collections import defaultdict
from hashlib import shake_256
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from protocols import masking
from protocols.base import SERVER, Join, Received, Session
from protocols.masking import MaskingParameters, keys
from protocols.masking.messages import Cohort, Keys
from secagg import seal
from secagg.codec import encode
from secagg.graph import neighbours_of
from secagg.merkle import proof, root
from secagg.rng import SeededSource
from secagg.seal import KeyPair, SystemSealer

RESTARTS = 40
SPARSE = masking.sparse(200, 4, 16, corrupt=0.02, dropout=0.1)
COMPLETE = masking.configure(8, 4, 16)


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, set[bytes]]:
    """What was sealed under each AEAD key from now on."""
    under: dict[bytes, set[bytes]] = defaultdict(set)

    class Watched:
        def __init__(self, key: bytes) -> None:
            self._key, self._real = key, aesgcm(key)

        def encrypt(self, nonce: bytes, plaintext: bytes, data: None) -> bytes:
            assert nonce == bytes(12)
            under[self._key].add(plaintext)
            return self._real.encrypt(nonce, plaintext, data)

    aesgcm = seal.AESGCM
    monkeypatch.setattr(seal, "AESGCM", Watched)
    return under


@pytest.mark.parametrize("suite", seal.SUITES)
@pytest.mark.parametrize("graph", [COMPLETE, SPARSE], ids=["complete", "k-regular"])
def test_no_key_seals_two_plaintexts_whatever_cohort_is_shown(
    sealed: dict[bytes, set[bytes]], graph: MaskingParameters, suite: str
) -> None:
    """Before its claim is kept a client may share its keys any number of times."""
    session = Session("masking", replace(graph, suite=suite), bytes(32), bytes(32))
    first = masking.new_client(session, 1, SeededSource(b"x"), SystemSealer())
    first.handle(Join())
    kept, own, rng = first.snapshot(), first.state.advert, Random(1)  # noqa: S311 - what is shown
    messages = 0
    for _ in range(RESTARTS):
        again = masking.new_client(session, 1, SeededSource(b"y"), SystemSealer())
        again.restore(kept)
        again.handle(Received(SERVER, encode(_cohort(session, own, rng))))
        messages += len(again.state.neighbours)
    assert {len(plaintexts) for plaintexts in sealed.values()} == {1}
    alike = len(sealed) < messages
    assert alike == (suite == "X25519")  # the attack is real: without a KEM keys do come again


def _cohort(session: Session, own: Keys, rng: Random) -> Cohort:
    """Other neighbours and other keys of theirs; on a k-regular graph all under one root."""
    parameters: Any = session.parameters
    n, seed = parameters.clients, bytes([rng.randrange(2)]) * 32
    near = [v + 1 for v in neighbours_of(0, n, parameters.degree, seed).tolist()]
    shown = [v for v in near if v != rng.choice(near)]
    others = {v: _advert(session, v, rng.randrange(2)) for v in shown}
    everyone = others if parameters.complete else {v: own for v in range(2, n + 1)}
    leaves = [keys.leaf(each) for each in (own, *everyone.values())]
    fields = session.context, len(leaves), seed, root(leaves), 0, tuple(proof(leaves, 0))
    return Cohort(*fields, tuple(others.values()))


def _advert(session: Session, v: int, which: int) -> Keys:
    return Keys(v, bytes(32), _pair(session, v, which).public.raw, b"")


def _pair(session: Session, v: int, which: int) -> KeyPair:
    named = seal.suite(session.parameters.suite)  # type: ignore[attr-defined]
    return named.key_pair(shake_256(bytes([v, which])).digest(named.seed_bytes))
