"""The client of both modes: spec sections 5.0 to 5.4."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.reference import derivations as d
from tests.reference.errors import Abort, Decode, Local, Peer, Refusal
from tests.reference.graph import graph_of
from tests.reference.labels import xor
from tests.reference.merkle import merkle_root, verify
from tests.reference.seal import (
    SEED,
    Encapsulate,
    KeyPair,
    check_key,
    encapsulate_by_the_library,
)
from tests.reference.session import Session, bound_context, cohort_context
from tests.reference.shamir import SHARE, check_shares, shamir_deal
from tests.reference.streams import mask, pack_values
from tests.reference.wire import Message, decode

Sign = Callable[[bytes], bytes]


class Seeds(NamedTuple):
    """In the order in which they are drawn."""

    channel: bytes
    mask: bytes
    own: bytes
    coins: bytes
    nonce: bytes


AWAITED = {  # stage to the message that is awaited in it, by mode
    False: {"share": "cohort", "upload": "inbox", "unmask": "unmask-request"},
    True: {
        "share": "cohort",
        "upload": "inbox",
        "consistency": "survivor-set",
        "unmask": "unmask-proof",
    },
}


class Client:
    """One client of one session, which knows from the start what it trains and contributes."""

    def __init__(
        self,
        session: Session,
        me: int,
        seeds: Seeds,
        application: bytes,
        values: Sequence[int],
        *,
        sign: Sign | None = None,
        encapsulate: Encapsulate = encapsulate_by_the_library,
    ) -> None:
        self.session, self.me, self.seeds = session, me, seeds
        self.p = session.parameters
        self.application, self.values = application, values
        if len(values) != self.p.length or not all(0 <= x < 2**self.p.modulus_bits for x in values):
            raise Local("not a vector of this session")
        self._sign, self._encapsulate = sign, encapsulate
        suite = self.p.suite
        seed = d.channel_seed(seeds.channel, session.context0, me, SEED[suite])
        self.pair = KeyPair(suite, seed)
        self.stage, self.context = "advertise", session.context0

    def start(self) -> list[bytes]:
        """Stage 0."""
        self.advert = [self.me, self.seeds.nonce, self.pair.public, b""]
        if self.p.active:
            self.advert[3] = self._sign(d.signed_advert(self.session.context0, self.advert))
        _, nonce, key, signature = self.advert
        self.stage = "share"
        message = self._message("advert", nonce=nonce, channel_key=key, signature=signature)
        return [message]

    def hear(self, sender: int, data: bytes) -> list[bytes]:
        """A message, and what it is answered with. A Refusal leaves the state as it was, but
        for Abort.
        """
        awaited = AWAITED[self.p.active]
        try:
            message = decode(data, awaited.values())
        except Decode as error:
            raise Peer(error.reason, sender, self.stage) from None
        if awaited.get(self.stage) != message.tag:
            raise Peer("unexpected", sender, self.stage)
        if message.context != self.context:
            raise Peer("of another session", sender, self.stage)
        if sender != 0:
            raise Peer("only the server sends this", sender, self.stage)
        rule = getattr(self, "_on_" + message.tag.replace("-", "_"))
        try:
            return rule(message)
        except Abort:
            self.stage, self.seeds, self.held = "aborted", None, None
            raise

    # Stage 1

    def _on_cohort(self, m: Message) -> list[bytes]:
        self._check_cohort(m)
        context1 = cohort_context(self.context, m.graph_seed, m.root)
        keys = {advert[0]: advert[2] for advert in m.neighbours}
        shares = self._dealt([self.me, *keys], context1)
        sealed = [
            self.pair.seal(
                keys[v],
                d.edge(self.seeds.mask, context1, self.me, v) + b"".join(shares[v]),
                d.shares_info(context1, self.me, v),
                self._encapsulate,
            )
            for v in keys
        ]
        prints = {
            kind: {v: d.fingerprint(kind, context1, self.me, v, s[at]) for v, s in shares.items()}
            for at, kind in enumerate(("mask", "self"))
        }
        self.keys, self.own_share = keys, shares[self.me][1]
        self.context, self.stage = context1, "upload"
        return [
            self._message(
                "shares",
                mask_commitment=d.commitment("mask", self.seeds.mask, context1, self.me),
                self_commitment=d.commitment("self", self.seeds.own, context1, self.me),
                own_fingerprint=prints["self"][self.me],
                mask_fingerprints=b"".join(prints["mask"][v] for v in keys),
                self_fingerprints=b"".join(prints["self"][v] for v in keys),
                sealed=sealed,
            )
        ]

    def _dealt(self, points: list[int], context1: bytes) -> dict[int, list[bytes]]:
        """[share of m, share of b] for each holder."""
        stream = d.coins_stream(self.seeds.coins, context1)
        secrets = [self.seeds.mask, self.seeds.own]
        dealt = shamir_deal(secrets, points, self.p.threshold, stream[:16], stream[16:])
        return dict(zip(points, dealt, strict=True))

    def _check_cohort(self, m: Message) -> None:
        p, parties = self.p, [advert[0] for advert in m.neighbours]
        if not d.rising(parties) or self.me in parties or any(v > p.clients for v in parties):
            raise self._fault("neighbours that are not other members, in order")
        if m.size > p.clients:
            raise self._fault("a cohort of")
        if not set(parties) <= set(graph_of(p.clients, p.degree, m.graph_seed)[self.me]):
            raise self._fault("neighbours that the graph does not give us")
        self._need(m.size, p.floor, "clients advertised")
        self._need(len(parties) + 1, p.threshold, "neighbours advertised")
        if not verify(m.root, d.leaf(self.advert), m.index, m.size, m.path):
            raise self._fault("our own advert is not in the published cohort")
        published = sorted([*m.neighbours, self.advert])
        if p.complete and merkle_root([d.leaf(each) for each in published]) != m.root:
            raise self._fault("the published root is not that of the cohort")
        if len({advert[2] for advert in published}) < len(published):
            raise self._fault("a public key appears twice")
        self._check_adverts(m.neighbours)

    def _check_adverts(self, adverts: Sequence[d.Advert]) -> None:
        if not self.p.active and any(advert[3] for advert in adverts):
            raise self._fault("signed adverts")
        for advert in adverts if self.p.active else ():
            self._verify(
                advert[0],
                advert[3],
                d.signed_advert(self.session.context0, advert),
                f"the advert of client {advert[0]}",
            )
        for advert in adverts:
            try:
                check_key(self.p.suite, advert[2])
            except Decode as error:
                raise self._fault(f"the key of client {advert[0]}: {error.reason}") from None

    # Stage 2

    def _on_inbox(self, m: Message) -> list[bytes]:
        senders = [sender for sender, _ in m.delivered]
        if not d.rising(senders) or not set(senders) <= set(self.keys):
            raise self._fault("deliveries that are not from distinct neighbours, in order")
        self._need(len(senders) + 1, self.p.threshold, "neighbours shared their keys")
        opened = {v: self._opened(v, sealed) for v, sealed in m.delivered}
        own = {v: d.edge(self.seeds.mask, self.context, self.me, v) for v in senders}
        pair = {v: own[v] if self.me < v else opened[v][0] for v in senders}
        links = b"".join(xor(own[v], opened[v][0]) for v in senders if self.me < v)
        self.context = bound_context(self.context, self.application)
        masked = self._masked(pair)
        self.held = {
            v: (mask_share, self_share) for v, (_, mask_share, self_share) in opened.items()
        }
        self.stage = "consistency" if self.p.active else "unmask"
        self.seeds = None
        pieces = self.p.pieces
        return [
            self._message(
                "upload",
                index=at,
                packed=pack_values([masked[i] for i in piece], self.p.modulus_bits),
                links=links if at == len(pieces) - 1 else b"",
            )
            for at, piece in enumerate(pieces)
        ]

    def _opened(self, v: int, sealed: bytes) -> tuple[bytes, bytes, bytes]:
        info = d.shares_info(self.context, v, self.me)
        try:
            plain = self.pair.open(self.keys[v], sealed, info)
            check_shares(plain[32:], 2)
        except Decode as error:
            raise self._fault(f"the delivery of client {v}: {error.reason}") from None
        return plain[:32], plain[32 : 32 + SHARE], plain[32 + SHARE :]

    def _masked(self, pair: dict[int, bytes]) -> list[int]:
        p = self.p
        masks = [(1, d.self_stream(self.seeds.own, self.context, self.me))]
        for v, secret in pair.items():
            stream = d.pair_stream(secret, self.context, self.me, v)
            masks.append((1 if self.me < v else -1, stream))
        total = [*self.values, *[0] * (p.masked_length - p.length - 1), 1]
        for sign, raw in masks:
            stream = mask(raw, p.masked_length, p.modulus_bits)
            total = [(x + sign * y) % 2**p.modulus_bits for x, y in zip(total, stream, strict=True)]
        return total

    # Stage 3

    def _on_survivor_set(self, m: Message) -> list[bytes]:
        try:
            survivors = d.members_of(m.survivors, self.p.clients)
        except Decode as error:
            raise self._fault(error.reason) from None
        if self.me not in survivors:
            raise self._fault("we uploaded, and are not among the survivors")
        if not set(survivors) <= {self.me, *self.held}:
            raise self._fault("survivors of whom we have no shares")
        self._need(len(survivors), self.p.floor, "clients uploaded")
        signature = self._sign(d.signed_survivors(self.context, m.survivors))
        self.confirmed, self.stage = m.survivors, "unmask"
        return [self._message("confirmation", signature=signature)]

    # Stage 4

    def _on_unmask_request(self, m: Message) -> list[bytes]:
        p, listed = self.p, m.survivors
        if not d.rising(listed) or not set(listed) <= {self.me, *self.held}:
            raise self._fault("survivors that are not distinct neighbours, in order")
        if self.me not in listed:
            raise self._fault("we uploaded, and are not among the survivors")
        self._need(len(listed), p.threshold, "neighbours uploaded")
        self._need(m.uploads, p.floor, "clients uploaded")
        if not len(listed) <= m.uploads <= (len(listed) if p.complete else p.clients):
            raise self._fault(f"{m.uploads} uploads, of which we see {len(listed)}")
        return self._answer(listed)

    def _on_unmask_proof(self, m: Message) -> list[bytes]:
        survivors = d.members_of(self.confirmed, self.p.clients)
        parties = [party for party, _ in m.signatures]
        if not d.rising(parties) or not set(parties) <= set(survivors):
            raise self._fault("signatures that are not of distinct survivors, in order")
        self._need(len(parties), self.p.floor, "survivors confirmed")
        said = d.signed_survivors(self.context, self.confirmed)
        for v, signature in m.signatures:
            self._verify(v, signature, said, f"client {v} on the survivors")
        return self._answer(survivors)

    def _answer(self, survivors: Sequence[int]) -> list[bytes]:
        of = {v: self_share for v, (_, self_share) in self.held.items()} | {self.me: self.own_share}
        own = b"".join(of[v] for v in sorted(of) if v in survivors)
        gone = b"".join(m for v, (m, _) in sorted(self.held.items()) if v not in survivors)
        self.stage, self.held, self.own_share = "done", None, None
        return [self._message("unmask-answer", self_shares=own, mask_shares=gone)]

    # What all stages use

    def _message(self, tag: str, **fields: object) -> bytes:
        return Message(tag, self.context, **fields).encoded()

    def _verify(self, v: int, signature: bytes, said: bytes, what: str) -> None:
        try:
            self.session.members[v - 1].verify(signature, said)
        except Decode as error:
            raise self._fault(f"{what}: {error.reason}") from None

    def _fault(self, reason: str) -> Refusal:
        if self.p.active:
            return Abort(reason, self.stage, [0])
        return Peer(reason, 0, self.stage)

    def _need(self, have: int, need: int, what: str) -> None:
        if have < need:
            blame = [0] if self.p.active else []
            raise Abort(f"only {have} {what}, fewer than {need}", self.stage, blame)
