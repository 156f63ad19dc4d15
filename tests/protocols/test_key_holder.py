"""`ckks` and `bfv` against dishonest parties, wrong bytes, and their own bounds."""

import random
import struct
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np
import pytest
from msgspec.structs import replace

from protocols import bfv, ckks
from protocols.base import SERVER, Aborted, Begin, Contribute, Join, Received, RoundClosed
from protocols.driver import Fault, Options, Simulation, run
from protocols.he import keys
from protocols.he.client import Client
from protocols.he.engine import dump
from protocols.he.holder import Done, KeyHolder
from protocols.he.messages import (
    Aggregate,
    Batch,
    Offer,
    Opened,
    Present,
    PublicKey,
    Upload,
)
from protocols.he.server import Server
from protocols.journal import MemoryJournal, Party
from secagg.codec import decode, encode
from secagg.errors import DecodeError, LocalError, PeerError, ProtocolAborted
from secagg.rng import SystemSource
from secagg.seal import SystemSealer, suite
from tests.protocols.recalling import coins
from tests.protocols.support import APPLICATION, exact_sum, random_values, session_of

N, LENGTH, BITS = 3, 9000, 16
HOLDER = N + 1
BOTH = pytest.mark.parametrize("folder", [ckks, bfv], ids=lambda m: m.__name__[10:])
INPUTS = {u: random_values(u, LENGTH, BITS) for u in range(1, N + 1)}


@dataclass
class Play:
    """A session by hand, in pieces of one ciphertext, up to where a test wants it."""

    folder: ModuleType
    number: int = 0
    options: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        chosen = {"chunk": 1, "suite": "X25519"} | self.options
        self.parameters = self.folder.configure(N, LENGTH, BITS, **chosen)
        self.session = session_of(self.folder.PROTOCOL, self.parameters, self.number)
        self.engine = self.folder.engine_of(self.parameters)
        self.server = Server(self.session, SystemSource(), self.engine)
        self.holder = KeyHolder(self.session, HOLDER, self.engine)
        self.clients = {
            u: Client(self.session, u, SystemSource(), SystemSealer(), self.engine)
            for u in range(1, N + 1)
        }
        self.server.handle(Begin(APPLICATION))
        (key,) = self.holder.handle(Join())
        self.key = key.data
        for u, client in self.clients.items():
            (present,) = client.handle(Join())
            client.handle(Begin(APPLICATION))
            self.server.handle(Received(u, present.data))

    def offered(self) -> "Play":
        self.server.handle(Received(HOLDER, self.key))
        self.offers = self.server.handle(RoundClosed())
        return self

    def ready(self) -> "Play":
        for envelope in self.offered().offers:
            self.clients[envelope.to].handle(Received(SERVER, envelope.data))
        return self

    def uploads(self, u: int) -> list[bytes]:
        return [e.data for e in self.clients[u].handle(Contribute(INPUTS[u]))]

    def aggregated(self) -> "Play":
        self.ready()
        for u in self.clients:
            for data in self.uploads(u):
                self.server.handle(Received(u, data))
        self.aggregates = [e.data for e in self.server.handle(RoundClosed())]
        return self

    def to_server(self, sender: int, body: object) -> None:
        self.server.handle(Received(sender, encode(body)))

    def to_holder(self, body: object) -> tuple:
        return self.holder.handle(Received(SERVER, encode(body)))

    def sealed(self, ciphertexts: tuple[bytes, ...], index: int = 0, u: int = 1) -> Upload:
        """What client u would send if these were its ciphertexts."""
        state = self.clients[u].state
        to = suite("X25519").public_key(state.sealing_key)
        info = keys.sealing_info(state.context, u, index)
        sealed = SystemSealer().seal(to, encode(Batch(ciphertexts)), info)
        return Upload(state.context, index, sealed)

    def encrypted(self, *, key: bytes | None = None, count: int = 1) -> tuple[bytes, ...]:
        slots = np.ones((count, self.parameters.slots), np.uint64)
        return self.engine.encrypt(key or decode(self.key, PublicKey).key, slots, coins())


def refused(machine, sender: int, data: bytes, match: str) -> None:
    """A PeerError that names the sender, and nothing has changed."""
    before = machine.snapshot()
    with pytest.raises(PeerError, match=match) as caught:
        machine.handle(Received(sender, data))
    assert caught.value.peer == sender
    assert machine.snapshot() == before


# --- the server's checks ---------------------------------------------------------------------


@BOTH
def test_the_server_takes_one_key_and_from_the_key_holder_only(folder) -> None:
    play = Play(folder)
    refused(play.server, 1, play.key, "only the key holder, 4")
    other = session_of(play.folder.PROTOCOL, play.parameters, 1)
    refused(play.server, HOLDER, encode(PublicKey(other.context, b"")), "another session")
    refused(play.server, HOLDER, encode(PublicKey(play.session.context, b"x" * 99)), "SEAL")
    play.server.handle(Received(HOLDER, play.key))
    refused(play.server, HOLDER, play.key, "a second key")
    present = encode(Present(play.session.context))
    refused(play.server, 1, present, "twice")
    refused(play.server, HOLDER, present, "not a member")


@BOTH
def test_a_key_of_other_parameters_is_refused_by_server_and_clients(folder) -> None:
    play = Play(folder).offered()
    other = ckks if folder is bfv else bfv
    wrong = [
        folder.engine_of(folder.configure(N, LENGTH, BITS, security=256)).new_keys().public,
        other.engine_of(other.configure(N, LENGTH, BITS)).new_keys().public,
        folder.engine_of(play.parameters).new_keys().secret,
    ]
    offer = decode(play.offers[0].data, Offer)
    fresh = Play(folder)
    for key in wrong:
        refused(fresh.server, HOLDER, encode(PublicKey(fresh.session.context, key)), "SEAL")
        refused(play.clients[1], SERVER, encode(replace(offer, key=key)), "SEAL")


@BOTH
def test_ciphertexts_of_the_wrong_size_level_scale_or_number_are_refused(folder) -> None:
    play = Play(folder).ready()
    (good,) = play.encrypted()
    longer = folder.engine_of(folder.configure(N, LENGTH, BITS, security=256))
    (large,) = longer.encrypt(
        longer.new_keys().public, np.ones((1, longer.parameters.slots), np.uint64), coins()
    )
    cases = {
        "0 ciphertexts in a piece of 1": (),
        "2 ciphertexts in a piece of 1": (good, good),
        "another length than it says": (good[:-1],),
        "a SEAL object of another size": (large,),
        "this library's version": (b"\0" * len(good),),
        "SEAL": (decode(play.key, PublicKey).key,),
    }
    for match, ciphertexts in cases.items():
        refused(play.server, 1, encode(play.sealed(ciphertexts)), match)
    if folder is ckks:
        finer = play.parameters.scale_bits - 1
        other = ckks.engine_of(replace(play.parameters, scale_bits=finer))
        slots = np.ones((1, play.parameters.slots), np.uint64)
        wrong = other.encrypt(decode(play.key, PublicKey).key, slots, coins())
        refused(play.server, 1, encode(play.sealed(wrong)), "level, scale or size")


@BOTH
def test_uploads_are_bound_to_session_client_and_place(folder) -> None:
    play, other = Play(folder).ready(), Play(folder, number=1).ready()
    first, second, *_ = play.uploads(1)
    refused(play.server, 1, other.uploads(1)[0], "another session")
    body = decode(other.uploads(2)[0], Upload)
    moved = replace(body, context=play.clients[2].state.context)
    refused(play.server, 2, encode(moved), "does not open")
    refused(play.server, 2, first, "does not open")
    refused(play.server, 1, second, "piece 1 where 0 is next")
    renumbered = replace(decode(second, Upload), index=0)
    refused(play.server, 1, encode(renumbered), "does not open")
    refused(play.server, HOLDER, first, "did not join")
    play.server.handle(Received(1, first))
    refused(play.server, 1, first, "piece 0 where 1 is next")
    assert play.server.unfinished == {1}
    assert 1 in play.server.waits_for


@BOTH
def test_the_server_believes_the_key_holder_only_and_once(folder) -> None:
    play = Play(folder).aggregated()
    answers = [e for data in play.aggregates for e in play.holder.handle(Received(SERVER, data))]
    (answer,) = answers
    opened = decode(answer.data, Opened)
    refused(play.server, 2, answer.data, "only the key holder, 4")
    short = replace(opened, packed=opened.packed[:-1])
    refused(play.server, HOLDER, encode(short), "expected")
    play.server.handle(Received(HOLDER, answer.data))
    refused(play.server, HOLDER, answer.data, "a second sum")
    play.server.handle(RoundClosed())
    assert play.server.result.total.tolist() == exact_sum(INPUTS, INPUTS, BITS)


@BOTH
@pytest.mark.parametrize(("name", "extra"), [("X25519", 117), ("MLKEM768-X25519", 1302)])
def test_messages_have_the_sizes_that_the_page_says(folder, name: str, extra: int) -> None:
    play = Play(folder, options={"suite": name, "chunk": 4}).aggregated()
    key = len(decode(play.key, PublicKey).key)
    assert len(play.key) == key + 47
    assert {len(e.data) for e in play.offers} == {key + extra}
    sealing = {"X25519": 101, "MLKEM768-X25519": 1189}[name]
    fresh = Play(folder, options={"suite": name, "chunk": 4}).ready()
    for index, data in enumerate(fresh.uploads(1)):
        assert len(data) == 65_664 * play.parameters.ciphertexts(index) + sealing
    for index, data in enumerate(play.aggregates):
        assert len(data) == 65_664 * play.parameters.ciphertexts(index) + 51


def cut(raw: bytes, at: int, *, honest: bool) -> bytes:
    """The first bytes of a SEAL object; honest: its header says how many there are now."""
    return raw[:8] + struct.pack("<Q", at) + raw[16:at] if honest else raw[:at]


@BOTH
def test_a_truncated_ciphertext_is_refused_by_server_and_key_holder(folder) -> None:
    play, summed = Play(folder).ready(), Play(folder, number=1).aggregated()
    (good,) = play.encrypted()
    piece = decode(summed.aggregates[0], Aggregate)
    for at in (0, 7, 16, 20, 24, 100, len(good) - 1):
        for honest in (False, True) if at >= 16 else (False,):
            short = (cut(good, at, honest=honest),)
            refused(play.server, 1, encode(play.sealed(short)), "SEAL|Zstandard|length")
            wrong = encode(replace(piece, ciphertexts=short))
            refused(summed.holder, SERVER, wrong, "SEAL|Zstandard|length")


@BOTH
def test_values_beyond_the_range_are_refused_before_anything_is_encrypted(folder) -> None:
    play = Play(folder).ready()
    client, high = play.clients[1], INPUTS[1].copy()
    high[-1] = 2**BITS
    before = client.snapshot()
    for wrong, match in ((high, "does not fit in 16 bits"), (INPUTS[1][:-1], str(LENGTH))):
        with pytest.raises(LocalError, match=match):
            client.handle(Contribute(wrong))
        assert client.snapshot() == before
    assert len(play.uploads(1)) == len(play.parameters.pieces)


# --- the key holder's checks -------------------------------------------------------------------


@BOTH
def test_the_key_holder_opens_one_sum_a_session_and_says_nothing_before_the_end(folder) -> None:
    play = Play(folder).aggregated()
    assert len(play.aggregates) > 1
    *first, last = play.aggregates
    refused(play.holder, 1, first[0], "only the server")
    other = Play(folder, number=1).aggregated()
    refused(play.holder, SERVER, other.aggregates[0], "another session")
    refused(play.holder, SERVER, last, "where 0 is next")
    for data in first:
        assert play.holder.handle(Received(SERVER, data)) == ()
    refused(play.holder, SERVER, first[-1], f"where {len(first)} is next")
    (answer,) = play.holder.handle(Received(SERVER, last))
    assert answer.to == SERVER
    assert isinstance(play.holder.state, Done)
    for data in (play.aggregates[0], last):
        refused(play.holder, SERVER, data, "unexpected Aggregate")


@BOTH
def test_a_key_holder_that_starts_again_opens_nothing_twice(folder) -> None:
    play = Play(folder)
    journal = MemoryJournal()
    party = Party(KeyHolder(play.session, HOLDER, play.engine), journal)
    (key,) = party.handle(Join())
    again = Party(KeyHolder(play.session, HOLDER, play.engine), journal)
    with pytest.raises(LocalError, match="already sent"):
        again.handle(Join())
    assert [e.data for e in again.resume()] == [key.data]
    play.key, play.holder = key.data, party.machine
    play.aggregated()
    sent = [e for data in play.aggregates for e in party.handle(Received(SERVER, data))]
    assert len(sent) == 1
    for data in play.aggregates[:-1]:
        again.handle(Received(SERVER, data))
    with pytest.raises(LocalError, match="already sent"):
        again.handle(Received(SERVER, play.aggregates[-1]))


@BOTH
def test_sums_over_too_few_and_pieces_of_different_sums_are_refused(folder) -> None:
    play = Play(folder).aggregated()
    pieces = [decode(data, Aggregate) for data in play.aggregates]
    for contributors in (0, 1, N + 1):
        wrong = encode(replace(pieces[0], contributors=contributors))
        refused(play.holder, SERVER, wrong, f"a sum over {contributors} clients")
    wrong = encode(replace(pieces[0], ciphertexts=()))
    refused(play.holder, SERVER, wrong, "0 ciphertexts in a piece of 1")
    play.to_holder(pieces[0])
    wrong = encode(replace(pieces[1], contributors=2))
    refused(play.holder, SERVER, wrong, "sums over different clients")


@BOTH
def test_a_ciphertext_of_another_key_ends_the_session_and_the_key(folder) -> None:
    """It cannot be told apart before it is decrypted, and there is no second try."""
    play = Play(folder).aggregated()
    other = play.engine.new_keys().public
    piece = decode(play.aggregates[0], Aggregate)
    with pytest.raises(ProtocolAborted, match="no sum of so many clients") as caught:
        play.to_holder(replace(piece, ciphertexts=play.encrypted(key=other)))
    assert caught.value.blame == (SERVER,)
    assert isinstance(play.holder.state, Aborted)
    refused(play.holder, SERVER, play.aggregates[0], "unexpected Aggregate")


@BOTH
def test_what_is_not_among_the_sum_is_refused_with_the_number_of_clients(folder) -> None:
    """More than so many clients can have put in decrypts to no sum."""
    play = Play(folder).aggregated()
    piece = decode(play.aggregates[0], Aggregate)
    largest = play.parameters.packing.largest
    slots = np.full((1, play.parameters.slots), largest, np.uint64)
    key = decode(play.key, PublicKey).key
    total = play.engine.encrypt(key, slots, coins())
    for _ in range(2):
        total = play.engine.add(total, play.engine.encrypt(key, slots, coins()))
    with pytest.raises(ProtocolAborted, match="no sum"):
        play.to_holder(replace(piece, ciphertexts=total, contributors=2))


@BOTH
def test_the_key_holder_forgets_its_key(folder) -> None:
    play = Play(folder)
    secret = play.holder.state.secret
    assert secret in play.holder.snapshot()
    assert repr(secret)[2:40] not in repr(play.holder.state)
    play.aggregated()
    for data in play.aggregates:
        play.holder.handle(Received(SERVER, data))
    assert secret not in play.holder.snapshot()
    assert len(play.holder.snapshot()) < 100


@BOTH
def test_every_session_has_a_key_of_its_own(folder) -> None:
    first, second = Play(folder), Play(folder, number=1)
    assert first.key[-1000:] != second.key[-1000:]
    assert first.holder.state.secret != second.holder.state.secret


# --- the clients' checks -----------------------------------------------------------------------


@BOTH
def test_a_client_encrypts_for_its_own_model_and_a_valid_pair_of_keys_only(folder) -> None:
    play = Play(folder).offered()
    client, offer = play.clients[1], decode(play.offers[0].data, Offer)
    refused(client, 2, play.offers[0].data, "only the server")
    refused(client, SERVER, encode(replace(offer, application=bytes(32))), "model")
    refused(client, SERVER, encode(replace(offer, sealing_key=bytes(32))), "not a X25519")
    refused(client, SERVER, encode(replace(offer, sealing_key=b"")), "32 bytes")
    client.handle(Received(SERVER, play.offers[0].data))


@BOTH
def test_the_key_holder_cannot_open_what_clients_put_on_the_wire(folder) -> None:
    """Uploads are sealed for the server, so its key alone opens nothing."""
    play = Play(folder).ready()
    secret = play.holder.state.secret
    sealed = decode(play.uploads(1)[0], Upload).sealed
    (inside,) = play.encrypted()
    assert inside[:8] not in sealed
    with pytest.raises(DecodeError):
        play.engine.decrypt(secret, [sealed], 1)
    with pytest.raises(DecodeError):
        play.engine.decrypt(secret, [sealed[48:]], 1)


# --- dropouts ----------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(("stage", "reason"), [("join", "sent no key"), ("open", "opened no sum")])
def test_without_the_key_holder_there_is_no_sum_and_it_is_named(folder, stage, reason) -> None:
    parameters = folder.configure(N, 20, BITS, suite="X25519")
    session = session_of(folder.PROTOCOL, parameters)
    inputs = {u: random_values(u, 20, BITS) for u in range(1, N + 1)}
    faults = {(HOLDER, stage): Fault.VANISH}
    outcome = run(folder.PROTOCOL, session, inputs, SystemSource(), faults=faults)
    assert outcome.result is None
    assert reason in outcome.abort.reason
    assert outcome.abort.blame == (HOLDER,)


@BOTH
def test_a_client_that_stops_in_the_middle_of_its_upload_is_not_in_the_sum(folder) -> None:
    play = Play(folder).ready()
    sent = {u: play.uploads(u) for u in play.clients}
    for data in sent[3][:-1]:
        play.server.handle(Received(3, data))
    for u in (1, 2):
        for data in sent[u]:
            play.server.handle(Received(u, data))
    for envelope in play.server.handle(RoundClosed()):
        answers = play.holder.handle(Received(SERVER, envelope.data))
    play.server.handle(Received(HOLDER, answers[0].data))
    play.server.handle(RoundClosed())
    result = play.server.result
    assert result.contributors == (1, 2)
    assert dict(result.dropped) == {3: "upload"}
    assert result.total.tolist() == exact_sum(INPUTS, (1, 2), BITS)


@BOTH
def test_the_server_keeps_few_incomplete_uploads(folder) -> None:
    parameters = folder.configure(6, LENGTH, BITS, chunk=1, suite="X25519")
    session = session_of(folder.PROTOCOL, parameters)
    inputs = {u: random_values(u, LENGTH, BITS) for u in range(1, 7)}
    simulation = Simulation(
        folder.PROTOCOL, session, inputs, SystemSource(), options=Options(record=True)
    )
    simulation.step("join")
    offers = {e.to: e for e in simulation.transcript if e.sender == SERVER}
    first = {}
    for u in range(1, 7):
        client = simulation.parties[u]
        client.handle(Received(SERVER, offers[u].data))
        first[u] = client.handle(Contribute(inputs[u]))[0].data
    server = simulation.server
    for u in range(1, 5):
        server.handle(Received(u, first[u]))
    with pytest.raises(LocalError, match="4 uploads are incomplete"):
        server.handle(Received(5, first[5]))
    assert server.machine.unfinished == {1, 2, 3, 4}


# --- hostile bytes -----------------------------------------------------------------------------


def mutated(rng: random.Random, raw: bytes) -> bytes:
    """Cut, flipped, stretched, or with bytes of its own in the headers; often with a length that
    fits again, so that it gets further.
    """
    new = bytearray(raw)
    at = rng.randrange(len(new))
    match rng.randrange(6):
        case 0:
            del new[at:]
        case 1:
            new[at] ^= 1 << rng.randrange(8)
        case 2:
            new[rng.randrange(128)] = rng.randrange(256)
        case 3:
            new[at:at] = rng.randbytes(rng.randrange(1, 64))
        case 4:
            del new[at : at + rng.randrange(1, 64)]
        case 5:
            new[rng.randrange(16, 28)] = rng.randrange(256)
    if len(new) >= 16 and rng.random() < 0.7:
        new[8:16] = struct.pack("<Q", len(new))
    return bytes(new)


@BOTH
def test_no_bytes_crash_the_process_or_raise_anything_but_a_decode_error(folder) -> None:
    play = Play(folder)
    (good,) = play.encrypted()
    pair = play.engine.new_keys()
    rng = random.Random(1)  # noqa: S311 - which bytes are changed is no secret
    counts = {"accepted": 0, "refused": 0}
    for _ in range(400):
        try:
            match rng.randrange(3):
                case 0:
                    play.engine.add((good,), (mutated(rng, good),))
                case 1:
                    play.engine.check_public(mutated(rng, pair.public))
                case 2:
                    play.engine.decrypt(pair.secret, (mutated(rng, good),), N)
            counts["accepted"] += 1
        except DecodeError:
            counts["refused"] += 1
    assert min(counts.values()) > 10, counts


@BOTH
def test_a_small_object_cannot_become_a_large_one(folder) -> None:
    """One block of a run of bytes is 4 bytes long and 128 KiB when decompressed."""
    play = Play(folder)
    (good,) = play.encrypted()
    header, frame = good[:8], good[16:25]
    run_block = (1 << 17 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    bomb = frame + run_block * 100_000
    bomb = header + struct.pack("<Q", len(bomb) + 16) + bomb
    with pytest.raises(DecodeError, match="too many blocks"):
        play.engine.check((bomb,), 1)


@BOTH
def test_an_upload_that_cancels_the_others_is_refused_and_changes_nothing(folder) -> None:
    """Its author would have to know all of them; what SEAL makes of it is an error of ours."""
    play = Play(folder).ready()
    for data in play.uploads(2):
        play.server.handle(Received(2, data))
    first, *rest = play.server.state.total
    negative = play.engine._load(play.engine._no_keys, first).neg_()
    (opposite,) = dump(negative)
    play.to_server(1, play.sealed((opposite,)))
    for index, piece in enumerate(rest[:-1], start=1):
        play.to_server(1, play.sealed(piece, index))
    last = encode(play.sealed(rest[-1], len(rest)))
    refused(play.server, 1, last, "cancel each other")
