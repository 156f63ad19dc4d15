"""Ring sets and plans: what fits is exact, what does not is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import gaussian, ringset
from secagg.errors import ParameterError
from secagg.ringset import SETS, Plan

BOUND = gaussian.BOUND


@pytest.mark.parametrize("ring", SETS.values(), ids=SETS)
def test_a_modulus_is_within_the_standards_bound(ring: ringset.RingSet) -> None:
    bounds = {4096: 101, 8192: 202}  # Homomorphic Encryption Standard 2018, post-quantum, 128 bits
    assert ring.modulus.bit_length() <= ring.most_bits == bounds[ring.degree]
    assert ring.modulus.bit_length() == ring.bits == 30 * ring.count
    assert len(set(ring.primes)) == ring.count
    assert all(prime % (2 * ring.degree) == 1 for prime in ring.primes)


@given(
    st.sampled_from(sorted(SETS)),
    st.integers(1, 10**6),
    st.integers(1, 2**64 - 1),
    st.integers(1, 10**5),
)
def test_what_fits_is_exact_and_one_more_would_not_be(
    name: str, clients: int, largest: int, length: int
) -> None:
    ring = SETS[name]
    noise = clients * BOUND
    delta, radix = 2 * noise + 1, (clients * largest).bit_length()

    def fits(fields: int) -> bool:
        top = sum(clients * largest << radix * j for j in range(fields))
        return delta * top + 2 * noise < ring.modulus

    if not fits(1):
        with pytest.raises(ParameterError, match="do not fit ring set"):
            Plan(ring, clients, length, largest)
        return
    plan = Plan(ring, clients, length, largest)
    assert fits(plan.fields)
    assert not fits(plan.fields + 1)
    assert (plan.delta, plan.radix) == (delta, radix)
    assert plan.carriers * plan.fields >= length > (plan.carriers - 1) * plan.fields
    assert plan.coefficients % 16 == 0
    assert 0 < plan.coefficients - plan.carriers <= 16
    widths = [plan.width(chunk) for chunk in range(plan.chunks)]
    assert sum(widths) == plan.coefficients
    assert all(width == ring.degree for width in widths[:-1])
    assert 8 * plan.ciphertext_bytes == plan.coefficients * ring.bits
    assert plan.bytes_of(range(plan.chunks)) == plan.ciphertext_bytes
    assert 2 ** (plan.key_bits - 1) <= 2 * noise < 2**plan.key_bits
    assert plan.spare_bits >= 0


FIELDS = {  # set, clients -> fields for sums of 16, 20, 24, 28 and 32 bits
    ("A", 10): (4, 3, 3, 2, 2),
    ("A", 1000): (4, 3, 3, 2, 2),
    ("B", 10): (10, 8, 7, 6, 5),
    ("B", 1000): (10, 8, 6, 5, 5),
    ("B", 10**6): (9, 7, 6, 5, 4),
}


@pytest.mark.parametrize(("name", "clients"), FIELDS)
def test_fields_of_the_documented_table(name: str, clients: int) -> None:
    fields = FIELDS[name, clients]
    for bits, expected in zip((16, 20, 24, 28, 32), fields, strict=True):
        if clients <= 2**bits - 1:
            assert Plan(SETS[name], clients, 1, (2**bits - 1) // clients).fields == expected


@pytest.mark.parametrize("clients", [2, 10, 100, 1000])
def test_sums_of_32_bits_take_at_most_6_bytes_a_value(clients: int) -> None:
    plan = ringset.choose(clients, 10**6, (2**32 - 1) // clients)
    short_key = plan.ring.degree * plan.key_bits / 8
    assert (plan.ciphertext_bytes + short_key) / 10**6 < 4.6


def test_the_set_is_the_one_with_fewer_bytes() -> None:
    for length in (1, 10**3, 10**4, 10**5, 10**6):
        chosen = ringset.choose(100, length, 2**16)
        totals = {
            name: Plan(ring, 100, length, 2**16).ciphertext_bytes
            + ring.degree * chosen.key_bits // 8
            for name, ring in SETS.items()
        }
        assert totals[chosen.ring.name] == min(totals.values())
    assert ringset.choose(100, 1, 2**16).ring.name == "A"
    assert ringset.choose(100, 10**6, 2**16).ring.name == "B"
    assert ringset.named("A", 100, 10**6, 2**16).ring.name == "A"


@pytest.mark.parametrize(
    ("clients", "length", "largest", "why"),
    [
        (0, 1, 1, "needs clients"),
        (1, 0, 1, "needs clients"),
        (1, 1, 0, "needs clients"),
        (2**32, 1, 1, "too many"),
        (10**6, 1, 2**64 - 1, "do not fit ring set A"),
    ],
)
def test_bad_plans_are_refused(clients: int, length: int, largest: int, why: str) -> None:
    with pytest.raises(ParameterError, match=why):
        Plan(SETS["A"], clients, length, largest)


def test_an_unknown_set_is_refused_with_what_exists() -> None:
    with pytest.raises(ParameterError, match="choose one of A, B"):
        ringset.named("C", 2, 1, 1)
    with pytest.raises(ParameterError, match="do not fit ring set"):
        ringset.choose(10**7, 1, 2**150)
