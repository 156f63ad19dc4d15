"""Processes that encrypt: the same sums, rows in order, and no worker left behind."""

import os
import signal

import numpy as np
import pytest

from fl.encryption import ENGINES, Workers
from protocols.driver import run
from protocols.registry import load
from secagg.errors import DecodeError, LocalError, ParameterError
from secagg.rng import SystemSource
from tests.protocols.support import exact_sum, random_values, session_of

N, LENGTH, BITS = 3, 30_000, 16
BOTH = pytest.mark.parametrize("name", sorted(ENGINES))


@pytest.fixture(scope="module")
def workers():
    with Workers(2) as started:
        yield started


@BOTH
def test_a_session_whose_clients_encrypt_elsewhere_ends_in_the_exact_sum(name, workers) -> None:
    protocol = workers.protocol(name)
    parameters = protocol.configure(N, LENGTH, BITS, chunk=3, suite="X25519")
    inputs = {u: random_values(u, LENGTH, BITS) for u in range(1, N + 1)}
    outcome = run(protocol, session_of(protocol, parameters), inputs, SystemSource())
    assert outcome.result.total.tolist() == exact_sum(inputs, inputs, BITS)


@BOTH
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_ciphertext_for_each_row_in_order_under_the_key_that_was_named(
    name, rows: int, workers
) -> None:
    parameters = load(name).configure(N, LENGTH, BITS)
    engine, encryptor = ENGINES[name](parameters), workers.encryptor(name, parameters)
    largest = parameters.packing.largest
    slots = np.random.default_rng(rows).integers(
        0, largest, (rows, parameters.slots), np.uint64, endpoint=True
    )
    for _ in range(2):  # two keys, one after the other
        keys = engine.new_keys()
        encryptor.check_public(keys.public)
        ciphertexts = encryptor.encrypt(keys.public, slots)
        engine.check(ciphertexts, rows)
        assert (engine.decrypt(keys.secret, ciphertexts, 1) == slots).all()
        assert len(set(encryptor.encrypt(keys.public, slots)) | set(ciphertexts)) == 2 * rows


@BOTH
def test_a_wrong_key_is_refused_before_it_gets_to_a_worker(name, workers) -> None:
    parameters = load(name).configure(N, LENGTH, BITS)
    with pytest.raises(DecodeError, match="SEAL"):
        workers.encryptor(name, parameters).check_public(b"x" * 200)


def test_only_what_tenseal_encrypts_has_workers(workers) -> None:
    for name in ("masking", "lattice", "nothing"):
        with pytest.raises(ParameterError, match="choose ckks or bfv"):
            workers.encryptor(name, load("ckks").configure(N, LENGTH, BITS))


@BOTH
def test_pieces_come_in_order_while_the_next_is_under_way(name, workers) -> None:
    parameters = load(name).configure(N, LENGTH, BITS)
    engine, encryptor = ENGINES[name](parameters), workers.encryptor(name, parameters)
    keys, asked = engine.new_keys(), []

    def pieces():
        for number, rows in enumerate((3, 1, 2), start=1):
            asked.append(number)
            yield np.full((rows, parameters.slots), number, np.uint64)

    for number, ciphertexts in enumerate(encryptor.encrypt_each(keys.public, pieces()), start=1):
        assert (engine.decrypt(keys.secret, ciphertexts, 1) == number).all()
        assert len(asked) == min(number + 1, 3)


def test_a_worker_that_is_killed_ends_them_all_and_is_named() -> None:
    with Workers(2) as workers:
        parameters = load("bfv").configure(N, LENGTH, BITS)
        encryptor = workers.encryptor("bfv", parameters)
        keys = ENGINES["bfv"](parameters).new_keys()
        slots = np.ones((2, parameters.slots), np.uint64)
        encryptor.encrypt(keys.public, slots)
        pids = workers.pids
        os.kill(pids[1], signal.SIGKILL)
        with pytest.raises(LocalError, match="has ended"):
            encryptor.encrypt(keys.public, slots)
        with pytest.raises(LocalError, match="have been closed"):
            encryptor.encrypt(keys.public, slots)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_caller_who_stops_in_the_middle_gets_no_ciphertext_of_an_earlier_piece() -> None:
    with Workers(2) as workers:
        parameters = load("bfv").configure(N, LENGTH, BITS)
        encryptor = workers.encryptor("bfv", parameters)
        keys = ENGINES["bfv"](parameters).new_keys()
        slots = np.ones((2, parameters.slots), np.uint64)
        pieces = encryptor.encrypt_each(keys.public, (slots, slots))
        next(pieces)
        with pytest.raises(LocalError, match="at another vector"):
            encryptor.encrypt(keys.public, slots)
        pieces.close()
        with pytest.raises(LocalError, match="have been closed"):
            encryptor.encrypt(keys.public, slots)
