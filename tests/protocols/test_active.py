"""Active mode between honest parties, what it is built with, and what its server refuses."""

from itertools import product
from typing import Any

import pytest
from msgspec.structs import replace

from protocols import masking
from protocols.base import SERVER, Join, Received, Session
from protocols.driver import Fault, Options, run
from protocols.masking.bitmap import bitmap_of
from protocols.masking.keys import signed_survivors
from protocols.masking.messages import Confirmation, Upload
from secagg.codec import encode
from secagg.errors import LocalError, ParameterError, PeerError, ProtocolAborted
from secagg.rng import SeededSource, SystemSource
from secagg.seal import SystemSealer
from tests.protocols.active_support import (
    BITS,
    N,
    Round,
    active,
    identity,
    roster_of,
    session_with,
)
from tests.protocols.support import exact_sum, one_hot

SUITES = ("X25519", "MLKEM768-X25519")
SCHEMES = ("Ed25519", "ML-DSA-65")


def outcome_of(scheme: str = "Ed25519", faults: Any = None, **options: Any) -> Any:
    parameters = active(length=7, **options)
    everyone = range(1, parameters.clients + 1)
    inputs = {u: one_hot(u, 7, BITS) for u in everyone}
    signers = Options(signers={u: identity(u, scheme) for u in everyone})
    session = session_with(parameters, scheme=scheme)
    return inputs, run(
        masking.PROTOCOL, session, inputs, SystemSource(), faults=faults, options=signers
    )


@pytest.mark.parametrize(("suite", "scheme"), [*product(SUITES, SCHEMES)])
def test_the_sum_is_exact(suite: str, scheme: str) -> None:
    inputs, outcome = outcome_of(scheme, suite=suite)
    assert outcome.errors == ()
    assert outcome.result.contributors == (1, 2, 3, 4, 5)
    assert outcome.result.total.tolist() == exact_sum(inputs, inputs, BITS)


@pytest.mark.parametrize("stage", ["advertise", "share", "upload", "consistency", "unmask"])
@pytest.mark.parametrize("who", range(1, N + 1))
def test_one_may_vanish_at_any_stage(stage: str, who: int) -> None:
    inputs, outcome = outcome_of(faults={(who, stage): Fault.VANISH})
    left = set(inputs) - ({who} if stage in ("advertise", "share", "upload") else set())
    assert outcome.result.contributors == tuple(sorted(left))
    assert outcome.result.total.tolist() == exact_sum(inputs, left, BITS)
    assert dict(outcome.result.dropped) == {who: stage}


@pytest.mark.parametrize("clients", [2, 3, 4, 6, 7])
def test_every_small_cohort_by_default(clients: int) -> None:
    inputs, outcome = outcome_of(n=clients, corrupt=0)
    assert outcome.result.total.tolist() == exact_sum(inputs, inputs, BITS)


def test_a_long_vector_in_pieces() -> None:
    played = Round(active(length=40, chunk=16))
    played.finish(played.proofs())


# --- what it is built with -----------------------------------------------------------------


@pytest.mark.parametrize("n", range(2, 9))
def test_exactly_the_safe_thresholds_are_admitted(n: int) -> None:
    """2t > n + c, and two honest clients in every sum: Bonawitz et al. 2017, section 6."""
    for corrupt, threshold in product(range(n), range(1, n + 1)):
        safe = 2 * threshold > n + corrupt and threshold - corrupt >= 2
        try:
            chosen = active(n, corrupt=corrupt, threshold=threshold)
        except ParameterError:
            assert not safe
        else:
            assert safe
            assert chosen.floor >= chosen.threshold


def test_a_sparse_graph_is_refused_with_the_reason() -> None:
    with pytest.raises(ParameterError, match="active mode needs the complete graph"):
        replace(active(8), degree=6).check()


def made(me: int = 1, signer: int | None = 1, members: bool = True) -> Any:
    parameters = active()
    roster = roster_of(N)
    session = Session(
        "masking", parameters, bytes(32), roster.digest(), roster if members else None
    )
    key = None if signer is None else identity(signer)
    return masking.new_client(session, me, SeededSource(b""), SystemSealer(), key)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"signer": None}, "client 1 needs its identity"),
        ({"signer": 2}, "this identity is not that of member 1"),
        ({"signer": 9}, "this identity is not that of member 1"),
        ({"members": False}, "active mode needs the roster"),
        ({"me": 0}, "client 0 of 5"),
        ({"me": 6}, "client 6 of 5"),
    ],
)
def test_a_client_without_its_place_in_the_roster_is_not_made(options: Any, reason: str) -> None:
    with pytest.raises(LocalError, match=reason):
        made(**options)


def test_a_server_needs_the_roster_too() -> None:
    session = Session("masking", active(), bytes(32), roster_of(N).digest())
    with pytest.raises(LocalError, match="active mode needs the roster"):
        masking.new_server(session, SeededSource(b""))


def test_a_roster_of_another_size_or_digest_is_refused() -> None:
    with pytest.raises(ParameterError, match="a roster of 4 members for 5 clients"):
        Session("masking", active(), bytes(32), roster_of(4).digest(), roster_of(4))
    with pytest.raises(ParameterError, match="not that of the members"):
        Session("masking", active(), bytes(32), bytes(32), roster_of(N))


def test_a_session_is_joined_once() -> None:
    """A second advert under one session id is not made, whatever else the session says."""
    played = Round()
    played.clients[1].handle(Join())
    with pytest.raises(LocalError, match="already sent its messages of stage advertise"):
        played.party(1).handle(Join())
    other = Round(active(corrupt=0))
    other.journal = played.journal
    with pytest.raises(LocalError, match="already sent its messages of stage advertise"):
        other.party(1).handle(Join())


# --- what the server refuses ---------------------------------------------------------------


def server_refuses(played: Round, sender: int, body: Any, reason: str) -> None:
    before = played.server.snapshot()
    with pytest.raises(PeerError) as caught:
        played.server.handle(Received(sender, encode(body)))
    assert reason in caught.value.reason
    assert caught.value.peer == sender
    assert played.server.snapshot() == before


def test_an_advert_that_its_member_did_not_sign_is_refused() -> None:
    played = Round()
    ((sent,), (other,)) = (played.clients[u].handle(Join()) for u in (1, 2))
    (honest, of_2) = (played.machine(u).state.advert for u in (1, 2))
    assert (sent.to, other.to) == (SERVER, SERVER)
    body = masking.messages.Advert(
        played.session.context, honest.nonce, honest.channel_key, honest.signature
    )
    for lie in (
        replace(body, signature=b""),
        replace(body, signature=bytes(64)),
        replace(body, signature=of_2.signature),
        replace(body, nonce=bytes(32)),
        replace(body, channel_key=of_2.channel_key),
    ):
        server_refuses(played, 1, lie, "a signature does not verify")
    server_refuses(played, 2, body, "a signature does not verify")
    played.server.handle(Received(1, sent.data))


def test_a_confirmation_of_anything_else_is_refused() -> None:
    played = Round()
    told = played.survivor_sets(played.inboxes(), without={4})
    context1 = told[1].context
    right = signed_survivors(context1, told[1].survivors)
    wrong = signed_survivors(context1, bitmap_of((1, 2, 3, 4, 5), N))
    elsewhere = signed_survivors(bytes(32), told[1].survivors)
    for what, key in ((wrong, 1), (elsewhere, 1), (right, 2)):
        body = Confirmation(context1, identity(key).sign(what))
        server_refuses(played, 1, body, "a signature does not verify")
    server_refuses(played, 1, Confirmation(context1, b""), "a signature does not verify")
    server_refuses(played, 4, Confirmation(context1, identity(4).sign(right)), "did not upload")
    (sent,) = played.tell(1, told[1])
    played.hear([sent])
    server_refuses(played, 1, played.replies[1][-1], "confirmed twice")


def test_a_client_that_did_not_confirm_is_not_asked_and_not_heard() -> None:
    played = Round()
    proofs = played.proofs(without={2})
    assert set(proofs) == {1, 3, 4, 5}
    played.hear(played.tell(1, proofs[1]))
    server_refuses(played, 2, played.replies[1][-1], "was not asked")
    played.finish({u: proofs[u] for u in (3, 4, 5)})


def test_too_few_confirmations_spend_nothing() -> None:
    """The server aborts by itself: nobody is asked for a share."""
    played = Round()
    told = played.survivor_sets()
    with pytest.raises(ProtocolAborted, match="only 3 clients confirmed the survivors, fewer"):
        played.proofs(told, without={1, 2})


def test_late_and_repeated_messages_change_nothing() -> None:
    played = Round()
    inboxes = played.inboxes()
    told = played.survivor_sets(inboxes, without={4})
    played.tell(4, inboxes[4])
    late = Upload(told[1].context, 0, b"", b"")
    server_refuses(played, 4, late, "unexpected Upload")
    played.finish(played.proofs(told))
