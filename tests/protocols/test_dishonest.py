"""Clients that lie in `masking`: found, named, and never a wrong sum.

A bad share is left out and named while enough remain; a dealer whose seeds are not those that
it committed to, a link that opens another mask, or a mask that was not agreed, is an abort. A
client that lies about its own input is out of scope, and not here.
"""

import dataclasses
import re
import sys
from collections.abc import Callable
from itertools import product
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from protocols.base import SERVER, Aborted, BadAnswer, Received
from protocols.masking import Client, configure, keys
from protocols.masking.client import BaseClient
from secagg import shamir
from secagg.codec import encode
from secagg.errors import PeerError, ProtocolAborted
from secagg.rng import SeededSource
from secagg.seal import SystemSealer
from secagg.shamir import SHARE_BYTES
from tests.protocols.scene import LENGTH, N, Scene

CLIENT = sys.modules[BaseClient.__module__]
SUITES = pytest.mark.parametrize("suite", ["X25519", "MLKEM768-X25519"])


def aborted(scene: Scene, reason: str, *blame: int) -> ProtocolAborted:
    """The session ends in an abort of the server, which names these clients."""
    with pytest.raises(ProtocolAborted) as caught:
        scene.run()
    assert reason in caught.value.reason
    assert caught.value.blame == blame
    assert caught.value.stage == "unmask"
    state = scene.server.state
    assert isinstance(state, Aborted)
    assert (state.at, state.reason, state.blame) == ("unmask", caught.value.reason, blame)
    tag, *_, at_fault = msgspec.msgpack.decode(scene.server.snapshot())
    assert (tag, at_fault) == ("aborted", list(blame))
    return caught.value


def summed(scene: Scene, *bad: tuple[int, int, str]) -> None:
    """The session ends in the exact sum, and names these bad answers."""
    scene.run()
    scene.check()
    found = sorted((b.dealer, b.holder, b.what) for b in scene.server.result.bad_answers)
    assert found == sorted(bad)


def flipped(share: bytes, at: int = 0) -> bytes:
    return share[:at] + bytes([share[at] ^ 1]) + share[at + 1 :]


def wrong_self_share(of: int, at: int = 0) -> Callable:
    """Returns another share of the seed of survivor `of`, 1, 2 or 3, than it was given."""

    def change(answer):
        lie = flipped(answer.self_shares, SHARE_BYTES * (of - 1) + at)
        return replace(answer, self_shares=lie)

    return change


def wrong_mask_share(answer):
    return replace(answer, mask_shares=flipped(answer.mask_shares, 20))


def everything_wrong(answer):
    return wrong_mask_share(wrong_self_share(2)(answer))


def exchanged_self_shares(answer):
    """Each share in another dealer's place."""
    one, other, rest = (answer.self_shares[at : at + SHARE_BYTES] for at in (0, 36, 72))
    return replace(answer, self_shares=other + one + rest)


# --- shares that do not match their fingerprints ------------------------------------------


@pytest.mark.parametrize(("holder", "dealer"), [*product((1, 2, 3), (1, 2, 3))])
def test_a_bad_self_share_is_left_out_and_named(holder: int, dealer: int) -> None:
    tamper = {(holder, "answer"): wrong_self_share(dealer)}
    summed(Scene(threshold=2, tamper=tamper), (dealer, holder, "self share"))


@pytest.mark.parametrize("holder", [1, 2, 3])
def test_a_bad_mask_share_is_left_out_and_named(holder: int) -> None:
    tamper = {(holder, "answer"): wrong_mask_share}
    summed(Scene(threshold=2, tamper=tamper), (4, holder, "mask share"))


def test_shares_under_each_others_name_are_left_out_and_named() -> None:
    tamper = {(3, "answer"): exchanged_self_shares}
    summed(Scene(threshold=2, tamper=tamper), (1, 3, "self share"), (2, 3, "self share"))


def test_all_that_one_holder_says_may_be_wrong() -> None:
    tamper = {(1, "answer"): everything_wrong}
    bad = [(2, 1, "self share"), (4, 1, "mask share")]
    summed(Scene(threshold=2, tamper=tamper), *bad)


def test_a_bad_answer_in_active_mode_is_left_out_and_named_too() -> None:
    uploaders = (1, 2, 3, 4, 5)
    tamper = {(3, "answer"): wrong_self_share(2), (5, "answer"): wrong_mask_share}
    scene = Scene(active=True, uploaders=uploaders, tamper=tamper)
    summed(scene, (2, 3, "self share"), (6, 5, "mask share"))
    alone = Scene(active=True, tamper={(3, "answer"): wrong_self_share(2)})
    aborted(alone, "3 shares of the self-mask seed of client 2 came back, not 4", 2, 3)


def test_a_bad_share_of_each_holder_about_another_dealer() -> None:
    tamper = {(h, "answer"): wrong_self_share(d) for h, d in ((1, 2), (2, 3), (3, 1))}
    bad = [(2, 1, "self share"), (3, 2, "self share"), (1, 3, "self share")]
    summed(Scene(threshold=2, tamper=tamper), *bad)


@pytest.mark.parametrize("holder", [1, 2, 3])
@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (wrong_self_share(1), "2 shares of the self-mask seed of client 1 came back, not 3"),
        (wrong_self_share(3), "2 shares of the self-mask seed of client 3 came back, not 3"),
        (wrong_mask_share, "2 shares of the mask seed of client 4 came back, not 3"),
    ],
)
def test_too_few_good_shares_abort_with_holder_and_dealer_to_blame(holder, lie, reason) -> None:
    """A share and its fingerprint differ: one of the two parties is at fault."""
    dealer = int(re.search(r"of client (\d)", reason)[1])
    aborted(Scene(threshold=3, tamper={(holder, "answer"): lie}), reason, *{holder, dealer})


def test_two_bad_holders_are_both_to_blame() -> None:
    tamper = {(h, "answer"): wrong_mask_share for h in (1, 3)}
    why = "1 shares of the mask seed of client 4 came back, not 2"
    aborted(Scene(threshold=2, tamper=tamper), why, 1, 3, 4)


def test_a_wrong_fingerprint_names_dealer_and_holder() -> None:
    """The server cannot know which of the two lied: it names both, and does without."""

    def lie(shares):
        return replace(shares, self_fingerprints=bytes(16) + shares.self_fingerprints[16:])

    scene = Scene(threshold=2, tamper={(3, "shares"): lie})
    summed(scene, (3, 1, "self share"))


def test_wrong_fingerprints_of_the_dropped_client_name_it_with_each_holder() -> None:
    def lie(shares):
        return replace(shares, mask_fingerprints=bytes(32) + shares.mask_fingerprints[32:])

    scene = Scene(threshold=2, tamper={(4, "shares"): lie})
    why = "1 shares of the mask seed of client 4 came back, not 2"
    aborted(scene, why, 1, 2, 4)


def test_a_wrong_fingerprint_of_the_own_share() -> None:
    def lie(shares):
        return replace(shares, own_fingerprint=bytes(16))

    summed(Scene(threshold=2, tamper={(3, "shares"): lie}), (3, 3, "self share"))


# --- links -------------------------------------------------------------------------------


def wrong_link(at: int) -> Callable:
    """Publishes another e_uv ⊕ e_vu for the neighbour at this place above it."""
    return lambda upload: replace(upload, links=flipped(upload.links, 32 * at + 7))


@pytest.mark.parametrize("dropped", [1, 2, 3, 4])
@SUITES
def test_whoever_drops_the_pairs_with_it_are_opened(dropped: int, suite: str) -> None:
    """From its own seed where its number is the lower, and through the link where it is not."""
    stayed = tuple(u for u in (1, 2, 3, 4) if u != dropped)
    summed(Scene(suite=suite, uploaders=stayed))


@pytest.mark.parametrize("dropped", [(1, 2), (1, 4), (2, 3), (2, 4), (3, 4)])
def test_pairs_of_two_that_drop_are_in_no_upload(dropped: tuple[int, int]) -> None:
    parameters = configure(N, LENGTH, 7, threshold=3, floor=3, suite="X25519")
    stayed = tuple(u for u in (1, 2, 3, 4, 5) if u not in dropped)
    scene = Scene(parameters=parameters, uploaders=stayed)
    scene.sharers = (1, 2, 3, 4, 5)
    summed(scene)


@pytest.mark.parametrize("liar", [1, 2, 3])
@SUITES
def test_a_lying_link_is_an_abort_where_it_is_needed(liar: int, suite: str) -> None:
    """Nobody can be blamed: what was sealed says who lied, and only the two ends can read it."""
    scene = Scene(suite=suite, tamper={(liar, "upload"): wrong_link(3 - liar)})
    aborted(scene, "the masks do not cancel: the canary of the sum is wrong")


@pytest.mark.parametrize(("liar", "at"), [(1, 0), (1, 1), (2, 0)])
def test_a_lying_link_between_two_that_stay_is_not_needed(liar: int, at: int) -> None:
    summed(Scene(tamper={(liar, "upload"): wrong_link(at)}))


def test_a_link_to_a_client_that_dropped_below_is_derived_and_not_asked_for() -> None:
    """Client 1 drops: e of the pair is its own, whatever the others published."""
    lies = {(u, "upload"): wrong_link(0) for u in (2, 3)}
    summed(Scene(uploaders=(2, 3, 4), tamper=lies))


def test_a_survivor_that_does_not_answer_has_its_pairs_opened() -> None:
    scene = Scene(threshold=2, answerers=(1, 2))
    scene.run()
    scene.check()
    assert scene.server.result.bad_answers == ()
    assert scene.server.result.dropped[3] == "unmask"


@SUITES
def test_what_was_sealed_is_not_needed_to_open_a_pair(suite: str) -> None:
    """The dropped client never opened its inbox, and all of it was junk."""
    tamper = {(u, "shares"): garbage_for_4 for u in (1, 2, 3)}
    summed(Credulous(suite=suite, tamper=tamper))


def garbage_for_4(shares):
    """Of the neighbours of 1, 2 and 3, client 4 is the third."""
    return replace(
        shares, sealed=(*shares.sealed[:2], bytes(len(shares.sealed[2])), shares.sealed[3])
    )


class Credulous(Scene):
    """Client 4 is not disturbed by a delivery that does not open: it is gone anyway."""

    def _requests(self, name, takers):
        yield from super()._requests(name, tuple(u for u in takers if (u, name) != (4, "inbox")))


# --- dealers -----------------------------------------------------------------------------


def other_commitment(name: str) -> Callable:
    return lambda shares: replace(shares, **{name: bytes(32)})


@pytest.mark.parametrize(
    ("dealer", "name", "seed"),
    [(2, "self_commitment", "self-mask"), (4, "mask_commitment", "mask")],
)
@SUITES
def test_a_commitment_that_is_not_that_of_the_seed_blames_the_dealer(
    dealer: int, name: str, seed: str, suite: str
) -> None:
    scene = Scene(suite=suite, tamper={(dealer, "shares"): other_commitment(name)})
    aborted(scene, f"the {seed} seed of client {dealer} is not its commitment's", dealer)


@pytest.mark.parametrize(("dealer", "name"), [(4, "self_commitment"), (2, "mask_commitment")])
def test_the_commitment_of_the_other_seed_is_not_needed(dealer: int, name: str) -> None:
    """Of nobody are both seeds known."""
    summed(Scene(tamper={(dealer, "shares"): other_commitment(name)}))


def test_the_commitments_exchanged_are_those_of_no_seed() -> None:
    def lie(shares):
        one, other = shares.mask_commitment, shares.self_commitment
        return replace(shares, mask_commitment=other, self_commitment=one)

    aborted(Scene(tamper={(2, "shares"): lie}), "the self-mask seed of client 2", 2)
    aborted(Scene(tamper={(4, "shares"): lie}), "the mask seed of client 4", 4)


def dishonest_dealer(monkeypatch: pytest.MonkeyPatch, party: int, deal: Callable) -> None:
    """From now on client `party` deals its shares with `deal`; all it publishes matches."""
    honest = Client.share

    def share(machine, state, cohort, sender):
        with pytest.MonkeyPatch.context() as patch:
            if machine.me == party:
                patch.setattr(shamir, "deal", deal)
            return honest(machine, state, cohort, sender)

    table = dict(Client.table)
    for row, rule in Client.table.items():
        if rule is honest:
            table[row] = share
    monkeypatch.setattr(Client, "table", table)


REAL_DEAL = shamir.deal


def other_mask_seed(secrets, points, threshold, coins):
    return REAL_DEAL([bytes(32), secrets[1]], points, threshold, coins)


def other_own_seed(secrets, points, threshold, coins):
    return REAL_DEAL([secrets[0], bytes(32)], points, threshold, coins)


def higher_degree(secrets, points, threshold, coins):
    """On a polynomial of degree t: t shares give something else."""
    return REAL_DEAL(secrets, points, threshold + 1, coins)


def unrelated(secrets, points, threshold, coins):
    """Every holder gets a share of another sharing; the largest limbs there are."""
    top = (2**31 - 2).to_bytes(4, "little") * shamir.LIMBS
    return [[flipped(top, 4 * (i % 9) + 1)] * 2 for i, _ in enumerate(points)]


@pytest.mark.parametrize(
    ("dealer", "deal", "reason"),
    [
        (4, other_mask_seed, "the mask seed of client 4 is not its commitment's"),
        (2, other_own_seed, "the self-mask seed of client 2 is not its commitment's"),
        (2, unrelated, "the self shares that were dealt are not those of a seed"),
        (4, unrelated, "the mask shares that were dealt are not those of a seed"),
    ],
)
def test_a_dealer_of_something_else_is_to_blame(monkeypatch, dealer, deal, reason) -> None:
    dishonest_dealer(monkeypatch, dealer, deal)
    aborted(Scene(), reason, dealer)


@pytest.mark.parametrize("dealer", [1, 2, 3, 4])
def test_shares_on_another_polynomial_blame_the_dealer(monkeypatch, dealer: int) -> None:
    dishonest_dealer(monkeypatch, dealer, higher_degree)
    with pytest.raises(ProtocolAborted) as caught:
        Scene().run()
    assert caught.value.blame == (dealer,)


def test_an_inconsistent_dealer_is_told_from_honest_ones_of_the_same_group(monkeypatch) -> None:
    """All seeds of one set of holders are reconstructed together; one of them is wrong."""
    dishonest_dealer(monkeypatch, 3, unrelated)
    aborted(Scene(threshold=2), "the self shares that were dealt", 3)


def test_a_seed_that_was_not_shared_right_and_is_not_needed_is_no_harm(monkeypatch) -> None:
    dishonest_dealer(monkeypatch, 2, other_mask_seed)
    summed(Scene())


# --- masks -------------------------------------------------------------------------------


def with_state(scene: Scene, party: int, **fields) -> None:
    client = scene.clients[party]
    client.state = replace(client.state, **fields)


def wrong_pair_mask(scene: Scene) -> None:
    state = scene.clients[2].state
    with_state(scene, 2, pair_secrets=(bytes(32), *state.pair_secrets[1:]))


def wrong_pair_mask_with_the_dropped(scene: Scene) -> None:
    state = scene.clients[2].state
    with_state(scene, 2, pair_secrets=(*state.pair_secrets[:-1], bytes(32)))


def missing_pair_mask(scene: Scene) -> None:
    state = scene.clients[2].state
    with_state(scene, 2, pair_secrets=state.pair_secrets[1:], peers=state.peers[1:])


def wrong_self_mask(scene: Scene) -> None:
    with_state(scene, 2, own_seed=bytes(32))


@pytest.mark.parametrize(
    "lie",
    [wrong_pair_mask, wrong_pair_mask_with_the_dropped, wrong_self_mask],
)
@pytest.mark.parametrize("active", [False, True])
@SUITES
def test_a_mask_that_was_not_agreed_is_an_abort_and_no_sum(lie, suite, active) -> None:
    scene = Scene(suite=suite, before_upload=lie, active=active)
    aborted(scene, "the masks do not cancel: the canary of the sum is wrong")


def lies_about_edges(monkeypatch: pytest.MonkeyPatch, party: int) -> None:
    """What `party` seals for others is not what follows from the seed that it shares."""

    def edges(mask_seed, context1, sender, to):
        lie = np.zeros_like(mask_seed)
        return keys.edges(lie if sender == party else mask_seed, context1, sender, to)

    monkeypatch.setattr(CLIENT, "keys", SimpleNamespace(**{**vars(keys), "edges": edges}))


@pytest.mark.parametrize("party", [1, 2, 3, 4])
def test_edges_of_another_seed_are_an_abort_where_they_are_derived_again(
    monkeypatch, party: int
) -> None:
    lies_about_edges(monkeypatch, party)
    uploaders = tuple(u for u in (1, 2, 3, 4) if u != party)
    aborted(Scene(uploaders=uploaders), "the masks do not cancel: the canary of the sum is wrong")


@pytest.mark.parametrize("party", [1, 2, 3])
def test_edges_of_another_seed_are_not_derived_again_where_their_owner_stays(
    monkeypatch, party: int
) -> None:
    """Both ends use the same, whatever it is; and a link gives it to who has the other end's."""
    lies_about_edges(monkeypatch, party)
    summed(Scene(uploaders=(1, 2, 3)))
    summed(Scene(uploaders=(1, 2, 3, 4)))


@pytest.mark.parametrize("bits", [1, 7, 16, 33, 64])
def test_the_canary_works_for_every_modulus(bits: int) -> None:
    parameters = configure(N, LENGTH, bits, threshold=3, floor=3, suite="X25519")
    aborted(Scene(parameters=parameters, before_upload=wrong_self_mask), "the canary")


def test_a_client_that_leaves_a_pair_out_answers_for_too_few() -> None:
    scene = Scene(before_upload=missing_pair_mask)
    with pytest.raises((ProtocolAborted, PeerError)):
        scene.run()


def test_an_upload_that_was_tampered_with_on_its_way_is_an_abort() -> None:
    """Without signatures a flipped bit of the canary shows, and any other is the client's word."""

    def lie(upload):
        packed = bytearray(upload.packed)
        packed[-1] ^= 0x40
        return replace(upload, packed=bytes(packed))

    aborted(Scene(tamper={(2, "upload"): lie}), "the canary of the sum is wrong")


# --- ejection ----------------------------------------------------------------------------


def test_a_delivery_that_does_not_open_stops_its_recipient_only() -> None:
    """One corrupt client can eject its peers (said so in DESIGN): the others still finish."""
    scene = Scene(tamper={(2, "shares"): garbage_for_4}, uploaders=(1, 2, 3))
    stop = scene.play()
    with pytest.raises(PeerError, match="the delivery of client 2") as caught:
        for _ in stop:
            pass
    assert caught.value.peer == SERVER
    assert scene.clients[4].state.stage == "upload"


def test_who_is_asked_twice_answers_once() -> None:
    """After its answer a client holds no share: another U3 gets nothing out of it."""
    scene = Scene()
    stop = scene.until("request")
    before = {p.self_share for p in stop.machine.state.peers} | {
        p.mask_share for p in stop.machine.state.peers
    }
    stop.deliver()
    for survivors in ((1, 2, 3, 4), (1, 2, 4), (1, 2, 3)):
        with pytest.raises(PeerError, match="unexpected UnmaskRequest"):
            stop.deliver(replace(stop.message, survivors=survivors))
    snapshot = stop.machine.snapshot()
    assert not any(share in snapshot for share in before)


def test_a_bad_answer_shows_who_and_what_and_no_bytes() -> None:
    text = repr(BadAnswer(4, 1, "mask share"))
    assert text == "BadAnswer(dealer=4, holder=1, what='mask share')"


def test_a_client_of_another_roster_opens_nothing_of_ours() -> None:
    """Same keys, same session number, another roster digest: the context decides."""
    scene = Scene()
    stop = scene.until("cohort")
    session = dataclasses.replace(scene.session, roster=b"s" * 32)
    stranger = Client(session, 1, SeededSource(b"scene"), SystemSealer())
    stranger.restore(scene.clients[1].snapshot())
    (shares,) = stranger.handle(Received(SERVER, stop.data))
    context = stranger.state.context
    inbox = next(stop for stop in scene._rest if stop.name == "inbox")
    assert inbox.machine.state.context != context
    with pytest.raises(PeerError, match="Shares of another session"):
        Scene().until("shares").machine.handle(Received(1, shares.data))
    with pytest.raises(PeerError, match="of another session"):
        stranger.handle(Received(SERVER, inbox.data))
    forged = encode(replace(inbox.message, context=context))
    with pytest.raises(PeerError, match="the delivery of client 2: a sealed message does not open"):
        stranger.handle(Received(SERVER, forged))
