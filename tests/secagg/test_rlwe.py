"""Key-additive encryption: exact sums, exact bytes, and everything that is refused."""

from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import kdf, ntt, packing, prg, ringset, rlwe, rlwe_numpy
from secagg.errors import DecodeError, LocalError
from secagg.gaussian import BOUND
from secagg.ringset import SETS, Plan
from tests.protocols.support import examples

CONTEXT = bytes(range(32))
SMALL = Plan(SETS["A"], 10, 100, 2**16 - 1)
LONG = Plan(SETS["A"], 5, 2 * 4096 * 2 + 1, 2**28)
"""Two whole polynomials and a bit."""


def seed(number: int) -> bytes:
    return number.to_bytes(32, "big")


def values(plan: Plan, number: int) -> np.ndarray:
    generator = np.random.default_rng(number)
    return generator.integers(0, plan.largest, plan.length, np.uint64, endpoint=True)


def ciphertext(plan: Plan, number: int, vector: np.ndarray, context: bytes = CONTEXT) -> bytes:
    key = rlwe.draw_key(seed(number), context, plan)
    pieces = rlwe.encrypt(plan, seed(1000 + number), context, vector, key, plan.chunks)
    return b"".join(pieces)


def summed(plan: Plan, clients: range) -> tuple[rlwe.Residues, np.ndarray, list[int]]:
    """The sum of ciphertexts, of keys, and of vectors."""
    total, every = rlwe.zero_sum(plan), range(plan.chunks)
    keys = np.zeros(plan.ring.degree, np.int64)
    exact = np.zeros(plan.length, object)
    for number in clients:
        vector = values(plan, number)
        data = ciphertext(plan, number, vector)
        rlwe.check_piece(plan, every, data)
        rlwe.add_chunks(plan, total, every, data)
        keys += rlwe.draw_key(seed(number), CONTEXT, plan)
        exact += vector.astype(object)
    return total, keys, exact.tolist()


@given(st.data())
@examples(0.5)
def test_sums_are_exact(data) -> None:
    ring = data.draw(st.sampled_from(list(SETS.values())))
    clients = data.draw(st.integers(1, 4))
    cohort = data.draw(st.sampled_from([clients, 10, 1000, 10**6]))
    top = min(64, (ring.bits - 40 - 2 * cohort.bit_length()))
    largest = data.draw(st.integers(1, 2 ** data.draw(st.integers(1, top)) - 1))
    length = data.draw(st.sampled_from([1, 2, 15, 16, 17, 100, ring.degree, 2 * ring.degree + 5]))
    plan = Plan(ring, cohort, length, largest)
    total, keys, exact = summed(plan, range(clients))
    assert rlwe.is_sum(plan, total)
    opened = rlwe.open_sum(plan, total, CONTEXT, keys, clients)
    assert opened.tolist() == [value % 2**64 for value in exact]
    bits = data.draw(st.integers(1, 64))
    opened = rlwe.open_sum(plan, total, CONTEXT, keys, clients, bits)
    assert opened.tolist() == [value % 2**bits for value in exact]


@pytest.mark.parametrize("length", [4095, 4096, 4097, 8191, 8192])
def test_the_canary_moves_with_the_length(length: int) -> None:
    plan = Plan(SETS["A"], 3, length, 2**60)
    assert plan.fields == 1
    total, keys, exact = summed(plan, range(2))
    assert rlwe.open_sum(plan, total, CONTEXT, keys, 2).tolist() == [v % 2**64 for v in exact]


@pytest.mark.parametrize("plan", [SMALL, LONG, Plan(SETS["B"], 9, 50, 2**40)], ids=str)
def test_kernels_and_numpy_make_the_same_bytes(plan: Plan, monkeypatch) -> None:
    fast, (total, keys, _) = ciphertext(plan, 1, values(plan, 1)), summed(plan, range(3))
    opened = rlwe.open_sum(plan, total, CONTEXT, keys, 3).tolist()
    monkeypatch.setattr(rlwe, "_kernels", lambda: rlwe_numpy)
    monkeypatch.setattr(ntt, "kernels", lambda: None)
    assert ciphertext(plan, 1, values(plan, 1)) == fast
    slow, keys, _ = summed(plan, range(3))
    assert np.array_equal(slow, total)
    assert rlwe.open_sum(plan, slow, CONTEXT, keys, 3).tolist() == opened


def test_a_ciphertext_is_what_the_formula_says() -> None:
    """One prime, one coefficient at a time, in Python's integers, from the wire's definition."""
    plan, vector = SMALL, values(SMALL, 7)
    key = rlwe.draw_key(seed(7), CONTEXT, plan).tolist()
    data = ciphertext(plan, 7, vector)
    residues = packing.unpack(data, 30, plan.residues([0])).reshape(3, -1)
    noise: set[tuple[int, ...]] = set()
    for row, prime in enumerate(plan.ring.primes):
        transform = ntt.transform(4096, prime)
        a = rlwe._uniform(plan, _public_stream(), 0)[row].copy()
        transform.inverse(a)
        product = _first_coefficients(a.tolist(), key, plan.coefficients, prime)
        rest = []
        for i in range(plan.coefficients):
            fields = [vector[j * plan.carriers + i] if i < plan.carriers else 0 for j in range(4)]
            message = sum(int(v) << (plan.radix * j) for j, v in enumerate(fields))
            message += i == plan.carriers  # the canary
            error = (int(residues[row, i]) - product[i] - plan.delta * message) % prime
            rest.append(error - prime if error > prime // 2 else error)
        noise.add(tuple(rest))
    (errors,) = noise  # the same for every prime
    assert max(map(abs, errors)) <= BOUND
    assert len(set(errors)) > 5


def _public_stream() -> prg.StreamKey:
    raw = kdf.derive(CONTEXT, "lattice uniform", CONTEXT, length=28)
    return prg.StreamKey(raw[:16], raw[16:])


def _first_coefficients(a: list[int], key: list[int], count: int, prime: int) -> list[int]:
    """Of a times the key modulo X^N + 1 and the prime."""
    n = len(a)
    return [
        sum(a[j] * key[i - j] if j <= i else -a[j] * key[n + i - j] for j in range(n)) % prime
        for i in range(count)
    ]


@pytest.mark.parametrize("plan", [SMALL, LONG], ids=str)
def test_the_public_polynomial_is_the_stream_without_what_is_too_large(plan: Plan) -> None:
    for chunk in range(plan.chunks):
        rows = rlwe._uniform(plan, _public_stream(), chunk)
        for row, prime in enumerate(plan.ring.primes):
            start = (chunk * 3 + row) * (4096 + 256)
            words = prg.stream(_public_stream(), 4096 + 256, np.uint32, start=start)
            low = words & np.uint32(2**30 - 1)
            assert rows[row].tolist() == low[low < prime][:4096].tolist()


def test_words_that_are_too_large_are_skipped() -> None:
    prime = np.uint32(ntt.primes(1)[0])
    words = np.array([prime, 5, 2**30 - 1, 2**31 + 7, prime - 1, 1], np.uint32)
    for kernels in (rlwe._kernels(), rlwe_numpy):
        out = np.zeros(3, np.uint32)
        assert kernels.accept(words, prime, out) == 3
        assert out.tolist() == [5, 7, prime - 1]
        assert kernels.accept(words[:3], prime, np.zeros(3, np.uint32)) == 1


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", SETS)
def test_the_noise_budget_holds_at_its_limit(name: str, sign: int) -> None:
    """The largest sum in every field, and the largest noise, of all clients there may be."""
    plan = Plan(SETS[name], 1000, 20, (2**32 - 1) // 1000)
    top = plan.clients * plan.largest
    total = rlwe.zero_sum(plan)
    rows = rlwe.residues_of(plan, total, 0)
    full = plan.delta * sum(top << (plan.radix * j) for j in range(plan.fields))
    for row, prime in zip(rows, plan.ring.primes, strict=True):
        row[: plan.carriers] = (full + sign * plan.noise) % prime
        row[plan.carriers] = (plan.delta * plan.clients + sign * plan.noise) % prime
        row[plan.carriers + 1 :] = sign * plan.noise % prime
    no_key = np.zeros(plan.ring.degree, np.int64)
    opened = rlwe.open_sum(plan, total, CONTEXT, no_key, plan.clients)
    assert opened.tolist() == [top] * plan.length


def test_pieces_are_the_ciphertext_in_parts() -> None:
    vector, key = values(LONG, 1), rlwe.draw_key(seed(1), CONTEXT, LONG)
    whole = ciphertext(LONG, 1, vector)
    for step in (1, 2, 3, 50):
        pieces = list(rlwe.encrypt(LONG, seed(1001), CONTEXT, vector, key, step))
        assert len(pieces) == -(-LONG.chunks // step)
        assert b"".join(pieces) == whole
    assert len(whole) == LONG.ciphertext_bytes


def test_keys_errors_and_polynomials_are_fresh_for_every_context_and_seed() -> None:
    other = bytes(32)
    keys = [rlwe.draw_key(seed(s), c, SMALL).tolist() for s in (1, 2) for c in (CONTEXT, other)]
    assert all(keys.count(key) == 1 for key in keys)
    vector = values(SMALL, 1)
    made = [ciphertext(SMALL, s, vector, c) for s in (1, 2) for c in (CONTEXT, other)]
    assert len(set(made)) == 4


def _with_residue(data: bytes, place: int, value: int) -> bytes:
    residues = packing.unpack(data, 30, 8 * len(data) // 30)
    residues[place] = value
    return packing.pack(residues, 30)


def test_pieces_of_another_length_are_refused() -> None:
    data = ciphertext(LONG, 1, values(LONG, 1))
    size = LONG.bytes_of([0])
    rlwe.check_piece(LONG, range(1), data[:size])
    for chunks, bad in (
        (range(1), data[: size - 1]),
        (range(1), data[: size + 1]),
        (range(2), data[:size]),
        (range(2, 3), data[:size]),
        (range(3), b""),
    ):
        with pytest.raises(DecodeError, match="bytes, got"):
            rlwe.check_piece(LONG, chunks, bad)


@pytest.mark.parametrize("row", [0, 1, 2])
def test_residues_that_are_not_below_their_prime_are_refused(row: int) -> None:
    data = ciphertext(SMALL, 1, values(SMALL, 1))
    prime, width = SMALL.ring.primes[row], SMALL.width(0)
    for place in (row * width, row * width + 17, (row + 1) * width - 1):
        rlwe.check_piece(SMALL, range(1), _with_residue(data, place, prime - 1))
        for kernels in (rlwe._kernels(), rlwe_numpy):
            for bad in (prime, 2**30 - 1):
                raw = np.frombuffer(_with_residue(data, place, bad), np.uint8)
                primes = np.array(SMALL.ring.primes, np.uint32)
                assert kernels.beyond(raw, SMALL.residues([0]), 4096, primes)
        with pytest.raises(DecodeError, match="not below its prime"):
            rlwe.check_piece(SMALL, range(1), _with_residue(data, place, prime))


@pytest.mark.parametrize("plan", [SMALL, LONG], ids=str)
def test_a_wrong_key_sum_breaks_the_canary(plan: Plan) -> None:
    total, keys, _ = summed(plan, range(2))
    for place in (0, 1, 2000, 4095):
        wrong = keys.copy()
        wrong[place] += 1 if keys[place] < 2 * BOUND else -1
        with pytest.raises(DecodeError, match="canary"):
            rlwe.open_sum(plan, total, CONTEXT, wrong, 2)
    with pytest.raises(DecodeError, match="canary"):
        rlwe.open_sum(plan, total, bytes(32), keys, 2)
    with pytest.raises(DecodeError, match="canary"):
        rlwe.open_sum(plan, total, CONTEXT, keys, 3)


def test_a_chunk_in_anothers_place_breaks_the_sum() -> None:
    plan = LONG
    total, size = rlwe.zero_sum(plan), plan.bytes_of([0])
    data = ciphertext(plan, 1, values(plan, 1))
    swapped = data[size : 2 * size] + data[:size] + data[2 * size :]
    rlwe.check_piece(plan, range(3), swapped)
    rlwe.add_chunks(plan, total, range(3), swapped)
    keys = rlwe.draw_key(seed(1), CONTEXT, plan).astype(np.int64)
    with pytest.raises(DecodeError, match="canary"):
        rlwe.open_sum(plan, total, CONTEXT, keys, 1)


def test_a_key_sum_beyond_its_bound_is_refused() -> None:
    total, keys, _ = summed(SMALL, range(2))
    for value in (2 * BOUND + 1, -2 * BOUND - 1):
        wrong = keys.copy()
        wrong[5] = value
        with pytest.raises(DecodeError, match="beyond its bound"):
            rlwe.open_sum(SMALL, total, CONTEXT, wrong, 2)
    with pytest.raises(LocalError, match="expected 4096"):
        rlwe.open_sum(SMALL, total, CONTEXT, keys[:-1], 2)


def test_values_that_sums_have_no_room_for_are_refused() -> None:
    key = rlwe.draw_key(seed(1), CONTEXT, SMALL)
    for bad in (np.full(100, 2**16, np.uint64), np.full(100, 2**63, np.uint64)):
        with pytest.raises(LocalError, match="is above 65535"):
            next(rlwe.encrypt(SMALL, seed(2), CONTEXT, bad, key, 1))
    with pytest.raises(LocalError, match="expected 100"):
        next(rlwe.encrypt(SMALL, seed(2), CONTEXT, np.zeros(99, np.uint64), key, 1))


def test_a_stored_sum_is_recognised() -> None:
    total, _, _ = summed(LONG, range(2))
    assert rlwe.is_sum(LONG, total)
    assert not rlwe.is_sum(LONG, total[:-1])
    broken = total.copy()
    broken[-1] = LONG.ring.primes[-1]
    assert not rlwe.is_sum(LONG, broken)


def test_bytes_for_a_million_values_do_not_grow_with_clients() -> None:
    plan = ringset.choose(1000, 10**6, (2**32 - 1) // 1000)
    assert rlwe.zero_sum(plan).nbytes == 4 * plan.residues(range(plan.chunks)) < 5 * 10**6


VECTORS = {  # SHA-256 of the key as 32-bit words, and of the ciphertext
    "A": (
        "087d3477028024750f9b86cd39f96fd323d8b8d38f501dd7fef5754f4da15293",
        "b44e6a408b94d17c25c31c8a8e254daf17ea4978d9ca984f91afb3f0cc03fc7a",
    ),
    "B": (
        "3cc4ac051716e276a4f9f363e7cf7e4abd3f415456d1296bbbfa6dc488858f41",
        "10e3e9078bc65f7a0b29c58b827dc4bad6c0944fb6b214449c7bcaf932b75087",
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_known_answers(name: str) -> None:
    plan = Plan(SETS[name], 100, 1000, 2**20 - 1)
    key = rlwe.draw_key(b"k" * 32, CONTEXT, plan)
    vector = np.arange(1000, dtype=np.uint64) * 1001
    data = b"".join(rlwe.encrypt(plan, b"e" * 32, CONTEXT, vector, key, 1))
    raw = key.astype("<i4").tobytes()
    assert (sha256(raw).hexdigest(), sha256(data).hexdigest()) == VECTORS[name]
