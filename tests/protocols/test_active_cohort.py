"""Stage 0 against a server that lies: keys, members, sessions and parameters.

Client 5 is corrupt: what it could sign, the adversary can have signed.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import combinations
from typing import Any

import pytest
from msgspec.structs import replace

from protocols import masking
from protocols.base import SERVER, Contribute, Received
from protocols.journal import MemoryJournal, Party
from protocols.masking.client_state import Advertised
from protocols.masking.keys import signed_advert
from protocols.masking.messages import Cohort, Delivered, Keys
from secagg.codec import decode, encode
from secagg.errors import PeerError, ProtocolAborted
from secagg.seal import suite
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
)
from tests.protocols.support import begin

VICTIM = 1
Adverts = Mapping[int, Keys]
Lie = Callable[[Round, Cohort, Adverts], Cohort]

SERVERS_PAIR = suite("X25519").key_pair(b"s" * 32)
SERVERS_KEY = SERVERS_PAIR.public.raw


def showing(change: Callable[[Round, Adverts], Adverts]) -> Lie:
    """The victim is shown these adverts, with a root and a path that fit."""

    def lie(played: Round, cohort: Cohort, adverts: Adverts) -> Cohort:
        return cohort_of(cohort, list(change(played, adverts).values()), VICTIM)

    return lie


def with_2(**fields: Any) -> Lie:
    """Only the advert of client 2 is another."""
    return showing(lambda _round, adverts: {**adverts, 2: replace(adverts[2], **fields)})


def signed_by(number: int, **fields: Any) -> Callable[[Round, Adverts], Keys]:
    """The advert of 2 with other fields, signed by somebody else."""

    def advert(played: Round, adverts: Adverts) -> Keys:
        fake = replace(adverts[2], **fields)
        return replace(
            fake, signature=identity(number).sign(signed_advert(played.session.context, fake))
        )

    return advert


def advert_elsewhere(**options: Any) -> Callable[[Round, Adverts], Keys]:
    """The advert that client 2 made in another session."""

    def advert(_round: Round, _adverts: Adverts) -> Keys:
        other = Round(**options)
        return adverts_of(other, other.cohorts())[2]

    return advert


def as_2(advert: Callable[[Round, Adverts], Keys]) -> Lie:
    return showing(lambda played, adverts: {**adverts, 2: advert(played, adverts)})


def of_5(key: bytes) -> Lie:
    """The corrupt client advertises this key, and signs it."""

    def change(played: Round, adverts: Adverts) -> Adverts:
        fake = replace(adverts[5], channel_key=key)
        signature = identity(5).sign(signed_advert(played.session.context, fake))
        return {**adverts, 5: replace(fake, signature=signature)}

    return showing(change)


def own_is_missing(_round: Round, cohort: Cohort, adverts: Adverts) -> Cohort:
    """A cohort without us, and the proof of somebody else's place."""
    others = [adverts[v] for v in (2, 3, 4, 5)]
    return cohort_of(cohort, others, VICTIM)


def own_is_another(_round: Round, cohort: Cohort, adverts: Adverts) -> Cohort:
    """Everybody else would be told another key of ours."""
    ours = replace(adverts[VICTIM], channel_key=SERVERS_KEY)
    return cohort_of(cohort, [*(adverts[v] for v in (2, 3, 4, 5)), ours], VICTIM)


def fields(**changes: Any) -> Lie:
    return lambda _round, cohort, _adverts: replace(cohort, **changes)


def neighbours(*parties: int) -> Lie:
    """These, in this order; the root stays that of all."""

    def lie(_round: Round, cohort: Cohort, adverts: Adverts) -> Cohort:
        known = {**adverts, 6: replace(adverts[2], party=6)}
        return replace(cohort, neighbours=tuple(known[v] for v in parties))

    return lie


def hidden_member(_round: Round, cohort: Cohort, adverts: Adverts) -> Cohort:
    """The root is of five; four are shown."""
    return replace(cohort, neighbours=tuple(adverts[v] for v in (2, 3, 4)))


def smaller(*parties: int) -> Lie:
    return showing(lambda _round, adverts: {v: adverts[v] for v in parties})


def wrong_path(_round: Round, cohort: Cohort, _adverts: Adverts) -> Cohort:
    return replace(cohort, path=(*cohort.path[:-1], bytes(32)))


UNSIGNED = "the advert of client 2: a signature does not verify"
LIES: dict[str, tuple[Lie, str]] = {
    "the server's key for a member, its signature kept": (
        with_2(channel_key=SERVERS_KEY),
        UNSIGNED,
    ),
    "the server's key for a member, without a signature": (
        with_2(channel_key=SERVERS_KEY, signature=b""),
        UNSIGNED,
    ),
    "the server's key for a member, signed by the corrupt one": (
        as_2(signed_by(5, channel_key=SERVERS_KEY)),
        UNSIGNED,
    ),
    "the server's key for a member, signed by a stranger": (
        as_2(signed_by(9, channel_key=SERVERS_KEY)),
        UNSIGNED,
    ),
    "a signature of zeros": (with_2(signature=bytes(64)), UNSIGNED),
    "another nonce": (with_2(nonce=bytes(32)), UNSIGNED),
    "another member's advert under its number": (
        as_2(lambda _r, adverts: replace(adverts[3], party=2)),
        "a public key appears twice",
    ),
    "another member's advert, the other left out": (
        showing(
            lambda _r, adverts: {
                **{v: adverts[v] for v in (1, 4, 5)},
                2: replace(adverts[3], party=2),
            }
        ),
        UNSIGNED,
    ),
    "our own key under another number": (
        as_2(lambda _r, adverts: replace(adverts[1], party=2)),
        "a public key appears twice",
    ),
    "its advert of an older session": (as_2(advert_elsewhere(number=9)), UNSIGNED),
    "its advert of a session with a lower threshold": (
        as_2(advert_elsewhere(parameters=active(corrupt=0))),
        UNSIGNED,
    ),
    "its advert of a session with another modulus": (
        as_2(advert_elsewhere(parameters=active(bits=8))),
        UNSIGNED,
    ),
    "a corrupt member with an honest one's key": (
        lambda r, c, a: of_5(a[2].channel_key)(r, c, a),
        "a public key appears twice",
    ),
    "a corrupt member with our key": (
        lambda r, c, a: of_5(a[1].channel_key)(r, c, a),
        "a public key appears twice",
    ),
    "a key of low order": (of_5(bytes(32)), "the key of client 5: not a X25519 public key"),
    "a key that is not canonical": (
        of_5((2**255 - 19 + 9).to_bytes(32, "little")),
        "the key of client 5: not a X25519 public key",
    ),
    "a key with the sign bit": (
        of_5(SERVERS_KEY[:31] + bytes([SERVERS_KEY[31] | 0x80])),
        "the key of client 5: not a X25519 public key",
    ),
    "a key of another suite": (of_5(bytes(1216)), "the key of client 5: a X25519 public key has"),
    "own advert missing": (own_is_missing, "our own advert is not in the published cohort"),
    "own advert exchanged": (own_is_another, "our own advert is not in the published cohort"),
    "a path that does not lead to the root": (wrong_path, "our own advert is not in the"),
    "another place": (fields(index=1), "our own advert is not in the published cohort"),
    "a place outside": (fields(index=2**53), "our own advert is not in the published cohort"),
    "another root": (fields(root=bytes(32)), "our own advert is not in the published cohort"),
    "a member that we are not shown": (hidden_member, "the published root is not that of"),
    "a member twice": (neighbours(2, 2, 3, 4), "neighbours that are not other members, in order"),
    "a foreign member": (neighbours(2, 3, 4, 6), "neighbours that are not other members"),
    "ourselves as a neighbour": (neighbours(1, 2, 3, 4), "neighbours that are not other members"),
    "out of order": (neighbours(3, 2, 4, 5), "neighbours that are not other members, in order"),
    "a cohort below the threshold": (smaller(1, 2, 5), "only 3 clients advertised, fewer than 4"),
    "nobody else": (smaller(1), "only 1 clients advertised, fewer than 4"),
    "more members than the roster has": (fields(size=6), "a cohort of 6 from 5"),
    "a size that hides how few are shown": (
        neighbours(2, 5),
        "only 3 neighbours advertised, fewer than 4",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_cohort_that_is_a_lie_ends_it(name: str) -> None:
    played = Round()
    cohorts = played.cohorts()
    lie, reason = LIES[name]
    error = aborts(played, VICTIM, lie(played, cohorts[1], adverts_of(played, cohorts)), reason)
    assert error.stage == "share"


def test_a_cohort_that_is_built_the_same_way_and_true_is_taken() -> None:
    """So it is the lie, and not the way of telling it, that is refused above."""
    played = Round()
    cohorts = played.cohorts()
    told = cohort_of(cohorts[1], list(adverts_of(played, cohorts).values()), VICTIM)
    assert told == cohorts[1]
    assert played.tell(1, told)


@pytest.mark.parametrize("lie", ["key", "signature"])
def test_hybrid_keys_and_postquantum_signatures_are_checked_too(lie: str) -> None:
    played = Round(active(suite="MLKEM768-X25519"), scheme="ML-DSA-65")
    cohorts = played.cohorts()
    adverts = adverts_of(played, cohorts)
    key = suite("MLKEM768-X25519").key_pair(b"s" * 96).public.raw
    fake = replace(adverts[2], channel_key=key)
    if lie == "signature":
        what = signed_advert(played.session.context, fake)
        fake = replace(fake, signature=identity(5, "ML-DSA-65").sign(what))
    told = cohort_of(cohorts[1], [*(adverts[v] for v in (1, 3, 4, 5)), fake], 1)
    aborts(played, 1, told, UNSIGNED)


# --- the cohort and the parameters are one for all, or nothing is uploaded -------------------


def test_every_parameter_is_bound() -> None:
    """A server that tells one client other parameters talks to it about another session."""
    played = Round()
    cohort = played.cohorts()[1]
    for other in (
        active(corrupt=0),
        active(bits=8),
        active(length=6),
        active(n=6, length=6),
        active(suite="MLKEM768-X25519"),
        active(floor=5),
        active(chunk=8),
        active(adversary="semi-honest"),
    ):
        victim = Round(other)
        victim.cohorts()
        error = ignores(victim, 1, cohort, "Cohort of another session")
        assert isinstance(error, PeerError)
        assert victim.session.context != played.session.context


def test_a_server_with_other_parameters_is_given_no_advert_that_it_can_use() -> None:
    """And where it rewrites the context, the adverts of the others do not verify."""
    downgraded = Round(active(corrupt=0))
    honest = Round()
    cohorts = honest.cohorts()
    for body in honest.replies[1]:
        with pytest.raises(PeerError, match="Advert of another session"):
            downgraded.server.handle(Received(1, encode(body)))
        renamed = replace(body, context=downgraded.session.context)
        with pytest.raises(PeerError, match="a signature does not verify"):
            downgraded.server.handle(Received(1, encode(renamed)))
    other = Round(active(corrupt=0))
    elsewhere = adverts_of(other, other.cohorts())
    ours = adverts_of(honest, cohorts)
    told = cohort_of(cohorts[1], [ours[1], *(elsewhere[v] for v in (2, 3, 4, 5))], 1)
    aborts(honest, 1, told, UNSIGNED)


def test_an_own_advert_of_an_older_session_does_not_stand_for_ours() -> None:
    """Same member, same model, same parameters: the nonce, the key and the session are new."""
    old = Round(number=9)
    before = adverts_of(old, old.cohorts())
    played = Round()
    cohorts = played.cohorts()
    told = cohort_of(cohorts[1], list(before.values()), 1)
    aborts(played, 1, told, "our own advert is not in the published cohort")


SPLITS = [group for size in (1, 2, 3) for group in combinations((1, 2, 3, 4), size)]


@pytest.mark.parametrize("group", SPLITS, ids=str)
def test_two_views_of_the_cohort_never_both_upload(group: tuple[int, ...]) -> None:
    """The corrupt client advertises two keys, and each view has one of them. Who is in a view
    of fewer than t with it opens nothing of the others.
    """
    played = Round()
    cohorts = played.cohorts()
    adverts = adverts_of(played, cohorts)
    second = replace(adverts[5], channel_key=SERVERS_KEY)
    what = signed_advert(played.session.context, second)
    second = replace(second, signature=identity(5).sign(what))
    views = {u: adverts[5] if u in group else second for u in (1, 2, 3, 4)}
    shared = {}
    for u, of_5_ in views.items():
        told = cohort_of(cohorts[u], [*(adverts[v] for v in (1, 2, 3, 4)), of_5_], u)
        (sent,) = played.tell(u, told)
        shared[u] = decode(sent.data, masking.ActiveServer.receivable)
    uploaded = [u for u in views if _uploads(played, u, shared, group)]
    others = tuple(set(views) - set(group))
    assert uploaded == sorted(next((g for g in (group, others) if len(g) >= 3), ()))


def _uploads(played: Round, u: int, shared: Any, group: tuple[int, ...]) -> bool:
    """Whether anything gets client u to upload: everything is tried that the server has."""
    context = played.machine(u).state.context
    pair = pair_of(played, 5) if u in group else SERVERS_PAIR
    same = [v for v in shared if v != u and (v in group) == (u in group)]
    for senders in ([v for v in shared if v != u], same):
        delivered = [Delivered(v, sealed_for(u, v, shared[v], range(1, N + 1))) for v in senders]
        party = Party(played.party(u).machine, MemoryJournal())  # it gets another try
        party.machine.restore(played.machine(u).snapshot())
        body = inbox_of(context, [*delivered, forged(played, u, 5, pair)])
        with suppress(ProtocolAborted):
            party.handle(Received(SERVER, encode(body)))
            begin(party)
            return bool(party.handle(Contribute(played.inputs[u])))
    return False


def test_a_client_waits_for_one_cohort_only() -> None:
    """Once it has shared, another cohort is not even looked at."""
    played = Round()
    cohorts = played.cohorts()
    assert isinstance(played.machine(1).state, Advertised)
    played.tell(1, cohorts[1])
    adverts = adverts_of(played, cohorts)
    fewer = cohort_of(cohorts[1], [adverts[v] for v in range(1, N)], 1)
    for told in (cohorts[1], fewer):
        ignores(played, 1, told, "unexpected Cohort")
