"""The server of both modes: spec sections 5.0 to 5.4."""

from collections.abc import Collection
from typing import Any

from tests.reference import derivations as d
from tests.reference.errors import Abort, Decode, Peer
from tests.reference.graph import graph_of
from tests.reference.merkle import merkle_path, merkle_root
from tests.reference.recovery import Recovery
from tests.reference.seal import check_key, sealed_bytes
from tests.reference.session import ENVELOPE, Session, bound_context, cohort_context
from tests.reference.shamir import check_shares
from tests.reference.streams import unpack_values
from tests.reference.wire import Message, decode

AWAITED = {
    "advertise": "advert",
    "share": "shares",
    "upload": "upload",
    "consistency": "confirmation",
    "unmask": "unmask-answer",
}
Requests = list[tuple[int, bytes]]


class Server:
    """The server of one session. `hear` takes messages, `close` ends a stage."""

    def __init__(self, session: Session, graph_seed: bytes, application: bytes) -> None:
        self.session, self.p = session, session.parameters
        self.graph_seed, self.application = graph_seed, application
        self.stage, self.context = "advertise", session.context0
        self.adverts: dict[int, d.Advert] = {}
        self.shared: dict[int, Message] = {}
        self.sealed: dict[int, dict[int, bytes]] = {}
        self.pieces: dict[int, list[list[int]]] = {}
        self.links: dict[int, dict[int, bytes]] = {}
        self.confirmations: dict[int, bytes] = {}
        self.answers: dict[int, Message] = {}
        self.total = [0] * self.p.masked_length
        self.result: dict[str, Any] | None = None

    def hear(self, sender: int, data: bytes) -> None:
        try:
            message = self._awaited(data)
            getattr(self, "_on_" + message.tag.replace("-", "_"))(message, sender)
        except Decode as error:
            raise Peer(error.reason, sender, self.stage) from None

    def _awaited(self, data: bytes) -> Message:
        message = decode(
            data, {t for t in AWAITED.values() if self.p.active or t != "confirmation"}
        )
        if AWAITED.get(self.stage) != message.tag:
            raise Decode("unexpected")
        if message.context != self.context:
            raise Decode("of another session")
        return message

    def close(self) -> Requests:
        """End the stage, and what is asked of whom."""
        try:
            return getattr(self, "_close_" + self.stage)()
        except Abort:
            self.stage = "aborted"
            raise

    # Stage 0. A Decode that a rule raises becomes peer(sender) in `hear`.

    def _on_advert(self, m: Message, sender: int) -> None:
        if not 1 <= sender <= self.p.clients:
            raise Decode("not a member of the roster")
        if sender in self.adverts:
            raise Decode("a second advert")
        check_key(self.p.suite, m.channel_key)
        advert = [sender, m.nonce, m.channel_key, m.signature]
        if self.p.active:
            said = d.signed_advert(self.session.context0, advert)
            self.session.members[sender - 1].verify(m.signature, said)
        elif m.signature:
            raise Decode("a signature in a session without any")
        if m.channel_key in [other[2] for other in self.adverts.values()]:
            raise Decode("a public key that is not its own")
        self.adverts[sender] = advert

    def _close_advertise(self) -> Requests:
        self._need(self.adverts, self.p.floor, "advertised")
        members = sorted(self.adverts)
        leaves = [d.leaf(self.adverts[u]) for u in members]
        root = merkle_root(leaves)
        roster = graph_of(self.p.clients, self.p.degree, self.graph_seed)
        self.near = {u: [v for v in roster[u] if v in self.adverts] for u in members}
        requests = [
            self._to(
                u,
                "cohort",
                size=len(members),
                graph_seed=self.graph_seed,
                root=root,
                index=at,
                path=merkle_path(leaves, at),
                neighbours=[self.adverts[v] for v in self.near[u]],
            )
            for at, u in enumerate(members)
        ]
        self.context1 = self.context = cohort_context(self.context, self.graph_seed, root)
        self.stage = "share"
        return requests

    # Stage 1

    def _on_shares(self, m: Message, sender: int) -> None:
        if sender not in self.adverts:
            raise Decode("not in the cohort")
        if sender in self.shared:
            raise Decode("shared its keys twice")
        degree = len(self.near[sender])
        counts = len(m.sealed), len(m.mask_fingerprints) / 16, len(m.self_fingerprints) / 16
        if set(counts) != {degree}:
            raise Decode(f"shares that are not for exactly its {degree} neighbours")
        if {len(each) for each in m.sealed} - {sealed_bytes(self.p.suite, ENVELOPE)}:
            raise Decode("a sealed message of the wrong length")
        self.shared[sender] = m
        self.sealed[sender] = dict(zip(self.near[sender], m.sealed, strict=True))

    def _close_share(self) -> Requests:
        sharers = set(self.shared)
        while short := {
            u for u in sharers if len(sharers & set(self.near[u])) + 1 < self.p.threshold
        }:
            sharers -= short
        self._need(self.shared, self.p.floor, "shared their keys")
        self._need(sharers, self.p.floor, "shared their keys with enough neighbours")
        self.sharers = sorted(sharers)
        requests = []
        for u in self.sharers:
            delivered = [[v, self.sealed[v][u]] for v in self.near[u] if v in sharers]
            requests.append(self._to(u, "inbox", delivered=delivered))
        self.context = bound_context(self.context1, self.application)
        self.stage = "upload"
        return requests

    # Stage 2

    def _on_upload(self, m: Message, sender: int) -> None:
        if sender not in self.sharers:
            raise Decode("did not share its keys")
        if sender in self.links:
            raise Decode("uploaded twice")
        have, pieces = self.pieces.get(sender, []), self.p.pieces
        due = len(have)
        if m.index != due:
            raise Decode(f"piece {m.index} where {due} is next")
        values = unpack_values(m.packed, self.p.modulus_bits, len(pieces[due]))
        higher = [v for v in self.near[sender] if v > sender and v in self.sharers]
        last = due == len(pieces) - 1
        if len(m.links) != (32 * len(higher) if last else 0):
            raise Decode(f"{len(m.links)} bytes of links in piece {due}")
        self.pieces[sender] = [*have, values]
        if last:
            self.links[sender] = dict(zip(higher, d.cut(m.links, 32), strict=True))
            upload = [value for piece in self.pieces.pop(sender) for value in piece]
            modulus = 2**self.p.modulus_bits
            self.total = [(a + b) % modulus for a, b in zip(self.total, upload, strict=True)]

    def _close_upload(self) -> Requests:
        self._need(self.links, self.p.floor, "uploaded")
        listed = {u: sorted({u, *self.near[u]} & set(self.links)) for u in sorted(self.links)}
        for u, there in listed.items():
            if len(there) < self.p.threshold:
                raise Abort(
                    f"client {u} uploaded, but only {len(there)} holders of its shares", self.stage
                )
        if self.p.active:
            self.stage = "consistency"
            self.survivors = d.bitmap_of(listed, self.p.clients)
            return [self._to(u, "survivor-set", survivors=self.survivors) for u in listed]
        self.stage, self.asked = "unmask", set(listed)
        uploads = len(listed)
        return [
            self._to(u, "unmask-request", survivors=there, uploads=uploads)
            for u, there in listed.items()
        ]

    # Stage 3

    def _on_confirmation(self, m: Message, sender: int) -> None:
        if sender not in self.links:
            raise Decode("did not upload")
        if sender in self.confirmations:
            raise Decode("confirmed twice")
        said = d.signed_survivors(self.context, self.survivors)
        self.session.members[sender - 1].verify(m.signature, said)
        self.confirmations[sender] = m.signature

    def _close_consistency(self) -> Requests:
        self._need(self.confirmations, self.p.floor, "confirmed the survivors")
        first = sorted(self.confirmations.items())[: self.p.floor]
        self.stage, self.asked = "unmask", set(self.confirmations)
        signatures = [[v, raw] for v, raw in first]
        return [self._to(u, "unmask-proof", signatures=signatures) for u in sorted(self.asked)]

    # Stage 4

    def _on_unmask_answer(self, m: Message, sender: int) -> None:
        if sender not in self.asked:
            raise Decode("was not asked: it did not upload and confirm")
        if sender in self.answers:
            raise Decode("answered twice")
        near = [v for v in [sender, *self.near[sender]] if v in self.sharers]
        there = len([v for v in near if v in self.links])
        check_shares(m.self_shares, there)
        check_shares(m.mask_shares, len(near) - there)
        self.answers[sender] = m

    def _close_unmask(self) -> Requests:
        self._need(self.answers, self.p.threshold, "answered the unmask request")
        bad = Recovery(self).unmask()
        self.result = {
            "total": self.total[: self.p.length],
            "contributors": sorted(self.links),
            "dropped": self._dropped(),
            "bad": [list(each) for each in bad],
        }
        self.stage = "finished"
        return []

    def _dropped(self) -> dict[int, str]:
        reached: list[tuple[str, Collection[int]]] = [
            ("advertise", self.adverts),
            ("share", self.sharers),
            ("upload", self.links),
            ("consistency", self.asked),
            ("unmask", self.answers),
        ]
        missing = {
            u: [stage for stage, there in reached if u not in there]
            for u in range(1, self.p.clients + 1)
        }
        return {u: stages[0] for u, stages in missing.items() if stages}

    def _to(self, u: int, tag: str, **fields: object) -> tuple[int, bytes]:
        return u, Message(tag, self.context, **fields).encoded()

    def _need(self, there: Collection[int], need: int, what: str) -> None:
        if len(there) < need:
            raise Abort(f"only {len(there)} clients {what}, fewer than {need}", self.stage)
