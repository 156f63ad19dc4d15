"""Stage 1 against a server that lies: what clients sealed for each other.

Client 1 is the victim, client 5 is corrupt. Nobody but the two ends of an edge can make what
one of them opens; whatever else is delivered ends the session for the victim, before it
uploads. What is missing is a dropout, as long as t are left.
"""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from protocols.base import Contribute, RoundClosed
from protocols.masking import keys
from protocols.masking.messages import Cohort, Delivered, Inbox
from secagg.codec import decode
from secagg.errors import PeerError, ProtocolAborted
from secagg.kdf import DIGEST_BYTES
from secagg.seal import HpkeSealer, seal_between, suite
from secagg.shamir import SHARE_BYTES
from tests.protocols.active_support import (
    N,
    Round,
    aborts,
    active,
    adverts_of,
    cohort_of,
    forged,
    ignores,
    inbox_of,
    pair_of,
    sealed_for,
)

VICTIM = 1
SUITES = ("X25519", "MLKEM768-X25519")
Lie = Callable[[Round, Inbox], Inbox]
CLOSED = "the delivery of client 2: a sealed message does not open"
ORDER = "deliveries that are not from distinct neighbours, in order"


def instead(inbox: Inbox, *others: Delivered) -> Inbox:
    """The inbox with other deliveries from these senders."""
    kept = {d.sender: d for d in inbox.delivered} | {d.sender: d for d in others}
    return inbox_of(inbox.context, kept.values())


def as_2(sealed: Callable[[Round, Inbox], bytes]) -> Lie:
    return lambda played, inbox: instead(inbox, Delivered(2, sealed(played, inbox)))


def servers_key(played: Round, inbox: Inbox) -> Inbox:
    named = suite(played.parameters.suite)
    pair = named.key_pair(b"s" * named.seed_bytes)
    return instead(inbox, forged(played, VICTIM, 2, pair))


def corrupt_key(played: Round, inbox: Inbox) -> Inbox:
    return instead(inbox, forged(played, VICTIM, 2, pair_of(played, 5)))


def without_agreement(played: Round, inbox: Inbox) -> Inbox:
    """What a stranger can seal: HPKE to the victim's public key, with the public info."""
    key = pair_of(played, VICTIM).public
    info = keys.shares_info(inbox.context, 2, VICTIM)
    plaintext = bytes(DIGEST_BYTES + 2 * SHARE_BYTES)
    return instead(inbox, Delivered(2, HpkeSealer().seal(key, plaintext, info)))


def agreement_of_zeros(played: Round, inbox: Inbox) -> Inbox:
    key = pair_of(played, VICTIM).public
    info = keys.shares_info(inbox.context, 2, VICTIM)
    plaintext = bytes(DIGEST_BYTES + 2 * SHARE_BYTES)
    sealed = seal_between(bytes(32), key, plaintext, info, HpkeSealer())
    return instead(inbox, Delivered(2, sealed))


def posted(played: Round, dealer: int, to: int) -> bytes:
    """What this client sealed for that one."""
    (shares,) = played.replies[dealer][1:2]
    return sealed_for(to, dealer, shares, range(1, N + 1))


def from_another_session(**options: Any) -> Lie:
    def sealed(_played: Round, _inbox: Inbox) -> bytes:
        other = Round(**options)
        other.inboxes()
        return posted(other, 2, VICTIM)

    return as_2(sealed)


def same_keys_another_model(played: Round, inbox: Inbox) -> Inbox:
    """The same adverts, bound to another model: the same seeds in another context1."""
    other = Round(played.parameters, application=bytes(32))
    other.inboxes()
    assert pair_of(other, 2).public == pair_of(played, 2).public
    return instead(inbox, Delivered(2, posted(other, 2, VICTIM)))


def flipped(at: int) -> Lie:
    def sealed(played: Round, _inbox: Inbox) -> bytes:
        raw = bytearray(posted(played, 2, VICTIM))
        raw[at] ^= 1
        return bytes(raw)

    return as_2(sealed)


def exchanged(played: Round, inbox: Inbox) -> Inbox:
    two, three = Delivered(3, posted(played, 2, 1)), Delivered(2, posted(played, 3, 1))
    return instead(inbox, two, three)


def only(*senders: int) -> Lie:
    def lie(_played: Round, inbox: Inbox) -> Inbox:
        of = {d.sender: d for d in inbox.delivered}
        known = {**of, 1: replace(of[2], sender=1), 6: replace(of[2], sender=6)}
        return Inbox(inbox.context, tuple(known[v] for v in senders))

    return lie


LIES: dict[str, tuple[Lie, str]] = {
    "made with the server's own key": (servers_key, CLOSED),
    "made with a corrupt client's key": (corrupt_key, CLOSED),
    "made with public keys only": (without_agreement, CLOSED),
    "made as if zeros had been agreed on": (agreement_of_zeros, CLOSED),
    "reflected: our own to that client": (as_2(lambda r, _i: posted(r, VICTIM, 2)), CLOSED),
    "of the same dealer to another": (as_2(lambda r, _i: posted(r, 2, 3)), CLOSED),
    "of another dealer to us": (as_2(lambda r, _i: posted(r, 3, VICTIM)), CLOSED),
    "of two dealers, exchanged": (exchanged, CLOSED),
    "of an older session": (from_another_session(number=9), CLOSED),
    "of a session for another model": (same_keys_another_model, CLOSED),
    "nothing": (as_2(lambda _r, _i: b""), CLOSED),
    "a tag's length of zeros": (as_2(lambda _r, _i: bytes(16)), CLOSED),
    "cut off": (as_2(lambda r, _i: posted(r, 2, VICTIM)[:-1]), CLOSED),
    "with a byte more": (as_2(lambda r, _i: posted(r, 2, VICTIM) + b"\0"), CLOSED),
    "twice": (as_2(lambda r, _i: posted(r, 2, VICTIM) * 2), CLOSED),
    "a bit of the first byte": (flipped(0), CLOSED),
    "a bit of the middle": (flipped(50), CLOSED),
    "a bit of the tag": (flipped(-1), CLOSED),
    "too few": (only(2, 3), "only 3 neighbours shared their keys, fewer than 4"),
    "none": (only(), "only 1 neighbours shared their keys, fewer than 4"),
    "one sender twice": (only(2, 2, 3, 4), ORDER),
    "out of order": (only(3, 2, 4, 5), ORDER),
    "from ourselves": (only(1, 2, 3, 4), ORDER),
    "from no member": (only(2, 3, 4, 6), ORDER),
}


@pytest.mark.parametrize("suite_name", SUITES)
@pytest.mark.parametrize("name", LIES)
def test_a_delivery_that_is_a_lie_ends_it(name: str, suite_name: str) -> None:
    played = Round(active(suite=suite_name))
    inboxes = played.inboxes()
    lie, reason = LIES[name]
    error = aborts(played, VICTIM, lie(played, inboxes[VICTIM]), reason)
    assert error.stage == "upload"
    assert len(played.replies[VICTIM]) == 2, "an advert and shares: no upload"


@pytest.mark.parametrize("suite_name", SUITES)
def test_what_two_ends_sealed_opens_so_the_tests_above_are_about_something(suite_name: str) -> None:
    """Even a forgery opens, once it is made with the key of the one that it is said to be of."""
    played = Round(active(suite=suite_name))
    inboxes = played.inboxes()
    honest = forged(played, VICTIM, 2, pair_of(played, 2))
    assert played.tell(VICTIM, instead(inboxes[VICTIM], honest)) == ()


@pytest.mark.parametrize("suite_name", SUITES)
@pytest.mark.parametrize(
    ("plaintext", "reason"),
    [
        (b"", "not an edge's secret and two shares"),
        (bytes(DIGEST_BYTES + 2 * SHARE_BYTES - 1), "not an edge's secret and two shares"),
        (bytes(DIGEST_BYTES + 2 * SHARE_BYTES + 1), "not an edge's secret and two shares"),
        (bytes(DIGEST_BYTES) + b"\xff" * 2 * SHARE_BYTES, "a limb that is not below the prime"),
        (bytes(DIGEST_BYTES + SHARE_BYTES) + b"\xff" * SHARE_BYTES, "not below the prime"),
    ],
)
def test_what_a_corrupt_member_sealed_wrongly_is_found_before_the_upload(
    suite_name: str, plaintext: bytes, reason: str
) -> None:
    """A share that is none would be returned in good faith, and its holder be blamed for it."""
    played = Round(active(suite=suite_name))
    inbox = played.inboxes()[VICTIM]
    key = pair_of(played, VICTIM).public
    agreed = pair_of(played, 5).agree(key)
    info = keys.shares_info(inbox.context, 5, VICTIM)
    sealed = seal_between(agreed, key, plaintext, info, HpkeSealer())
    error = aborts(played, VICTIM, instead(inbox, Delivered(5, sealed)), reason)
    assert "the delivery of client 5" in error.reason


@pytest.mark.parametrize("lost", [2, 3, 4, 5])
def test_a_missing_delivery_is_a_dropout_and_such_a_sum_is_not_confirmed_with_it(lost: int) -> None:
    """U2 may be another for each client: who has no shares of somebody does not sign for it."""
    played = Round()
    inboxes = played.inboxes()
    inboxes[VICTIM] = only(*sorted({2, 3, 4, 5} - {lost}))(played, inboxes[VICTIM])
    played.tell(VICTIM, inboxes[VICTIM])
    told = {}
    for u in played.everyone:
        if u != VICTIM:
            played.tell(u, inboxes[u])
            played.hear(played.clients[u].handle(Contribute(played.inputs[u])))
    (upload,) = played.clients[VICTIM].handle(Contribute(played.inputs[VICTIM]))
    with pytest.raises(PeerError, match="bytes of links"):
        played.hear([upload])
    told = played.close()[2]
    everyone = replace(told, survivors=bytes([0b11111]))
    aborts(played, VICTIM, everyone, "survivors of whom we have no shares")


def test_different_models_end_in_an_abort_and_no_upload() -> None:
    """Pasquini et al., CCS 2022: the victim's update cannot be singled out by another model."""
    other = bytes(reversed(range(32)))
    played = Round(applications={VICTIM: other})
    cohorts = played.cohorts()
    for u in (2, 3, 4, 5):
        played.hear(played.tell(u, cohorts[u]))
    hint = replace(cohorts[VICTIM], application=other)
    (sent,) = played.tell(VICTIM, hint)
    with pytest.raises(PeerError, match="Shares of another session"):
        played.hear([sent])
    context = played.machine(VICTIM).state.context
    inbox = played.close()[2]
    assert context != inbox.context
    told = Inbox(context, tuple(Delivered(v, posted(played, v, 1)) for v in (2, 3, 4, 5)))
    aborts(played, VICTIM, told, CLOSED)


def test_the_hint_names_the_mismatch() -> None:
    played = Round(applications={VICTIM: bytes(32)})
    cohorts = played.cohorts()
    aborts(played, VICTIM, cohorts[VICTIM], "the model or the round configuration differs")


def test_two_models_at_even_split_upload_nothing_at_all() -> None:
    """Three of each model with one corrupt client in both: t = 5 of 7 is met by neither."""
    other = bytes(reversed(range(32)))
    played = Round(active(7, 7), applications=dict.fromkeys((1, 2, 3), other))
    cohorts = played.cohorts()
    for u in (1, 2, 3):
        cohorts[u] = replace(cohorts[u], application=other)
    shares = {}
    for u in played.everyone:
        (sent,) = played.tell(u, cohorts[u])
        shares[u] = decode(sent.data, played.server.receivable)
    corrupt = pair_of(played, 7)
    for u in range(1, 7):
        same = [v for v in range(1, 7) if v != u and (v <= 3) == (u <= 3)]
        delivered = [Delivered(v, sealed_for(u, v, shares[v], played.everyone)) for v in same]
        context = played.machine(u).state.context
        told = inbox_of(context, [*delivered, forged(played, u, 7, corrupt)])
        aborts(played, u, told, "only 4 neighbours shared their keys, fewer than 5")


def test_an_inbox_comes_once() -> None:
    played = Round()
    inboxes = played.inboxes()
    played.tell(VICTIM, inboxes[VICTIM])
    ignores(played, VICTIM, inboxes[VICTIM], "unexpected Inbox")
    played.clients[VICTIM].handle(Contribute(played.inputs[VICTIM]))
    ignores(played, VICTIM, inboxes[VICTIM], "unexpected Inbox")


def test_the_server_closes_a_stage_of_which_too_little_came_and_delivers_nothing() -> None:
    played = Round()
    cohorts = played.cohorts()
    for u in (1, 2, 3):
        played.hear(played.tell(u, cohorts[u]))
    with pytest.raises(ProtocolAborted, match="only 3 clients shared their keys, fewer than 4"):
        played.server.handle(RoundClosed())


def test_an_advert_that_others_were_not_shown_gives_another_context() -> None:
    """A cohort of four and one of five have nothing in common, though four are in both."""
    played = Round()
    cohorts = played.cohorts()
    adverts = adverts_of(played, cohorts)
    four = cohort_of(cohorts[1], [adverts[v] for v in (1, 2, 3, 4)], 1)
    assert isinstance(four, Cohort)
    played.tell(1, four)
    for u in (2, 3, 4, 5):
        played.hear(played.tell(u, cohorts[u]))
    context = played.machine(1).state.context
    told = Inbox(context, tuple(Delivered(v, posted(played, v, 1)) for v in (2, 3, 4)))
    aborts(played, 1, told, CLOSED)
