"""Targets: each machine in each state, what is inside a seal, and whole rounds.

A machine that raises anything but `ProtocolAborted` stands where it stood; one that aborts
holds nothing; no message of an exception has a secret in it. A round ends in the exact sum or
in an abort, whatever one client says, except that its own vector is its own word.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from random import Random
from typing import Any

from msgspec.structs import replace

from protocols.base import SERVER, Aborted, Contribute, Envelope, Received, RoundClosed
from protocols.masking import keys
from protocols.masking.messages import Delivered, Shares
from secagg.codec import decode, encode
from secagg.errors import LocalError, PeerError, ProtocolAborted, SecaggError
from secagg.kdf import DIGEST_BYTES
from secagg.seal import SystemSealer, seal_between
from secagg.shamir import SHARE_BYTES
from tests.fuzz.decoders import Target
from tests.fuzz.mutate import changed_bytes, changed_message, must
from tests.fuzz.sessions import Held, Recorded, parameters, recorded, state_name
from tests.protocols.active_support import Round, pair_of
from tests.protocols.support import begin, exact_sum

Change = Callable[[Random, bytes], bytes]

CLIENT = 1
STATES = {
    False: {
        CLIENT: ("Idle", "Advertised", "Shared", "Ready", "Bound", "Uploaded", "Done"),
        SERVER: ("Advertising", "Sharing", "Prepared", "Collecting", "Unmasking", "Finished"),
    },
    True: {
        CLIENT: (
            *("Idle", "Advertised", "Shared", "Ready", "Bound"),
            *("Unconfirmed", "Confirmed", "Done"),
        ),
        SERVER: (
            *("Advertising", "Sharing", "Prepared", "Collecting", "Confirming"),
            *("Unmasking", "Finished"),
        ),
    },
}


def in_state(session: Callable[[], Recorded], party: int, name: str, change: Change) -> Target:
    """A machine in this state gets a message that is due or not, from whom it is due or not.

    Where it waits for nobody, it takes no message of anybody.
    """

    def run(rng: Random) -> None:
        at, corpus = session().held[party, name], session().corpus
        machine = at.machine
        if state_name(machine) != name or rng.random() < 0.01:
            machine.restore(at.snapshot)
        honest = at.due if at.due and rng.random() < 0.8 else rng.choice(corpus)
        sender = at.sender if rng.random() < 0.9 else rng.choice((0, 1, 2, 3, 4, 2**31))
        data = honest if not at.due and rng.random() < 0.2 else change(rng, honest)
        hand_over(at, Received(sender, data))
        assert at.due, "a message was taken where none is due"

    return run


def hand_over(at: Held, event: Received) -> tuple[Envelope, ...]:
    """What the machine answers; afterwards it stands where it stood."""
    machine = at.machine
    before = machine.state
    try:
        return machine.handle(event)
    except ProtocolAborted as error:
        must(at.due != b"")
        must(isinstance(machine.state, Aborted))
        _says_nothing(error, at)
        raise
    except SecaggError as error:
        must(not isinstance(error, LocalError))  # no peer can make us misuse ourselves
        must(machine.state is before)
        _says_nothing(error, at)
        raise
    finally:
        if machine.state is not before:
            machine.restore(at.snapshot)


def _says_nothing(error: SecaggError, at: Held) -> None:
    text = f"{error} {vars(error)}"
    assert not any(secret.hex() in text or repr(secret)[2:-1] in text for secret in at.secrets)


# --- inside the seal -----------------------------------------------------------------------


def inside_the_seal(is_active: bool, suite: str) -> Target:
    """Another plaintext, sealed as client 2 would: client 1 refuses it, or goes on to the end."""

    @cache
    def prepared() -> tuple[Round, Any, bytes, Any]:
        played = Round(parameters(is_active=is_active, suite=suite))
        inbox = played.inboxes()[1]
        pairs = pair_of(played, 1), pair_of(played, 2)
        return played, inbox, played.machine(1).snapshot(), pairs

    def run(rng: Random) -> None:
        played, inbox, snapshot, (own, other) = prepared()
        agreed = other.agree(own.public)
        honest = bytes(DIGEST_BYTES) + (b"\1\2\3\4" * 9 + b"\0\0\0\1" * 9)
        plaintext = _changed_plaintext(rng, honest)
        info = keys.shares_info(inbox.context, 2, 1)
        sealed = seal_between(agreed, own.public, plaintext, info, SystemSealer())
        told = replace(inbox, delivered=(Delivered(2, sealed), *inbox.delivered[1:]))
        machine = played.machine(1)
        machine.restore(snapshot)
        machine.handle(Received(SERVER, encode(told)))
        begin(machine)
        assert len(machine.handle(Contribute(played.inputs[1]))) == 1

    return run


def _changed_plaintext(rng: Random, honest: bytes) -> bytes:
    match rng.randrange(4):
        case 0:
            return rng.randbytes(DIGEST_BYTES + 2 * SHARE_BYTES)
        case 1:
            return rng.randbytes(rng.randrange(200))
    return changed_bytes(rng, honest)


# --- whole rounds --------------------------------------------------------------------------


def whole_round(is_active: bool) -> Target:
    """One message of client 2, or what it seals for client 1, is another; client 3 may vanish."""

    def run(rng: Random) -> None:
        played = Round(parameters(is_active=is_active))
        stages = ("advert", "shares", "sealed", "upload", "answer", *["confirm"] * is_active)
        liar = _Liar(played, rng, rng.choice(stages))
        vanishing = {3} if rng.random() < 0.5 else set()
        try:
            _play(played, liar, vanishing, is_active)
        except ProtocolAborted as error:
            must(not error.blame or 2 in error.blame)
            raise
        result = played.server.result
        if liar.at != "upload":
            bits = played.parameters.modulus_bits
            assert result.total.tolist() == exact_sum(played.inputs, result.contributors, bits)

    return run


class _Liar:
    """Client 2, one of whose messages is changed on its way."""

    def __init__(self, played: Round, rng: Random, at: str) -> None:
        self.played, self.rng, self.at = played, rng, at

    def passes(self, u: int, stage: str, data: bytes) -> None:
        """The server hears it; what it refuses, it has not heard."""
        if u == 2 and stage == self.at:
            data = changed_message(self.rng, data)
        if u == 2 and (stage, self.at) == ("shares", "sealed"):
            data = self._sealed_otherwise(data)
        try:
            self.played.server.handle(Received(u, data))
        except PeerError as error:
            must(error.peer == u)

    def _sealed_otherwise(self, data: bytes) -> bytes:
        body = decode(data, Shares)
        own, to = pair_of(self.played, 2), pair_of(self.played, 1).public
        info = keys.shares_info(body.context, 2, 1)
        plaintext = _changed_plaintext(self.rng, bytes(DIGEST_BYTES + 2 * SHARE_BYTES))
        sealed = seal_between(own.agree(to), to, plaintext, info, SystemSealer())
        return encode(replace(body, sealed=(sealed, *body.sealed[1:])))


def _play(played: Round, liar: _Liar, vanishing: set[int], is_active: bool) -> None:
    for u, sent in played.adverts().items():
        liar.passes(u, "advert", sent[0].data)
    told = played.close()
    stages = ("shares", "upload", *["confirm"] * is_active, "answer")
    for stage in stages:
        gone = vanishing if stage in ("upload", "confirm", "answer") else set()
        for u in [u for u in told if u not in gone]:
            try:
                sent = played.tell(u, told[u])
                if stage == "upload":
                    sent = played.clients[u].handle(Contribute(played.inputs[u]))
            except (PeerError, ProtocolAborted):
                continue  # this client takes no further part
            for each in sent:
                liar.passes(u, stage, each.data)
        closed = played.server.handle(RoundClosed())
        begin(played.server)
        told = {e.to: decode(e.data, played.machine(1).receivable) for e in closed}


TARGETS: Mapping[str, Target] = {
    **{
        f"{'active ' if is_active else ''}{name}": in_state(
            partial(recorded, is_active), party, name, changed_message
        )
        for is_active, parties in STATES.items()
        for party, names in parties.items()
        for name in names
    },
    **{
        f"inside the seal, {suite}{', active' if is_active else ''}": inside_the_seal(
            is_active, suite
        )
        for is_active in (False, True)
        for suite in ("X25519", "MLKEM768-X25519")
    },
    "a whole round": whole_round(False),
    "a whole round, active": whole_round(True),
}
