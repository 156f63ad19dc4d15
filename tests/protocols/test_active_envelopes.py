"""Stage 1 against a server that lies: what clients sealed for each other.

Client 1 is the victim, client 5 is corrupt. Nobody but the two ends of an edge can make what
one of them opens; whatever else is delivered ends the session for the victim, before it
uploads. What is missing is a dropout, as long as t are left.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec.structs import replace

from protocols.base import Contribute, Received, RoundClosed
from protocols.masking import keys
from protocols.masking.bitmap import bitmap_of
from protocols.masking.messages import (
    Cohort,
    Confirmation,
    Delivered,
    Inbox,
    Shares,
    Signed,
    SurvivorSet,
    UnmaskProof,
)
from secagg.codec import decode, encode
from secagg.errors import PeerError, ProtocolAborted
from secagg.kdf import DIGEST_BYTES, derive
from secagg.seal import SystemSealer, seal_between, suite
from secagg.shamir import SHARE_BYTES
from tests.protocols.active_support import (
    N,
    Round,
    aborts,
    active,
    adverts_of,
    cohort_of,
    forged,
    identity,
    ignores,
    inbox_of,
    pair_of,
    sealed_for,
    takes_off_right_self_masks,
)

VICTIM = 1
OTHER = bytes(reversed(range(32)))
"""Another model than the server's."""
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
    """What a stranger can seal: under ML-KEM's secret for the victim alone, or under nothing."""
    info = keys.shares_info(inbox.context, 2, VICTIM)
    secret, ciphertext = pair_of(played, VICTIM).public.encapsulate()
    key = derive(secret, "between", info, ciphertext)
    plaintext = bytes(DIGEST_BYTES + 2 * SHARE_BYTES)
    sealed = ciphertext + AESGCM(key).encrypt(bytes(12), plaintext, None)
    return instead(inbox, Delivered(2, sealed))


def agreement_of_zeros(played: Round, inbox: Inbox) -> Inbox:
    key = pair_of(played, VICTIM).public
    info = keys.shares_info(inbox.context, 2, VICTIM)
    plaintext = bytes(DIGEST_BYTES + 2 * SHARE_BYTES)
    sealed = seal_between(bytes(32), key, plaintext, info, SystemSealer())
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


def same_keys_another_graph(played: Round, inbox: Inbox) -> Inbox:
    """The same adverts with another graph seed: the same seeds in another context1."""
    other = Round(played.parameters)
    (sent,) = other.tell(2, replace(other.cohorts()[2], graph_seed=bytes(32)))
    assert pair_of(other, 2).public == pair_of(played, 2).public
    shares = decode(sent.data, Shares)
    return instead(inbox, Delivered(2, sealed_for(VICTIM, 2, shares, range(1, N + 1))))


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
    "of a cohort with another graph seed": (same_keys_another_graph, CLOSED),
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
    sealed = seal_between(agreed, key, plaintext, info, SystemSealer())
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


def uploaded(played: Round) -> None:
    """Everybody uploads, each for the model that it was shown. The server takes what is for
    another one than its own, too: it says that it is not.
    """
    for u, inbox in played.inboxes().items():
        played.tell(u, inbox)
        for sent in played.clients[u].handle(Contribute(played.inputs[u])):
            body = decode(sent.data, played.server.receivable)
            if u in played.applications:
                with pytest.raises(PeerError, match="Upload of another session") as caught:
                    played.hear([sent])
                assert caught.value.peer == u
                assert "model" in caught.value.expected
            ours = replace(body, context=played.server.state.bound)
            played.server.handle(Received(u, encode(ours)))


def signed_by_group(played: Round, told: SurvivorSet) -> dict[bytes, dict[int, bytes]]:
    """Everybody signs the survivors for its own model, and the corrupt one for both."""
    signed = defaultdict[bytes, dict[int, bytes]](dict)
    for u in played.everyone[:-1]:
        context2 = played.machine(u).state.context
        (sent,) = played.tell(u, replace(told, context=context2))
        signed[context2][u] = decode(sent.data, Confirmation).signature
    for context2, by in signed.items():
        by[played.corrupt] = identity(played.corrupt).sign(
            keys.signed_survivors(context2, told.survivors)
        )
    return signed


def test_different_models_end_in_an_abort_and_no_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pasquini et al., CCS 2022: the victim's update cannot be singled out by another model. The
    server takes the victim's upload as one for its own model, and t others confirm the sum with
    it: they even give the victim's self mask, and its pair masks are none that anybody else has.
    """
    played = Round(applications={VICTIM: OTHER})
    uploaded(played)
    told = played.close()
    assert told[VICTIM].survivors == bitmap_of(played.everyone, N)
    others = {u: each for u, each in told.items() if u != VICTIM}
    proofs = played.proofs(others)
    models = {u: played.applications.get(u, played.application) for u in played.everyone}
    takes_off_right_self_masks(monkeypatch, played.server.state.context, models)
    with pytest.raises(ProtocolAborted, match="the masks do not cancel: the canary"):
        played.finish(proofs)
    victim = played.machine(VICTIM).state.context
    played.tell(VICTIM, replace(told[VICTIM], context=victim))
    proof = UnmaskProof(victim, proofs[2].signatures)
    aborts(played, VICTIM, proof, "client 2 on the survivors: a signature does not verify")


@pytest.mark.parametrize("group", [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4, 5)], ids=str)
def test_of_two_models_at_most_one_is_answered_for(group: tuple[int, ...]) -> None:
    """Six honest clients and a corrupt one that signs for both: 2t > n + c, so t = 5 of 7."""
    played = Round(active(7, 7), applications=dict.fromkeys(group, OTHER))
    uploaded(played)
    told = played.close()[VICTIM]
    assert told.survivors == bitmap_of(played.everyone, 7)
    answered = set()
    for context2, by in signed_by_group(played, told).items():
        proof = UnmaskProof(context2, tuple(Signed(v, by[v]) for v in sorted(by)))
        for u in sorted(by)[:-1]:
            if len(by) >= 5:
                played.tell(u, proof)
                answered.add(context2)
            else:
                aborts(played, u, proof, f"only {len(by)} survivors confirmed, fewer than 5")
    assert len(answered) == (max(len(group), 6 - len(group)) >= 4)


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
