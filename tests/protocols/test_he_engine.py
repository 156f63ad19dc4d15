"""What clients encrypt on their own is what SEAL would: it decrypts, adds and looks the same."""

import numpy as np
import pytest
import tenseal

from protocols import bfv, ckks
from protocols.ckks import embedding
from protocols.he import wire
from protocols.he.engine import dump
from protocols.he.packing import powers_of_three
from secagg.errors import DecodeError
from tests.protocols.recalling import coins

BOTH = pytest.mark.parametrize("folder", [ckks, bfv], ids=["ckks", "bfv"])
LEVELS = pytest.mark.parametrize("security", [128, 256])


def engine_and_slots(folder, security: int, rows: int = 3):
    engine = folder.engine_of(folder.configure(4, 20_000, 24, security=security))
    packing = engine.parameters.packing
    slots = np.random.default_rng(security).integers(
        0, packing.largest, (rows, packing.slots), np.uint64, endpoint=True
    )
    slots[0, :2] = 0, packing.largest
    return engine, slots


@BOTH
@LEVELS
def test_seal_opens_what_was_encrypted_here_and_sums_of_it(folder, security: int) -> None:
    engine, slots = engine_and_slots(folder, security)
    keys = engine.new_keys()
    one = engine.encrypt(keys.public, slots, coins())
    other = engine.encrypt(keys.public, slots[::-1], coins())
    engine.check(one, len(slots))
    assert (engine.decrypt(keys.secret, one, 1) == slots).all()
    total = engine.add(one, other)
    assert (engine.decrypt(keys.secret, total, 2) == slots + slots[::-1]).all()


@BOTH
def test_the_same_coins_give_the_same_bytes_and_others_do_not(folder) -> None:
    engine, slots = engine_and_slots(folder, 128)
    keys, drawn = engine.new_keys(), coins()
    whole = engine.encrypt(keys.public, slots, drawn)
    assert engine.encrypt(keys.public, slots, drawn) == whole
    assert engine.encrypt(keys.public, slots[1:], drawn, 1) == whole[1:]
    assert not set(engine.encrypt(keys.public, slots, coins())) & set(whole)
    assert not set(engine.encrypt(engine.new_keys().public, slots, drawn)) & set(whole)


def test_its_noise_is_that_of_seals_own_ciphertexts() -> None:
    engine, slots = engine_and_slots(ckks, 128, rows=8)
    keys, seen = engine.new_keys(), []
    reals = slots.astype(float) - engine._centre
    context = engine._with_keys(public=keys.public)
    theirs = [tenseal.ckks_vector(context, row.tolist(), scale=engine._scale) for row in reals]
    for sent in (
        engine.encrypt(keys.public, slots, coins()),
        tuple(dump(each)[0] for each in theirs),
    ):
        total = engine._load(engine._with_keys(secret=keys.secret), sent)
        raw = np.array(total.decrypt().raw).reshape(engine.parameters.slots, len(sent)).T
        seen.append(np.std(raw - reals) * engine._scale)
    assert 0.9 < seen[0] / seen[1] < 1.1


@BOTH
@LEVELS
def test_objects_are_byte_for_byte_as_seal_writes_them(folder, security: int) -> None:
    engine, _ = engine_and_slots(folder, security)
    (theirs,) = dump(engine.zeros(engine.context()))
    form = wire.Form.of(theirs)
    body = 2 * 8 * engine.ring.degree
    if form.size <= 2**17:  # one block: what follows its three bytes is all that is in it
        contents = theirs[-form.size :]
        assert form.wrap(contents) == theirs
        assert wire.opening_of(theirs, form.size - body) == contents[: form.size - body]
    made = form.wrap(bytes(form.size))
    form.check(made)
    assert len(made) >= form.size
    assert engine._forms.opening == wire.opening_of(theirs, form.size - body)


def test_a_library_that_compresses_ciphertexts_is_refused() -> None:
    engine, _ = engine_and_slots(ckks, 128)
    (theirs,) = dump(engine.zeros(engine.context()))
    at = wire._first_block(theirs)
    compressed = theirs[:at] + bytes([theirs[at] | 4]) + theirs[at + 1 :]
    with pytest.raises(DecodeError, match="compresses what does not"):
        wire.opening_of(compressed, 97)


@BOTH
def test_the_primes_are_those_that_seal_chose(folder) -> None:
    engine, _ = engine_and_slots(folder, 128)
    context = engine.context()
    key = context.data.public_key()
    words = key.data()
    for at, prime in enumerate((engine.ring.prime, engine.ring.special)):
        row = [words[at * engine.ring.degree + i] for i in range(engine.ring.degree)]
        assert 0.99 * prime < max(row) < prime


@pytest.mark.parametrize("degree", [4096, 8192])
def test_the_embedding_is_the_definition(degree: int) -> None:
    half = degree // 2
    slots = np.random.default_rng(degree).uniform(-(2**30), 2**30, (2, half))
    coefficients = embedding.inverse(slots)
    exponents = powers_of_three(degree)
    assert exponents[:3].tolist() == [1, 3, 9]
    assert len(set(exponents.tolist())) == half
    for slot in (0, 1, 5, half - 1):
        turns = np.exp(1j * np.pi / degree * (exponents[slot] * np.arange(degree) % (2 * degree)))
        values = (coefficients * turns).sum(axis=1)
        assert np.allclose(values.real, slots[:, slot], atol=1e-3)
        assert np.allclose(values.imag, 0, atol=1e-3)
