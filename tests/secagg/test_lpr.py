"""Public-key encryption: transforms against the definition, kernels against Python's integers,
and both against products of polynomials by one multiplication.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import lpr, ntt, prg
from secagg.errors import LocalError, ParameterError
from secagg.ntt import is_prime as is_small_prime
from tests.secagg.test_ntt import product

P60, P49, P61 = 1152921504606830593, 562949953216513, 2305843009211662337
"""1 mod 2^13: the largest of 60 and of 49 bits; 1 mod 2^15: the largest of 61."""
RING = lpr.Ring(1024, P60, P49)
KERNELS = pytest.mark.skipif(lpr._compiled() is None, reason="no compiled kernels here")
COINS = prg.StreamKey(bytes(range(16)), bytes(12))


@pytest.fixture
def without_kernels(monkeypatch):
    monkeypatch.setattr(lpr, "_compiled", lambda: None)


def residues(prime: int, degree: int, rows: int, seed: int = 0) -> np.ndarray:
    """Uniform ones, and two extremes."""
    drawn = np.random.default_rng(seed).integers(0, prime, (rows, degree), np.uint64)
    return np.concatenate([drawn, np.full((1, degree), prime - 1, np.uint64), drawn[:1] * 0])


def public_key(seed: int = 0) -> tuple[lpr.PublicKey, np.ndarray]:
    """A key of uniform polynomials, and them: (2, 2, N), coefficients by polynomial and prime."""
    plain = np.stack(
        [residues(prime, RING.degree, 2, seed)[:2] for prime in (RING.prime, RING.special)], axis=1
    )
    transformed = np.stack(
        [over.forward(plain[:, at]) for at, over in enumerate(RING.transforms)], axis=1
    )
    return lpr.PublicKey(RING, transformed), plain


@pytest.mark.parametrize("prime", [P60, P49])
def test_a_transform_is_the_polynomial_at_odd_powers_of_the_least_root(prime: int) -> None:
    assert pow(2, prime - 1, prime) == 1
    over = lpr.transform(1024, prime)
    (poly,) = residues(prime, 1024, 1)[:1].tolist()
    psi = int(over.powers[0][ntt.reversed_bits(1024)][1])
    roots = {pow(psi, odd, prime) for odd in range(1, 2048, 2)}
    assert psi == min(roots)
    assert all(pow(root, 1024, prime) == prime - 1 for root in roots)
    got = over.forward(np.array(poly, np.uint64)).tolist()
    for place in (0, 1, 2, 511, 1023):
        exponent = 2 * int(f"{place:010b}"[::-1], 2) + 1
        at = pow(psi, exponent, prime)
        assert got[place] == sum(c * pow(at, i, prime) for i, c in enumerate(poly)) % prime


@KERNELS
@pytest.mark.parametrize("degree", lpr.DEGREES)
@pytest.mark.parametrize("prime", [65537, P61])
def test_kernels_do_what_pythons_integers_do_and_undo_it(degree: int, prime: int) -> None:
    over = lpr.transform(degree, prime)
    rows = residues(prime, degree, 1)
    there = over.forward(rows)
    assert (there == over.forward_reference(rows)).all()
    assert (over.inverse(there) == rows).all()
    assert (over.inverse_reference(there) == rows).all()
    assert int(there.max()) < prime


def test_values_multiply_like_polynomials() -> None:
    over = lpr.transform(1024, 12289)
    one, other = residues(12289, 1024, 2)[:2]
    values = over.forward(one) * over.forward(other) % np.uint64(12289)
    assert over.inverse(values).tolist() == product(one, other, 12289)
    assert is_small_prime(12289)


def test_without_kernels_the_answer_is_the_same(without_kernels) -> None:
    over = lpr.transform(1024, P60)
    rows = residues(P60, 1024, 1)
    assert (over.inverse(over.forward(rows)) == rows).all()
    messages = residues(P60, 1024, 1)[:1]
    key, _ = public_key()
    slow = lpr.encrypt(key, messages, COINS, flat=True)
    assert (slow == encrypted_by_definition(messages, 0, flat=True)).all()
    small = rows % np.uint64(12289)
    exact = [(P60 * v + 12290 // 2) // 12289 for v in small.ravel().tolist()]
    assert lpr.scale_up(small, P60, 12289).ravel().tolist() == exact


def encrypted_by_definition(messages: np.ndarray, first: int, *, flat: bool) -> np.ndarray:
    """(b u + e0, a u + e1) in Z_(qp), by integers (Kronecker); divided by p; m added."""
    _, plain = public_key()
    q, p, n = RING.prime, RING.special, RING.degree
    out = []
    for row, message in enumerate(messages.tolist()):
        words = prg.stream(COINS, 3 * n, np.uint64, start=(first + row) * 3 * n).tolist()
        u = [w * 3 >> 64 for w in words[:n]]
        for part in (0, 1):
            drawn = words[(part + 1) * n :][:n]
            error = [(w % 2**21).bit_count() - (w >> 21 & 2**21 - 1).bit_count() for w in drawn]
            key = [
                (int(large) * p * pow(p, -1, q) + int(small) * q * pow(q, -1, p)) % (q * p)
                for large, small in zip(*plain[part], strict=True)
            ]
            made = wide_product(key, [c - 1 for c in u], q * p)
            added = message if part == 0 else [0] * n
            done = [
                ((c + e) % (q * p) * 2 + p) // (2 * p) + m
                for c, e, m in zip(made, error, added, strict=True)
            ]
            out.append([c % q for c in done])
    made = np.array(out, np.uint64).reshape(len(messages), 2, n)
    return made if flat else RING.transforms[0].forward_reference(made)


def wide_product(one: list[int], short: list[int], modulus: int) -> list[int]:
    """Modulo X^N + 1: the second factor is -1, 0 and 1, taken apart by sign."""
    total = np.zeros(len(one), object)
    for sign in (1, -1):
        chosen = [int(c == sign) for c in short]
        slot = 24
        a, b = (
            int.from_bytes(b"".join(c.to_bytes(slot, "little") for c in poly), "little")
            for poly in (one, chosen)
        )
        raw = (a * b).to_bytes(2 * len(one) * slot, "little")
        whole = [int.from_bytes(raw[at : at + slot], "little") for at in range(0, len(raw), slot)]
        n = len(one)
        total += sign * np.array([whole[i] - whole[i + n] for i in range(n)], object)
    return [int(c) % modulus for c in total]


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("first", [0, 5])
def test_encryption_is_what_its_definition_says(flat: bool, first: int) -> None:
    key, _ = public_key()
    messages = residues(P60, 1024, 2)
    got = lpr.encrypt(key, messages, COINS, first=first, flat=flat)
    assert (got == encrypted_by_definition(messages, first, flat=flat)).all()


@KERNELS
@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_the_kernel_agrees_with_integers_whatever_it_draws(flat: bool, seed: int) -> None:
    key, _ = public_key(seed)
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**64, 3 * 1024, np.uint64)
    if seed < 2:  # nothing drawn, and all bits set
        words[:] = seed * np.uint64(2**64 - 1)
    message = residues(P60, 1024, 1, seed)[0]
    made = np.empty((2, 2, 1024), np.uint64)
    lpr._with_kernel(key, flat)(words, message, made[0])
    lpr._with_integers(key, flat)(words, message, made[1])
    assert (made[0] == made[1]).all()


def test_a_ciphertext_depends_on_its_number_and_not_on_its_neighbours() -> None:
    key, _ = public_key()
    messages = residues(P60, 1024, 7)
    together = lpr.encrypt(key, messages, COINS, first=3, flat=False)
    for at in (0, 4, 8):
        (alone,) = lpr.encrypt(key, messages[at : at + 1], COINS, first=3 + at, flat=False)
        assert (alone == together[at]).all()
    assert len({each.tobytes() for each in together}) == len(messages)
    assert lpr.encrypt(key, messages[:0], COINS, flat=True).shape == (0, 2, 1024)


def test_what_is_drawn_has_the_distributions_that_are_named() -> None:
    words = prg.stream(COINS, 3 * 2**16, np.uint64)
    u, e0, e1 = (np.array(each, float) for each in lpr.short_polynomials(words))
    counts = [np.count_nonzero(u == value) for value in (-1, 0, 1)]
    assert sum(counts) == u.size
    assert all(abs(count - u.size / 3) < 5 * np.sqrt(u.size * 2 / 9) for count in counts)
    for error in (e0, e1):
        assert abs(error.mean()) < 5 * np.sqrt(10.5 / error.size)
        assert abs(error.var() - 10.5) < 0.4
        assert np.abs(error).max() <= 21
    assert abs(np.corrcoef(e0, e1)[0, 1]) < 0.02
    top = np.array([2**64 - 1, 0, 2**21 - 1, 2**42 - 2**21, 0, 0], np.uint64)
    assert [each.tolist() for each in lpr.short_polynomials(top)] == [[1, -1], [21, -21], [0, 0]]


@given(
    st.one_of(st.integers(1, 2**40), st.integers(2**40, 2**59)).map(lambda n: 2 * n + 1),
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20),
    st.sampled_from([P60, P49 * 2**11 - 1]),
)
def test_scaling_up_rounds_as_seal_does(modulus: int, drawn: list[int], prime: int) -> None:
    values = [v % modulus for v in drawn] + [0, modulus - 1, modulus // 2, modulus // 2 + 1]
    got = lpr.scale_up(np.array(values, np.uint64), prime, modulus).tolist()
    assert got == [(prime * v + (modulus + 1) // 2) // modulus for v in values]


def test_what_is_no_ring_no_key_and_no_message_is_refused() -> None:
    key, _ = public_key()
    good = residues(P60, 1024, 1)
    for degree, prime in ((100, P60), (1024, P60 + 2), (1024, 2**61 + 1)):
        with pytest.raises(ParameterError):
            lpr.transform(degree, prime)
    for special in (P60, P49 + P60, 41):
        with pytest.raises(ParameterError, match="the smaller one"):
            lpr.Ring(1024, P60, special)
    for wrong in (key.residues[:1], key.residues.astype(np.int64), key.residues[..., :10]):
        with pytest.raises(LocalError, match="a public key is"):
            lpr.PublicKey(RING, wrong)
    beyond = key.residues.copy()
    beyond[1, 1, 7] = RING.special
    with pytest.raises(LocalError, match="not below its prime"):
        lpr.PublicKey(RING, beyond)
    for wrong in (good.astype(np.uint32), good[:, :-1], good + np.uint64(1)):
        with pytest.raises(LocalError):
            lpr.encrypt(key, wrong, COINS, flat=True)
    with pytest.raises(LocalError, match="rows of residues"):
        lpr.encrypt(key, good[0], COINS, flat=True)
    with pytest.raises(LocalError, match="at least 0"):
        lpr.encrypt(key, good, COINS, first=-1, flat=True)
    with pytest.raises(LocalError):  # beyond the end of the stream
        lpr.encrypt(key, good, COINS, first=2**36, flat=True)
    assert "1024" in repr(key)
    assert str(int(key.residues[0, 0, 0])) not in repr(key)
