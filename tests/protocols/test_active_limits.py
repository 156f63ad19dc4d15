"""What active mode does not give: attacks that succeed, so that the documents can say so.

Each is outside of the assumptions. A change that stops one of them has to change what
docs/threat-models.md says, and the test that it contradicts.
"""

import numpy as np
from msgspec.structs import replace

from protocols.base import SERVER, Received
from protocols.masking import keys
from protocols.masking.bitmap import bitmap_of
from protocols.masking.keys import signed_survivors
from protocols.masking.messages import Delivered, Signed, UnmaskProof
from secagg import shamir
from secagg.codec import encode
from secagg.context import bound_context
from secagg.kdf import DIGEST_BYTES
from secagg.ring import RingVector
from secagg.seal import SystemSealer, seal_between
from secagg.shamir import SHARE_BYTES
from tests.protocols.active_support import N, Round, active, identity, inbox_of, pair_of

CHOSEN = b"e" * DIGEST_BYTES


def test_envelopes_are_as_authentic_as_x25519_in_the_hybrid_suite_too() -> None:
    """Who computes discrete logarithms while the session runs reads one client's update, though
    identities are ML-DSA-65 and every seal is ML-KEM's: it seals for the victim in the name of
    all others, and what the victim publishes of each pair gives the secret of that pair.
    Whoever records a session and breaks X25519 later learns nothing.
    """
    played = Round(active(suite="MLKEM768-X25519"), scheme="ML-DSA-65")
    inboxes = played.inboxes()
    context = inboxes[1].context
    inboxes[1] = inbox_of(context, [_in_the_name_of(played, v, context) for v in (2, 3, 4, 5)])
    told = played.survivor_sets(inboxes)
    played.finish(played.proofs(told))
    assert played.server.result.contributors == (1, 2, 3, 4, 5), "nobody has noticed"
    answers = {u: played.replies[u][-1] for u in (2, 3, 4, 5)}
    self_shares = [answers[u].self_shares[:SHARE_BYTES] for u in answers]
    (own_seed,) = shamir.reconstruct(list(answers), [self_shares])
    upload = played.replies[1][2]
    links = np.frombuffer(upload.links, np.uint8).reshape(4, DIGEST_BYTES)
    secrets = keys.links(links, np.frombuffer(CHOSEN, np.uint8))
    bound = bound_context(context, played.application)
    pairs = keys.pair_streams(secrets, bound, np.ones(4, int), np.array([2, 3, 4, 5]))
    clear = RingVector.zeros(played.parameters.modulus_bits, played.parameters.masked_length)
    clear.add_packed(upload.packed)
    clear.add_masks([keys.own_stream(own_seed, bound, 1), *pairs], [-1] * 5)
    assert np.array_equal(clear.values()[: played.parameters.length], played.inputs[1])


def _in_the_name_of(played: Round, v: int, context: bytes) -> Delivered:
    """With nothing of v's but its X25519 scalar."""
    victim = pair_of(played, 1).public
    agreed = pair_of(played, v).agree(victim)
    plaintext = CHOSEN + bytes(2 * SHARE_BYTES)
    info = keys.shares_info(context, v, 1)
    return Delivered(v, seal_between(agreed, victim, plaintext, info, SystemSealer()))


def test_a_store_that_is_copied_and_rolled_back_makes_its_client_one_of_the_corrupt() -> None:
    """The journal prevents a second statement; where the journal itself is set back, its client
    signs two sets of survivors. With c more like it than assumed, both are answered.
    """
    played = Round(active(corrupt=0))
    told = played.survivor_sets()
    one, other = (replace(told[1], survivors=bitmap_of(s, N)) for s in ((1, 2, 3, 4, 5), (1, 4, 5)))
    before = played.machine(1).snapshot()
    answered = []
    for group, each in (((1, 2, 3), one), ((1, 4, 5), other)):
        what = signed_survivors(each.context, each.survivors)
        proof = UnmaskProof(each.context, tuple(Signed(v, identity(v).sign(what)) for v in group))
        for u in group:
            machine = played.machine(u)
            if u == 1:
                machine.restore(before)
            machine.handle(_said(each))
            answered += machine.handle(_said(proof))
    assert len(answered) == 6
    assert {e.sender for e in answered} == {1, 2, 3, 4, 5}


def _said(body: object) -> Received:
    return Received(SERVER, encode(body))
