"""Stages 3 and 4 against a server that lies: which sum is confirmed, and who answers for it.

n = 5, c = 1, t = 4. Client 1 is the victim, client 5 is corrupt and signs whatever it is asked.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from itertools import combinations
from typing import Any

import pytest
from msgspec.structs import replace

from protocols.base import SERVER, Contribute, Received
from protocols.masking.bitmap import bitmap_of
from protocols.masking.client_state import Confirmed, Done
from protocols.masking.keys import signed_advert, signed_survivors
from protocols.masking.messages import Signed, SurvivorSet, UnmaskProof, UnmaskRequest
from secagg.codec import decode, encode
from secagg.errors import LocalError, PeerError, ProtocolAborted
from tests.protocols.active_support import (
    N,
    Round,
    aborts,
    active,
    holds_none,
    identity,
    ignores,
    reachable,
    secrets_of,
)
from tests.protocols.support import begin

VICTIM = 1
NOT_A_SET = "not a set of the 5 clients"
NO_SHARES = "survivors of whom we have no shares"


def at_consistency(*, without: Collection[int] = (), lost: int = 0) -> tuple[Round, SurvivorSet]:
    """Everybody else uploaded; `lost` did not even share."""
    played = Round()
    cohorts = played.cohorts()
    inboxes = played.inboxes(cohorts, without={lost} if lost else ())
    return played, played.survivor_sets(inboxes, without=without)[VICTIM]


def set_of(told: SurvivorSet, *survivors: int) -> SurvivorSet:
    return replace(told, survivors=bitmap_of(survivors, N))


# --- stage 3 -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bitmap", "reason"),
    [
        (b"", NOT_A_SET),
        (b"\x1f\x00", NOT_A_SET),
        (b"\x3f", NOT_A_SET),
        (b"\xff", NOT_A_SET),
        (b"\x00", "we uploaded, and are not among the survivors"),
        (bitmap_of((2, 3, 4, 5), N), "we uploaded, and are not among the survivors"),
        (bitmap_of((1, 2, 3), N), "only 3 clients uploaded, fewer than 4"),
        (bitmap_of((1,), N), "only 1 clients uploaded, fewer than 4"),
    ],
)
def test_a_set_that_cannot_be_the_survivors_is_not_signed(bitmap: bytes, reason: str) -> None:
    played, told = at_consistency()
    error = aborts(played, VICTIM, replace(told, survivors=bitmap), reason)
    assert error.stage == "consistency"


def test_a_set_with_somebody_who_did_not_share_is_not_signed() -> None:
    """U3 larger than U2."""
    played, told = at_consistency(lost=4)
    aborts(played, VICTIM, set_of(told, 1, 2, 3, 4, 5), NO_SHARES)


def test_the_floor_counts_where_it_is_above_the_threshold() -> None:
    played = Round(active(floor=5))
    told = played.survivor_sets()[VICTIM]
    aborts(played, VICTIM, set_of(told, 1, 2, 3, 4), "only 4 clients uploaded, fewer than 5")


def test_one_set_is_signed_in_a_session() -> None:
    played, told = at_consistency()
    played.tell(VICTIM, told)
    for survivors in ((1, 2, 3, 4, 5), (1, 2, 3, 4), (1, 2, 3, 5)):
        ignores(played, VICTIM, set_of(told, *survivors), "unexpected SurvivorSet")


def test_no_set_is_signed_before_the_upload() -> None:
    """A request before the upload could name who is asked as dropped."""
    played = Round()
    inboxes = played.inboxes()
    told = SurvivorSet(inboxes[1].context, bitmap_of((1, 2, 3, 4), N))
    proof = UnmaskProof(told.context, ())
    for body in (told, proof):
        ignores(played, VICTIM, body, f"unexpected {type(body).__name__}")
    played.tell(VICTIM, inboxes[1])
    for body in (told, proof):
        ignores(played, VICTIM, body, f"unexpected {type(body).__name__}")


def test_the_question_of_the_other_mode_does_not_exist() -> None:
    """Nobody can be asked for shares by a list that nobody signed."""
    played, told = at_consistency()
    request = UnmaskRequest(told.context, (1, 2, 3, 4, 5), 5)
    ignores(played, VICTIM, request, "not a valid encoding")
    played.tell(VICTIM, told)
    ignores(played, VICTIM, request, "not a valid encoding")


# --- stage 4 -------------------------------------------------------------------------------

Sign = Callable[[Round, SurvivorSet, int], bytes]


def rightly(_played: Round, told: SurvivorSet, number: int) -> bytes:
    return identity(number).sign(signed_survivors(told.context, told.survivors))


def other_set(_played: Round, told: SurvivorSet, number: int) -> bytes:
    return identity(number).sign(signed_survivors(told.context, bitmap_of((1, 2, 3, 4), N)))


def other_session(played: Round, told: SurvivorSet, number: int) -> bytes:
    other = Round(number=9)
    context = other.inboxes()[1].context
    return identity(number).sign(signed_survivors(context, told.survivors))


def other_purpose(played: Round, told: SurvivorSet, number: int) -> bytes:
    advert = Round().cohorts()[1].neighbours[0]
    return identity(number).sign(signed_advert(played.session.context, advert))


def wrong_key(_played: Round, told: SurvivorSet, number: int) -> bytes:
    return identity(number % 5 + 1).sign(signed_survivors(told.context, told.survivors))


def proof_by(
    played: Round, told: SurvivorSet, parties: Sequence[int], last: Sign = rightly
) -> UnmaskProof:
    """Signatures of these; the last one is made with `last`."""
    ways = [last if v == max(parties) else rightly for v in parties]
    each = zip(parties, ways, strict=True)
    return UnmaskProof(
        told.context, tuple(Signed(v, sign(played, told, v % 10)) for v, sign in each)
    )


ORDER = "signatures that are not of distinct survivors, in order"


@pytest.mark.parametrize(
    ("parties", "last", "reason"),
    [
        ((), rightly, "only 0 survivors confirmed, fewer than 4"),
        ((1, 2, 3), rightly, "only 3 survivors confirmed, fewer than 4"),
        ((1, 2, 2, 3), rightly, ORDER),
        ((1, 2, 3, 3), rightly, ORDER),
        ((2, 1, 3, 4), rightly, ORDER),
        ((1, 2, 3, 6), rightly, ORDER),
        ((1, 2, 3, 2**31 - 2), rightly, ORDER),
        ((1, 2, 3, 4), other_set, "client 4 on the survivors: a signature does not verify"),
        ((1, 2, 3, 5), other_set, "client 5 on the survivors: a signature does not verify"),
        ((1, 2, 3, 4), other_session, "client 4 on the survivors: a signature does not verify"),
        ((1, 2, 3, 4), other_purpose, "client 4 on the survivors: a signature does not verify"),
        ((1, 2, 3, 4), wrong_key, "client 4 on the survivors: a signature does not verify"),
        ((1, 2, 3, 4, 5), wrong_key, "client 5 on the survivors: a signature does not verify"),
        ((1, 2, 3, 4), lambda *_: b"", "client 4 on the survivors: a signature does not verify"),
        ((1, 2, 3, 4), lambda *_: bytes(64), "client 4 on the survivors: a signature does not"),
    ],
)
def test_a_proof_that_is_none_is_not_answered(
    parties: Sequence[int], last: Sign, reason: str
) -> None:
    played, told = at_consistency()
    played.tell(VICTIM, told)
    error = aborts(played, VICTIM, proof_by(played, told, parties, last), reason)
    assert error.stage == "unmask"


def test_the_signature_of_a_member_that_is_no_survivor_does_not_count() -> None:
    played, told = at_consistency(without={4})
    assert told.survivors == bitmap_of((1, 2, 3, 5), N)
    played.tell(VICTIM, told)
    aborts(played, VICTIM, proof_by(played, told, (1, 2, 3, 4)), ORDER)


def test_a_right_proof_is_answered_once_and_leaves_no_secret() -> None:
    played, told = at_consistency()
    played.tell(VICTIM, told)
    secrets = secrets_of(played.machine(VICTIM).state)
    proof = proof_by(played, told, (1, 2, 3, 5))
    assert len(played.tell(VICTIM, proof)) == 1
    assert isinstance(played.machine(VICTIM).state, Done)
    assert not secrets & set(reachable(played.machine(VICTIM)))
    ignores(played, VICTIM, proof, "unexpected UnmaskProof")
    ignores(played, VICTIM, told, "unexpected SurvivorSet")


def test_a_proof_before_the_own_confirmation_is_not_looked_at() -> None:
    """Whatever t others signed: without an own signature there is no set to answer for."""
    played, told = at_consistency()
    ignores(played, VICTIM, proof_by(played, told, (2, 3, 4, 5)), "unexpected UnmaskProof")


@pytest.mark.parametrize("group", [g for k in (1, 2, 3) for g in combinations((1, 2, 3, 4), k)])
def test_two_sets_of_survivors_are_never_both_answered(group: Sequence[int]) -> None:
    """A split: these are shown everybody, the others everybody but one of the first group."""
    played, told = at_consistency()
    left_out = group[0]
    sets = {
        u: set_of(told, *((1, 2, 3, 4, 5) if u in group else sorted({1, 2, 3, 4, 5} - {left_out})))
        for u in (1, 2, 3, 4)
    }
    signed: dict[bytes, dict[int, bytes]] = {s.survivors: {} for s in sets.values()}
    for u, each in sets.items():
        (sent,) = played.tell(u, each)
        body = decode(sent.data, played.server.receivable)
        signed[each.survivors][u] = body.signature
    for bitmap, by in signed.items():
        by[5] = rightly(played, replace(told, survivors=bitmap), 5)
    answered = {each.survivors for u, each in sets.items() if _answers(played, u, signed)}
    assert len(answered) <= 1
    big = [each for each, by in signed.items() if len(by) >= 4]
    assert answered == set(big)


def _answers(played: Round, u: int, signed: dict[bytes, dict[int, bytes]]) -> bool:
    """Whether client u answers any proof that can be made of what was signed."""
    state = played.machine(u).state
    assert isinstance(state, Confirmed)
    for by in signed.values():
        for parties in combinations(sorted(by), min(4, len(by))):
            proof = UnmaskProof(state.context, tuple(Signed(v, by[v]) for v in parties))
            fresh = played.party(u)
            fresh.machine.restore(played.machine(u).snapshot())
            with suppress(ProtocolAborted, PeerError):
                fresh.machine.handle(_received(proof))
                return True
    return False


def _received(body: Any) -> Received:
    return Received(SERVER, encode(body))


def test_nobody_gives_a_share_of_somebody_for_whom_it_did_not_sign() -> None:
    """The answer has exactly one share of each member of U2, by the set that was signed."""
    played, told = at_consistency(without={4})
    peers = {p.party: p for p in played.machine(VICTIM).state.peers}
    own = played.machine(VICTIM).state.own_share
    played.tell(VICTIM, told)
    (sent,) = played.tell(VICTIM, proof_by(played, told, (1, 2, 3, 5)))
    answer = decode(sent.data, played.server.receivable)
    alive = [own, *(peers[v].self_share for v in (2, 3, 5))]
    assert answer.self_shares == b"".join(alive)
    assert answer.mask_shares == peers[4].mask_share
    assert peers[4].self_share not in sent.data
    assert not any(peers[v].mask_share in sent.data for v in (2, 3, 5))


# --- across restarts and forks of the journal ----------------------------------------------


def test_a_restart_repeats_bytes_and_makes_nothing_new() -> None:
    played, told = at_consistency()
    (first,) = played.tell(VICTIM, told)
    assert played.restart(VICTIM) == (first,)
    ignores(played, VICTIM, set_of(told, 1, 2, 3, 4), "unexpected SurvivorSet")
    (answer,) = played.tell(VICTIM, proof_by(played, told, (1, 2, 3, 5)))
    assert played.restart(VICTIM) == (answer,)
    ignores(played, VICTIM, proof_by(played, told, (1, 2, 3, 4)), "unexpected UnmaskProof")


def test_of_two_machines_with_one_journal_one_signs() -> None:
    """A fork: both took up the same state, and are shown two sets."""
    played, told = at_consistency()
    twin = played.party(VICTIM)
    twin.resume()
    played.tell(VICTIM, told)
    other = _received(set_of(told, 1, 2, 3, 4))
    with pytest.raises(LocalError, match="already sent its messages of stage consistency"):
        twin.handle(other)
    assert twin.machine.state.stage == "consistency"


def test_of_two_machines_with_one_journal_one_answers() -> None:
    played, told = at_consistency()
    played.tell(VICTIM, told)
    twin = played.party(VICTIM)
    twin.resume()
    proof = proof_by(played, told, (1, 2, 3, 5))
    played.tell(VICTIM, proof)
    with pytest.raises(LocalError, match="already sent its messages of stage unmask"):
        twin.handle(_received(proof))


def test_of_two_machines_with_one_journal_one_uploads() -> None:
    """Two inboxes for two machines would be the same input under two sets of masks."""
    played = Round()
    inboxes = played.inboxes()
    twin = played.party(VICTIM)
    twin.resume()
    played.tell(VICTIM, inboxes[VICTIM])
    fewer = replace(inboxes[VICTIM], delivered=inboxes[VICTIM].delivered[:3])
    twin.handle(_received(fewer))
    begin(twin)
    played.clients[VICTIM].handle(Contribute(played.inputs[VICTIM]))
    with pytest.raises(LocalError, match="already sent its messages of stage upload"):
        twin.handle(Contribute(played.inputs[VICTIM]))


def test_after_an_abort_a_restart_stays_aborted_and_a_twin_is_stopped() -> None:
    played, told = at_consistency()
    twin = played.party(VICTIM)
    twin.resume()
    aborts(played, VICTIM, replace(told, survivors=b""), NOT_A_SET)
    with pytest.raises(LocalError, match="or closed it"):
        twin.handle(_received(told))


def test_the_secrets_of_one_stage_are_gone_in_the_next() -> None:
    played = Round()
    cohorts = played.cohorts()
    bound = secrets_of(played.machine(1).state)
    inboxes = played.inboxes(cohorts)
    shared = secrets_of(played.machine(1).state)
    played.survivor_sets(inboxes)
    uploaded = secrets_of(played.machine(1).state)
    assert bound <= shared
    holds_none(played.clients[1], (bound | shared) - uploaded)


# --- only the server speaks for the server --------------------------------------------------


@pytest.mark.parametrize("sender", [1, 2, 5, 6, 2**31])
def test_what_the_server_should_say_is_not_taken_from_anybody_else(sender: int) -> None:
    """Word for word right, and from the wrong channel: whoever sent it is blamed, and no more."""
    played = Round()
    cohorts = played.cohorts()
    why = "only the server sends this"
    assert ignores(played, VICTIM, cohorts[1], why, sender).peer == sender
    inboxes = played.inboxes(cohorts)
    assert ignores(played, VICTIM, inboxes[1], why, sender).peer == sender
    told = played.survivor_sets(inboxes)[1]
    assert ignores(played, VICTIM, told, why, sender).peer == sender
    played.tell(VICTIM, told)
    proof = proof_by(played, told, (1, 2, 3, 5))
    assert ignores(played, VICTIM, proof, why, sender).peer == sender
    assert len(played.tell(VICTIM, proof)) == 1
