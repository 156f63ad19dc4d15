"""How `ckks` and `bfv` choose their parameters, pack, and bound their noise."""

from dataclasses import dataclass
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocols import bfv, ckks
from protocols.ckks.parameters import ROOM, centre
from protocols.he.noise import coefficient_noise, slot_noise, transform_error
from protocols.he.packing import Packing
from protocols.he.parameters import MOST_BITS_OF_PRIMES, PRIME_BITS, degree_of
from protocols.he.primes import is_prime, prime_above, prime_below
from secagg.errors import DecodeError, LocalError, ParameterError
from secagg.rng import SystemSource
from secagg.seal import SystemSealer
from tests.protocols.recalling import coins
from tests.protocols.support import examples, random_values, session_of, top_values

BOTH = pytest.mark.parametrize("folder", [ckks, bfv], ids=lambda m: m.__name__[10:])
CLIENTS = (2, 10, 100, 1000, 10**6)


@BOTH
@pytest.mark.parametrize("clients", CLIENTS)
@pytest.mark.parametrize("bits", [1, 16, 20, 32, 64])
def test_every_number_of_clients_and_bits_has_parameters_that_hold_its_sums(
    folder, clients: int, bits: int
) -> None:
    chosen = folder.configure(clients, 10**6, bits)
    packing = chosen.packing
    assert packing.limbs * packing.limb >= bits
    assert clients * (2**packing.limb - 1) < 2**packing.radix
    assert packing.fields * packing.radix < PRIME_BITS[0]
    assert chosen.pieces[-1].stop == 10**6
    counted = sum(chosen.ciphertexts(i) for i in range(len(chosen.pieces)))
    assert counted == packing.ciphertexts(10**6)


def test_the_usual_case_costs_32_bytes_in_ckks_and_16_in_bfv() -> None:
    for folder, most in ((ckks, 32.1), (bfv, 16.1)):
        chosen = folder.configure(10, 10**6, 32)
        coefficients = 2 * chosen.degree * chosen.packing.ciphertexts(10**6)
        assert coefficients * 8 / 10**6 < most


@BOTH
def test_parameters_that_do_not_hold_are_refused(folder) -> None:
    good = folder.configure(10, 1000, 32)
    for change in (
        {"limb": 0},
        {"limb": 33},
        {"fields": 0},
        {"fields": 2},
        {"chunk": 0},
        {"security": 100},
        {"suite": "RSA"},
    ):
        with pytest.raises(ParameterError, match=r"^[^\n]+$"):
            replace(good, **change).check()
    with pytest.raises(ParameterError, match="take fewer clients"):
        folder.configure(2**50, 10, 32)


@BOTH
def test_more_clients_than_a_parameter_set_holds_are_refused(folder) -> None:
    good = folder.configure(10, 1000, 32)
    most = max(n for n in range(10, 5000) if _holds(replace(good, clients=n)))
    assert most < 4999, "the sums of many more clients would fit"
    for clients in (most + 1, 10**5, 10**6):
        with pytest.raises(ParameterError, match="does not hold these sums"):
            replace(good, clients=clients).check()


def _holds(parameters) -> bool:
    try:
        parameters.check()
    except ParameterError:
        return False
    return True


def test_a_scale_that_does_not_hold_the_sum_or_drowns_in_noise_is_refused() -> None:
    good = ckks.configure(10, 1000, 32)
    for scale_bits in (good.scale_bits + 1, good.scale_bits - 8, 0, 200):
        with pytest.raises(ParameterError, match="does not hold"):
            replace(good, scale_bits=scale_bits).check()
    for grid_bits in (-1, 32, 40):
        with pytest.raises(ParameterError):
            ckks.configure(10, 1000, 32, grid_bits=grid_bits)


def test_a_plaintext_modulus_that_is_too_small_too_large_or_no_prime_is_refused() -> None:
    good = bfv.configure(10, 1000, 32)
    t, step = good.plain_modulus, 2 * good.degree
    for wrong in (prime_below(t // 2, good.degree), prime_above(2**55, good.degree)):
        with pytest.raises(ParameterError, match="does not hold"):
            replace(good, plain_modulus=wrong).check()
    composite = next(n for n in range(t + step, t + 100 * step, step) if not is_prime(n))
    for wrong in (composite, t + 2, 0, 2**61):
        with pytest.raises(ParameterError, match="a prime that is 1 modulo"):
            replace(good, plain_modulus=wrong).check()


def test_degrees_follow_the_standards_table() -> None:
    assert [degree_of(bits) for bits in (128, 192, 256)] == [4096, 8192, 8192]
    for security, table in MOST_BITS_OF_PRIMES.items():
        assert table[degree_of(security)] >= sum(PRIME_BITS)


def test_primes_are_prime_and_the_nearest() -> None:
    small = [n for n in range(2, 2000) if all(n % d for d in range(2, n))]
    assert [n for n in range(2, 2000) if is_prime(n)] == small
    for carmichael in (561, 41041, 825265, 321197185, 3215031751, 3825123056546413051):
        assert not is_prime(carmichael)
    assert is_prime(2**61 - 1)
    assert prime_below(12289 + 1, 1024) == prime_above(12288, 1024) == 12289
    assert prime_below(2**60, 4096) % 8192 == 1
    for wrong in (0, 1, 2**64):
        with pytest.raises(ParameterError):
            is_prime(wrong)
    with pytest.raises(ParameterError, match="no prime below"):
        prime_below(100, 4096)


@given(data=st.data())
@examples(0.5)
def test_sums_of_packed_slots_come_apart_exactly(data) -> None:
    bits = data.draw(st.integers(1, 64))
    limb = data.draw(st.integers(max(1, bits // 6), min(bits, 30)))
    clients = data.draw(st.integers(1, 40))
    radix = (clients * (2**limb - 1)).bit_length()
    fields = data.draw(st.integers(1, 62 // radix))
    packing = Packing(bits, limb, fields, clients, slots=4)
    length = data.draw(st.integers(1, 40))
    kind = data.draw(st.sampled_from([random_values, top_values]))
    vectors = [kind(u, length, bits) for u in range(clients)]
    slots = [packing.spread(v) for v in vectors]
    assert all(int(s.max()) <= packing.largest for s in slots)
    assert slots[0].shape == (packing.ciphertexts(length), 4)
    total = packing.collect(np.sum(slots, axis=0, dtype=np.uint64), length)
    exact = [sum(column) % 2**bits for column in zip(*(v.tolist() for v in vectors), strict=True)]
    assert total.tolist() == exact


@dataclass
class Opened:
    """Slots of a sum of fresh ciphertexts, before they are rounded."""

    errors: np.ndarray
    bound: float


def opened_sum(parameters, clients: int, rows: int) -> Opened:
    """The real engine with its rounding taken off."""
    engine = ckks.engine_of(parameters)
    keys, rng = engine.new_keys(), np.random.default_rng(1)
    packing = parameters.packing
    total, exact = None, np.zeros((rows, packing.slots), np.int64)
    for _ in range(clients):
        slots = rng.integers(0, packing.largest, (rows, packing.slots), np.uint64, endpoint=True)
        exact += slots.astype(np.int64) - centre(packing)
        sent = engine.encrypt(keys.public, slots, coins())
        total = sent if total is None else engine.add(total, sent)
    raw: list[np.ndarray] = []
    engine.opened = lambda plain, _clients: raw.append(plain) or np.zeros(1, np.uint64)
    try:
        engine.decrypt(keys.secret, total, clients)
    finally:
        del engine.opened
    return Opened(raw[0] - exact, parameters.slot_error)


@pytest.mark.parametrize(("clients", "bits"), [(2, 32), (8, 32), (8, 16), (6, 20)])
def test_the_measured_noise_of_ckks_is_below_its_bound_and_not_far_below(clients, bits) -> None:
    parameters = ckks.configure(clients, 4 * 2048, bits)
    seen = opened_sum(parameters, clients, rows=4)
    worst = np.abs(seen.errors).max()
    assert worst < seen.bound < ROOM
    assert worst > seen.bound / 200


def test_the_bounds_grow_with_what_they_depend_on() -> None:
    for bound in (coefficient_noise, slot_noise):
        assert bound(2, 4096, 10**4) < bound(20, 4096, 10**4) < bound(20, 4096, 10**7)
        assert bound(2, 4096, 10**4) < bound(2, 8192, 10**4)
    assert transform_error(4096, 2.0**35) < 2.0**-4
    assert transform_error(4096, 2.0**36) == 2 * transform_error(4096, 2.0**35)


def test_the_tail_bound_holds_for_an_exact_distribution() -> None:
    """Sums of n signs / 2 (variance 1/4, three times that of the uniform): the bound used for
    uniform variables, scaled, is above the exact binomial tail.
    """
    n = 200
    for x in (15, 25, 40):
        exact = 2 * sum(comb(n, k) for k in range(n // 2 + x, n + 1)) / 2**n
        assert exact <= 2 * np.exp(-2 * x * x / n)


def test_a_grid_rounds_to_the_nearest_multiple_modulo_the_ring() -> None:
    parameters = ckks.configure(3, 8, 16, grid_bits=4)
    values = np.array([0, 7, 8, 9, 15, 23, 24, 2**16 - 1], np.uint64)
    alone = parameters.collect(parameters.spread(values), 8)
    assert alone.tolist() == [0, 0, 16, 16, 16, 16, 32, 0]
    assert parameters.error == 3 * 8
    assert ckks.configure(3, 8, 16).error == 0
    wide = ckks.configure(3, 2, 64, grid_bits=1)
    top = np.array([2**64 - 1, 2**63], np.uint64)
    assert wide.collect(wide.spread(top), 2).tolist() == [0, 2**63]


@BOTH
def test_what_is_no_sum_is_never_decoded(folder) -> None:
    engine = folder.engine_of(folder.configure(4, 10, 16))
    most = engine.parameters.packing.largest
    over = np.full((1, engine.parameters.slots), 3 * most + 1, np.int64)
    if folder is ckks:
        over = over - 3 * centre(engine.parameters.packing)
    with pytest.raises(DecodeError, match="no sum of so many clients"):
        engine.opened(over, 3)


def test_only_the_party_after_the_clients_is_the_key_holder() -> None:
    session = session_of(ckks.PROTOCOL, ckks.configure(3, 10, 16))
    for stranger in (0, 1, 3, 5):
        with pytest.raises(LocalError, match="the key holder is party 4"):
            ckks.PROTOCOL.helper(session, stranger, SystemSource(), SystemSealer())
