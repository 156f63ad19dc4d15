"""One real machine of `masking` under real messages, without the work of all the others.

The messages are those that the other parties would send, made here from their seeds with the
protocol's own derivations. Only what the machine under test cannot see is left out: a server
never opens what clients seal for each other, does not notice that the masks between survivors,
which cancel, were never added, and reads no links between survivors.
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import DifferentResultsError
from protocols.base import (
    SERVER,
    Begin,
    Contribute,
    Envelope,
    Join,
    Received,
    RoundClosed,
    Session,
)
from protocols.journal import MemoryJournal, Party
from protocols.masking import Client, MaskingParameters, Server, keys
from protocols.masking.keys import Parties, Seeds
from protocols.masking.messages import (
    Advert,
    Cohort,
    Delivered,
    Inbox,
    Keys,
    Shares,
    UnmaskAnswer,
    UnmaskRequest,
    Upload,
)
from secagg import kdf, prg, shamir
from secagg.codec import decode, encode
from secagg.context import bound_context, cohort_context
from secagg.kdf import DIGEST_BYTES
from secagg.merkle import proofs, root
from secagg.rng import SEED_BYTES, SeededSource
from secagg.seal import KeyPair, SystemSealer, seal_between, suite

APPLICATION = bytes(range(32))
Vector = NDArray[np.uint32]


@dataclass(frozen=True)
class Federation:
    """The seeds of all clients of one session on the complete graph, and what follows."""

    parameters: MaskingParameters

    @cached_property
    def session(self) -> Session:
        """One that never happened before."""
        return Session("masking", self.parameters, os.urandom(32), bytes(32))

    @cached_property
    def seeds(self) -> dict[int, Seeds]:
        """By client."""
        source = SeededSource(self.session.session_id)
        return {u: Seeds.draw(source) for u in range(1, self.parameters.clients + 1)}

    @cached_property
    def key_pairs(self) -> dict[int, KeyPair]:
        """By client."""
        kind, context0 = suite(self.parameters.suite), self.session.context
        return {
            u: keys.channel_keys(kind, own.channel, context0, u) for u, own in self.seeds.items()
        }

    @cached_property
    def adverts(self) -> dict[int, Keys]:
        """By client."""
        return {
            u: Keys(u, own.nonce, self.key_pairs[u].public.raw, b"")
            for u, own in self.seeds.items()
        }

    def edges(self, context1: bytes, senders: Parties, to: Parties) -> kdf.Table:
        """What each sender seals for the client at its side."""
        seeds = kdf.table([own.mask for own in self.seeds.values()], SEED_BYTES)
        return keys.edges(seeds[senders - 1], context1, senders, to)

    def links(self, context1: bytes, sender: int, to: Sequence[int]) -> kdf.Table:
        """What `sender` publishes of its pairs with these clients."""
        others = np.array(to, int)
        senders = np.full_like(others, sender)
        ours, theirs = self.edges(context1, senders, others), self.edges(context1, others, senders)
        return keys.links(ours, theirs)

    def pair_streams(
        self, context1: bytes, context2: bytes, ones: Parties, others: Parties
    ) -> prg.StreamKeys:
        """The masks of these pairs."""
        ends = np.minimum(ones, others), np.maximum(ones, others)
        return keys.pair_streams(self.edges(context1, *ends), context2, ones, others)

    @cached_property
    def leaves(self) -> list[bytes]:
        """Of the Merkle tree over the adverts."""
        return [keys.leaf(own) for own in self.adverts.values()]

    def context1(self, graph_seed: bytes) -> bytes:
        """What shares are bound to; `bound_context` of it, what masks are."""
        return cohort_context(self.session.context, graph_seed, root(self.leaves))


class ClientUnderTest:
    """Client 1 and everything that the server sends it in a round without dropouts."""

    def __init__(self, parameters: MaskingParameters) -> None:
        self.federation = Federation(parameters)
        self._graph_seed = os.urandom(32)
        self._context1 = self.federation.context1(self._graph_seed)
        self._context2 = bound_context(self._context1, APPLICATION)
        self._cohort = encode(self._make_cohort())
        self._inbox = encode(Inbox(self._context1, tuple(map(self._delivery, self._others))))
        everyone = tuple(self.federation.adverts)
        self._request = encode(UnmaskRequest(self._context2, everyone, len(everyone)))

    @property
    def _others(self) -> list[int]:
        return list(self.federation.adverts)[1:]

    def fresh(self) -> Party:
        """The client before its round, with the seeds that the messages are for."""
        session = self.federation.session
        client = Client(session, 1, SeededSource(session.session_id), SystemSealer())
        return Party(client, MemoryJournal())

    def round(self, party: Party, values: NDArray[np.unsignedinteger]) -> list[bytes]:
        """All of its stages; returns the messages of its upload."""
        party.handle(Join())
        party.handle(Received(SERVER, self._cohort))
        party.handle(Received(SERVER, self._inbox))
        party.handle(Begin(APPLICATION))
        upload = party.handle(Contribute(values))
        party.handle(Received(SERVER, self._request))
        return [envelope.data for envelope in upload]

    def seconds_of(self, values: NDArray[np.unsignedinteger]) -> dict[str, float]:
        """What it works in each stage of a round, with what it takes in before it can send."""
        party, spent = self.fresh(), dict.fromkeys(self.federation.parameters.stages, 0.0)
        for stage, event in (
            ("advertise", Join()),
            ("share", Received(SERVER, self._cohort)),
            ("upload", Received(SERVER, self._inbox)),
            ("upload", Begin(APPLICATION)),
            ("upload", Contribute(values)),
            ("unmask", Received(SERVER, self._request)),
        ):
            began = time.perf_counter()
            party.handle(event)
            spent[stage] += time.perf_counter() - began
        return spent

    def expected_upload(self, values: NDArray[np.unsignedinteger]) -> list[bytes]:
        """The same by the OpenSSL reference, from everybody's seeds."""
        own = self.federation.seeds[1]
        words = _with_canary(values, self.federation.parameters)
        others = np.array(self._others)
        ends = np.ones_like(others), others
        pairs = self.federation.pair_streams(self._context1, self._context2, *ends)
        streams = [keys.own_stream(own.own, self._context2, 1), *pairs]
        prg.add_masks(words, streams, [1] * len(streams), backend="openssl")
        links = self.federation.links(self._context1, 1, self._others).tobytes()
        return _uploads(self._context2, self.federation.parameters, words, links)

    def _make_cohort(self) -> Cohort:
        federation = self.federation
        return Cohort(
            federation.session.context,
            len(federation.adverts),
            self._graph_seed,
            root(federation.leaves),
            0,
            proofs(federation.leaves, [0])[0],
            tuple(federation.adverts[v] for v in self._others),
        )

    def _delivery(self, other: int) -> Delivered:
        federation, context1 = self.federation, self._context1
        to = federation.key_pairs[1].public
        agreed = federation.key_pairs[other].agree(to)
        (edge,) = kdf.strings(federation.edges(context1, np.array([other]), np.array([1])))
        plaintext, info = edge + bytes(2 * shamir.SHARE_BYTES), keys.shares_info(context1, other, 1)
        return Delivered(other, seal_between(agreed, to, plaintext, info, SystemSealer()))


class ServerUnderTest:
    """The server up to the moment when it has delivered everybody's shares.

    seconds: what it worked on each stage so far.
    """

    def __init__(self, parameters: MaskingParameters) -> None:
        self.federation = Federation(parameters)
        self.seconds: dict[str, float] = {}
        server, context0 = self._new_server(), self.federation.session.context
        adverts = {
            u: encode(Advert(context0, own.nonce, own.channel_key, own.signature))
            for u, own in self.federation.adverts.items()
        }
        self.seconds["advertise"], cohorts = _stage(server, adverts.items())
        self.context1 = self.federation.context1(decode(cohorts[0].data, Cohort).graph_seed)
        self.context2 = bound_context(self.context1, APPLICATION)
        self.shares = {u: self._deal(u) for u in self.federation.seeds}
        posted = ((u, encode(self._posted(u))) for u in self.federation.seeds)
        self.seconds["share"], _inboxes = _stage(server, posted)
        server.handle(Begin(APPLICATION))
        self._snapshot = server.snapshot()

    def after_uploads(self, dropped: int) -> "ServerBeforeRecovery":
        """The same server when the last `dropped` clients did not upload, and all others did."""
        survivors = list(self.federation.seeds)[: len(self.federation.seeds) - dropped]
        server = self._restored(self._snapshot)
        seconds, _requests = _stage(server, self._uploads(survivors))
        answers = {u: encode(self._answer(u, survivors)) for u in survivors}
        of_stages = {**self.seconds, "upload": seconds}
        one = np.uint32(sum(survivors))
        expected = np.full(self.federation.parameters.length, one, np.uint32)
        return ServerBeforeRecovery(self, server.snapshot(), answers, expected, of_stages)

    def seconds_of_round(self) -> float:
        """Everything that the server does in a round without dropouts."""
        before = self.after_uploads(0)
        server = before.fresh()
        began = time.perf_counter()
        before.recover(server)
        return time.perf_counter() - began + sum(before.seconds.values())

    def _uploads(self, survivors: list[int]) -> Iterator[tuple[int, bytes]]:
        """Client u adds u everywhere. The masks that are left in the sum are in the first."""
        parameters = self.federation.parameters
        last = survivors[-1]
        gone = [v for v in self.federation.seeds if v > last]  # those who stay have no links here
        for u in survivors:
            words = _with_canary(np.full(parameters.length, u, np.uint32), parameters)
            if u == survivors[0]:
                self._add_all_masks(words, survivors)
            links = bytes(DIGEST_BYTES * (last - u))
            links += self.federation.links(self.context1, u, gone).tobytes()
            for message in _uploads(self.context2, parameters, words, links):
                yield u, message

    def _new_server(self) -> Server:
        return Server(self.federation.session, SeededSource(b"graph"))

    def _restored(self, snapshot: bytes) -> Server:
        server = self._new_server()
        server.restore(snapshot)
        return server

    def _deal(self, u: int) -> dict[int, list[bytes]]:
        own, t = self.federation.seeds[u], self.federation.parameters.threshold
        points = list(self.federation.seeds)
        coins = keys.coins_stream(own.coins, self.context1)
        return dict(zip(points, shamir.deal([own.mask, own.own], points, t, coins), strict=True))

    def _posted(self, u: int) -> Shares:
        own, context1 = self.federation.seeds[u], self.context1
        mask, self_ = (self._fingerprints(kind, u, at) for at, kind in enumerate(("mask", "self")))
        others = [v for v in self.shares[u] if v != u]
        return Shares(
            context1,
            keys.commitment("mask", own.mask, context1, u),
            keys.commitment("self", own.own, context1, u),
            self_[u],
            b"".join(mask[v] for v in others),
            b"".join(self_[v] for v in others),
            (bytes(self.federation.parameters.sealed_bytes),) * len(others),
        )

    def _fingerprints(self, kind: str, u: int, at: int) -> dict[int, bytes]:
        """Of the shares of one kind, which is at this place, by holder."""
        holders = np.array(list(self.shares[u]))
        held = kdf.table([both[at] for both in self.shares[u].values()], shamir.SHARE_BYTES)
        found = keys.fingerprints(kind, self.context1, u, holders, held)
        return dict(zip(self.shares[u], kdf.strings(found), strict=True))

    def _add_all_masks(self, words: Vector, survivors: list[int]) -> None:
        """Every mask that is still in the sum of these survivors, into one upload."""
        seeds, context2 = self.federation.seeds, self.context2
        gone = sorted(seeds.keys() - set(survivors))
        mine, theirs = np.repeat(survivors, len(gone)), np.tile(gone, len(survivors)).astype(int)
        own = kdf.table([seeds[u].own for u in survivors], SEED_BYTES)
        streams = keys.own_streams(own, context2, np.array(survivors))
        streams += self.federation.pair_streams(self.context1, context2, mine, theirs)
        signs = np.append(np.ones(len(survivors), np.int8), keys.pair_signs(mine, theirs))
        prg.add_masks(words, streams, signs)

    def _answer(self, u: int, survivors: list[int]) -> UnmaskAnswer:
        gone = sorted(self.federation.seeds.keys() - set(survivors))
        return UnmaskAnswer(
            self.context2,
            b"".join(self.shares[v][u][1] for v in survivors),
            b"".join(self.shares[v][u][0] for v in gone),
        )


@dataclass(frozen=True)
class ServerBeforeRecovery:
    """The server when the unmask requests are out, and the answers on their way to it."""

    made_by: ServerUnderTest
    snapshot: bytes
    answers: Mapping[int, bytes]
    expected: Vector
    seconds: Mapping[str, float]

    def fresh(self) -> Server:
        """The server, once more."""
        return self.made_by._restored(self.snapshot)

    def recover(self, server: Server) -> None:
        """Take all answers, reconstruct, and remove the masks."""
        for u, answer in self.answers.items():
            server.handle(Received(u, answer))
        server.handle(RoundClosed())

    def check(self) -> None:
        """The sum is that of the inputs."""
        server = self.fresh()
        self.recover(server)
        if not np.array_equal(server.result.total, self.expected):
            raise DifferentResultsError("the server's sum is not that of the inputs")


def _with_canary(values: NDArray[np.unsignedinteger], parameters: MaskingParameters) -> Vector:
    """What a client masks: its vector, zeros, and a one."""
    words = np.zeros(parameters.masked_length, np.uint32)
    words[: parameters.length] = values
    words[-1] = 1
    return words


def _uploads(
    context2: bytes, parameters: MaskingParameters, words: Vector, links: bytes
) -> list[bytes]:
    """The masked words, 32 bits each, as the messages that carry them; links in the last."""
    pieces = parameters.pieces
    return [
        encode(Upload(context2, i, words[at].tobytes(), links if at is pieces[-1] else b""))
        for i, at in enumerate(pieces)
    ]


def _stage(
    server: Server, messages: Iterable[tuple[int, bytes]]
) -> tuple[float, tuple[Envelope, ...]]:
    """Hand over a stage's messages and close it: the server's own seconds, and what it sends."""
    seconds = 0.0
    for sender, data in messages:
        began = time.perf_counter()
        server.handle(Received(sender, data))
        seconds += time.perf_counter() - began
    began = time.perf_counter()
    sent = server.handle(RoundClosed())
    return seconds + time.perf_counter() - began, sent
