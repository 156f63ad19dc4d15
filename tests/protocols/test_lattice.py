"""`lattice`: what the inner protocol does not decide, and every message that is refused."""

from collections.abc import Mapping

import numpy as np
import pytest
from msgspec.structs import replace

from protocols.base import SERVER, Contribute, Protocol, Received, Session
from protocols.driver import Fault, Options, Simulation, run
from protocols.lattice import LatticeParameters
from protocols.lattice.states import Relay, Upload, with_inner
from protocols.masking import sparse
from protocols.registry import load
from secagg import packing
from secagg.codec import decode, encode
from secagg.errors import LocalError, ParameterError, PeerError, ProtocolAborted
from secagg.rng import SystemSource
from secagg.signing import ED25519
from tests.protocols.support import (
    begin,
    exact_sum,
    random_values,
    roster_of,
    session_of,
    signers_of,
)

LATTICE: Protocol = load("lattice")
LENGTH = 2 * 2 * 4096 + 5
"""Two whole polynomials of set A and a bit, two values a coefficient."""


def parameters(clients: int = 4, length: int = 20, bits: int = 32, **options) -> LatticeParameters:
    return LATTICE.configure(clients, length, bits, **{"suite": "X25519", **options})


def in_pieces() -> LatticeParameters:
    return parameters(length=LENGTH, ring="A", step=1)


def inputs_of(chosen: LatticeParameters) -> dict[int, np.ndarray]:
    return {
        u: random_values(u, chosen.length, chosen.modulus_bits)
        for u in range(1, chosen.clients + 1)
    }


class Scene:
    """A session in which every client has its uploads ready, and none has been heard. models:
    which clients were shown another model.
    """

    def __init__(
        self, chosen: LatticeParameters, models: Mapping[int, bytes] | None = None
    ) -> None:
        self.inputs = inputs_of(chosen)
        session = session_of(LATTICE, chosen)
        self.simulation = Simulation(LATTICE, session, self.inputs, SystemSource())
        self.simulation.step("advertise")
        self.simulation.step("share")
        self.server = self.simulation.server
        self.uploads: dict[int, list[Upload]] = {}
        for request in self.simulation._requests:
            party = self.simulation.parties[request.to]
            party.handle(Received(SERVER, request.data))
            begin(party, (models or {}).get(request.to, self.simulation.application))
            sent = party.handle(Contribute(self.inputs[request.to]))
            self.uploads[request.to] = [decode(e.data, Upload) for e in sent]
        self.simulation._requests = []

    def hear(self, sender: int, upload: object) -> None:
        self.server.handle(Received(sender, encode(upload)))

    def hear_all(self, *senders: int) -> None:
        for sender in senders:
            for upload in self.uploads[sender]:
                self.hear(sender, upload)

    def refuses(self, sender: int, upload: object, why: str) -> None:
        """The server blames the sender, and nothing has changed."""
        before = self.server.machine.snapshot()
        with pytest.raises(PeerError, match=why) as caught:
            self.hear(sender, upload)
        assert caught.value.peer == sender
        assert self.server.machine.snapshot() == before

    def finish(self):
        simulation = self.simulation
        simulation._close("upload")
        if not simulation.abort:
            simulation.step("unmask")
        return simulation.abort or self.server.machine.result


@pytest.mark.parametrize("bits", [1, 16, 33, 64])
def test_masking_lattice_and_committee_give_the_same_sum(bits: int) -> None:
    inputs = {u: random_values(u, 50, bits) for u in range(1, 7)}
    totals = set()
    for name in ("plain", "masking", "lattice", "committee"):
        protocol = load(name)
        session = session_of(protocol, protocol.configure(6, 50, bits))
        faults = {(2, "upload"): Fault.VANISH, (5, "upload"): Fault.LOSE_REPLY}
        outcome = run(protocol, session, inputs, SystemSource(), faults=faults)
        assert outcome.result.contributors == (1, 3, 4, 6)
        totals.add(tuple(outcome.result.total.tolist()))
    assert totals == {tuple(exact_sum(inputs, (1, 3, 4, 6), bits))}


@pytest.mark.parametrize("step", [1, 2, 64])
def test_uploads_in_pieces_are_exact(step: int) -> None:
    chosen = parameters(length=LENGTH, ring="A", largest=2**28, step=step)
    assert len(chosen.pieces) == -(-3 // step)
    inputs = {u: random_values(u, LENGTH, 28) for u in range(1, 5)}
    faults = {(1, "upload"): Fault.CRASH_AFTER, (2, "upload"): Fault.VANISH}
    session = session_of(LATTICE, chosen)
    outcome = run(LATTICE, session, inputs, SystemSource(), faults=faults)
    assert outcome.result.total.tolist() == exact_sum(inputs, (1, 3, 4), 32)
    sizes = outcome.bytes_by_stage(3)["upload"] - chosen.plan.ciphertext_bytes
    assert 0 < sizes - 4096 * chosen.plan.key_bits / 8 < 500 * len(chosen.pieces)


def test_it_runs_over_a_sparse_graph() -> None:
    def configure(n: int, length: int, bits: int, **_given: object):
        return sparse(n, length, bits, corrupt=0.0, dropout=0.4, suite="X25519")

    chosen = LATTICE.configure(20, 30, 32, inner_configure=configure)
    assert chosen.inner.degree < 19
    inputs = inputs_of(chosen)
    faults = {(u, stage): Fault.VANISH for u, stage in ((1, "upload"), (2, "unmask"))}
    outcome = run(LATTICE, session_of(LATTICE, chosen), inputs, SystemSource(), faults=faults)
    assert outcome.result.total.tolist() == exact_sum(inputs, range(2, 21), 32)


def test_it_runs_over_an_active_inner_protocol() -> None:
    """More stages, signatures, and the same sum."""
    chosen = parameters(clients=5, adversary="active")
    assert "consistency" in chosen.stages
    members, signers = roster_of(5, (ED25519,)), signers_of(5, (ED25519,))
    inputs = inputs_of(chosen)
    outcome = run(
        LATTICE,
        session_of(LATTICE, chosen, 0, members),
        inputs,
        SystemSource(),
        faults={(2, "upload"): Fault.VANISH, (4, "consistency"): Fault.CRASH_AFTER},
        options=Options(signers=signers),
    )
    assert outcome.result.total.tolist() == exact_sum(inputs, (1, 3, 4, 5), 32)


def test_the_server_keeps_one_sum_whatever_the_number_of_uploads() -> None:
    scene, sizes = Scene(in_pieces()), []
    for client in scene.uploads:
        scene.hear_all(client)
        sizes.append(len(scene.server.machine.snapshot()))
    assert max(sizes) - min(sizes) < 1000
    assert scene.finish().total.tolist() == exact_sum(scene.inputs, scene.inputs, 32)


# --- bad input -----------------------------------------------------------------------------


def test_replayed_and_reordered_pieces_are_refused() -> None:
    scene = Scene(in_pieces())
    first, second, *_, last = scene.uploads[1]
    scene.refuses(1, second, "piece 1 where 0 is next")
    scene.hear(1, first)
    scene.refuses(1, first, "piece 0 where 1 is next")
    scene.refuses(1, last, "piece . where 1 is next")
    scene.refuses(1, replace(second, index=2), "piece 2 where 1 is next")
    scene.refuses(2, second, "piece 1 where 0 is next")
    for upload in scene.uploads[1][1:]:
        scene.hear(1, upload)
    scene.refuses(1, first, "uploaded twice")
    scene.hear_all(2, 3, 4)
    assert scene.finish().total.tolist() == exact_sum(scene.inputs, scene.inputs, 32)


def test_pieces_of_one_client_do_not_count_for_another() -> None:
    scene = Scene(in_pieces())
    scene.hear(1, scene.uploads[1][0])
    scene.hear_all(2, 3, 4)
    result = scene.finish()
    assert result.contributors == (2, 3, 4)
    assert result.total.tolist() == exact_sum(scene.inputs, (2, 3, 4), 32)


def test_truncated_and_padded_ciphertexts_are_refused() -> None:
    scene = Scene(in_pieces())
    first = scene.uploads[1][0]
    for packed in (b"", first.packed[:-1], first.packed[:-60], first.packed + bytes(60)):
        scene.refuses(1, replace(first, packed=packed), "bytes, got")


def test_residues_beyond_their_prime_are_refused() -> None:
    scene = Scene(parameters())
    (upload,) = scene.uploads[1]
    residues = packing.unpack(upload.packed, 30, 8 * len(upload.packed) // 30)
    residues[0] = 2**30 - 1
    scene.refuses(1, replace(upload, packed=packing.pack(residues, 30)), "not below its prime")


def test_the_short_key_comes_with_the_last_piece_and_no_other() -> None:
    scene = Scene(in_pieces())
    *most, last = scene.uploads[1]
    scene.refuses(1, replace(most[0], inner=last.inner), "the last piece, and no other")
    for upload in most:
        scene.hear(1, upload)
    scene.refuses(1, replace(last, inner=b""), "the last piece, and no other")
    scene.refuses(1, replace(last, inner=last.inner[:-1]), "not a valid encoding")
    scene.refuses(1, replace(last, inner=b"\xc0"), "not a valid encoding")
    scene.refuses(1, Relay(last.context, last.inner), "unexpected Relay")
    scene.hear(1, last)


def test_a_part_of_an_inner_upload_is_refused() -> None:
    """Of an inner protocol that uploads in parts, none may be in the inner sum before all are."""
    with pytest.raises(LocalError, match="in one message"):
        Scene(parameters(chunk=8))


def test_an_upload_of_another_session_is_refused() -> None:
    scene = Scene(parameters())
    (upload,) = scene.uploads[1]
    scene.refuses(1, replace(upload, context=bytes(32)), "of another session")
    other = Scene(parameters(length=21))
    scene.refuses(1, other.uploads[1][0], "of another session")


def test_an_upload_for_another_model_is_refused_outside_and_inside() -> None:
    scene = Scene(parameters(), {1: b"m" * 32})
    (upload,), (of_2,) = scene.uploads[1], scene.uploads[2]
    scene.refuses(1, upload, "^party 1, stage upload: Upload of another session")
    scene.refuses(1, replace(upload, context=of_2.context), "Upload of another session")
    scene.hear_all(2, 3, 4)
    result = scene.finish()
    assert result.contributors == (2, 3, 4)
    assert result.total.tolist() == exact_sum(scene.inputs, (2, 3, 4), 32)


def test_strangers_and_more_than_a_few_open_uploads_are_refused() -> None:
    scene = Scene(parameters(clients=6, length=LENGTH, ring="A", step=1))
    for stranger in (0, 7):
        scene.refuses(stranger, scene.uploads[1][0], "does not take part")
    for client in range(1, 5):
        scene.hear(client, scene.uploads[client][0])
    assert scene.server.machine.unfinished == {1, 2, 3, 4}
    with pytest.raises(LocalError, match="4 uploads are incomplete"):
        scene.hear(5, scene.uploads[5][0])


def test_a_ciphertext_under_another_key_breaks_the_canary() -> None:
    scene = Scene(parameters())
    (mine,), (other,) = scene.uploads[1], scene.uploads[2]
    scene.hear(1, replace(mine, packed=other.packed))
    scene.hear_all(2, 3, 4)
    abort = scene.finish()
    assert isinstance(abort, ProtocolAborted)
    assert "canary" in abort.reason
    assert scene.server.machine.finished
    with pytest.raises(LocalError):
        _ = scene.server.machine.result


def test_values_beyond_the_clip_are_refused_before_anything_is_sent() -> None:
    chosen = parameters(largest=1000)
    session = session_of(LATTICE, chosen)
    inputs = {u: np.full(20, 1000 * u, np.uint64) for u in range(1, 5)}
    outcome = run(LATTICE, session, inputs, SystemSource(), options=Options(record=False))
    assert outcome.abort
    errors = {party: str(error) for party, error in outcome.errors}
    assert sorted(errors) == [2, 3, 4]
    assert all("above 1000" in error for error in errors.values())


@pytest.mark.parametrize("junk", [b"", b"junk", 5, None])
def test_a_stored_state_with_another_inner_state_is_refused(junk: object) -> None:
    scene = Scene(parameters())
    for machine in (scene.server.machine, scene.simulation.parties[1].machine):
        before = machine.snapshot()
        stored = encode(with_inner(machine.state, junk)) if machine.me else None
        if stored is None:
            stored = before[:60]
        with pytest.raises(LocalError, match=f"not a stored state of a {machine.role}"):
            machine.restore(stored)
        assert machine.snapshot() == before


# --- parameters ----------------------------------------------------------------------------


def test_parameters_that_cannot_be_safe_or_exact_are_refused() -> None:
    with pytest.raises(ParameterError, match="fewer than 2 honest ones"):
        replace(parameters(), corrupt=2).check()
    with pytest.raises(ParameterError, match="do not fit ring set A"):
        parameters(bits=64, ring="A", clients=300_000, inner_configure=_refuse)
    with pytest.raises(ParameterError, match="choose one of A, B"):
        parameters(ring="Z")
    with pytest.raises(ParameterError, match="choose 1 to 2\\^modulus_bits - 1"):
        parameters(bits=8, largest=256)
    with pytest.raises(ParameterError, match="at least 1 polynomial"):
        parameters(step=0)


def _refuse(*_arguments: object, **_options: object):
    raise AssertionError("the plan comes first")


def test_the_inner_parameters_must_be_for_the_same_clients_and_the_short_key() -> None:
    good = parameters()
    masking = load("masking").configure
    plan = good.plan
    for inner, why in (
        (masking(5, 4096, plan.key_bits, floor=good.floor), "other clients"),
        (masking(4, 4096, plan.key_bits, floor=4), "other clients or another floor"),
        (masking(4, 4095, plan.key_bits), "must sum 4096 values"),
        (masking(4, 4096, plan.key_bits - 1), "must sum 4096 values"),
        (load("committee").configure(4, 4096, plan.key_bits), "no helpers"),
    ):
        with pytest.raises(ParameterError, match=why):
            replace(good, inner=inner).check()


def test_the_corrupt_are_counted_in_the_floor() -> None:
    chosen = parameters(clients=10, corrupt=3)
    assert chosen.floor - chosen.corrupt >= 2
    assert chosen.inner.corrupt == 3


def test_inner_sessions_are_bound_to_the_outer_parameters() -> None:
    sessions = [session_of(LATTICE, parameters(largest=n)) for n in (7, 8)]
    numbers = {
        LATTICE.server(session, SystemSource())._inner.session.session_id for session in sessions
    }
    assert len(numbers) == 2
    assert not numbers & {session.session_id for session in sessions}
    assert isinstance(sessions[0], Session)
