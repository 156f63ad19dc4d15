"""One real machine of `masking` under real messages, without the work of all the others.

The messages are those that the other parties would send, made here from their seeds with the
protocol's own derivations. Only what the machine under test cannot see is left out: a server
never opens what clients seal for each other, and does not notice that the masks between
survivors, which cancel, were never added.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import DifferentResults
from protocols.base import SERVER, Begin, Contribute, Join, Received, RoundClosed, Session
from protocols.journal import MemoryJournal, Party
from protocols.masking import Client, MaskingParameters, Server, keys
from protocols.masking.canary import with_canary
from protocols.masking.keys import Seeds
from protocols.masking.messages import (
    Advert,
    Cohort,
    Delivered,
    Inbox,
    Keys,
    MaskShare,
    Posted,
    SelfShare,
    Shares,
    UnmaskAnswer,
    UnmaskRequest,
    Upload,
)
from secagg import prg, shamir
from secagg.codec import decode, encode
from secagg.context import bound_context
from secagg.merkle import proofs, root
from secagg.rng import SeededSource
from secagg.seal import HpkeSealer, suite

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
    def adverts(self) -> dict[int, Keys]:
        """By client."""
        kind, context0 = suite(self.parameters.suite), self.session.context
        return {
            u: Keys(
                u,
                own.nonce,
                keys.channel_keys(kind, own.channel, context0, u).public.raw,
                keys.mask_keys(kind, own.mask, context0, u).public.raw,
            )
            for u, own in self.seeds.items()
        }

    @cached_property
    def leaves(self) -> list[bytes]:
        """Of the Merkle tree over the adverts."""
        return [keys.leaf(own) for own in self.adverts.values()]

    def context1(self, graph_seed: bytes) -> bytes:
        """What everything after stage 0 is bound to."""
        return bound_context(self.session.context, APPLICATION, graph_seed, root(self.leaves))


class ClientUnderTest:
    """Client 1 and everything that the server sends it in a round without dropouts."""

    def __init__(self, parameters: MaskingParameters) -> None:
        self.federation = Federation(parameters)
        self._graph_seed = os.urandom(32)
        self._context1 = self.federation.context1(self._graph_seed)
        self._cohort = encode(self._make_cohort())
        self._inbox = encode(Inbox(self._context1, tuple(map(self._delivery, self._others))))
        everyone = tuple(self.federation.adverts)
        self._request = encode(UnmaskRequest(self._context1, everyone, len(everyone)))

    @property
    def _others(self) -> list[int]:
        return list(self.federation.adverts)[1:]

    def fresh(self) -> Party:
        """The client before its round, with the seeds that the messages are for."""
        session = self.federation.session
        client = Client(session, 1, SeededSource(session.session_id), HpkeSealer())
        return Party(client, session.session_id, MemoryJournal())

    def round(self, party: Party, values: NDArray[np.unsignedinteger]) -> bytes:
        """All of its stages; returns its upload."""
        party.handle(Join())
        party.handle(Begin(APPLICATION))
        party.handle(Received(SERVER, self._cohort))
        party.handle(Received(SERVER, self._inbox))
        (upload,) = party.handle(Contribute(values))
        party.handle(Received(SERVER, self._request))
        return upload.data

    def expected_upload(self, values: NDArray[np.unsignedinteger]) -> bytes:
        """The same by the OpenSSL reference, from everybody's seeds."""
        own = self.federation.seeds[1]
        words = with_canary(values, self.federation.parameters).astype(np.uint32)
        streams = [keys.own_stream(own.own, self._context1, 1)]
        streams += [_pair_stream(self.federation.seeds, self._context1, 1, v) for v in self._others]
        prg.add_masks(words, streams, [1] * len(streams), backend="openssl")
        return encode(Upload(self._context1, words.tobytes()))

    def _make_cohort(self) -> Cohort:
        federation = self.federation
        return Cohort(
            federation.session.context,
            APPLICATION,
            len(federation.adverts),
            self._graph_seed,
            root(federation.leaves),
            0,
            proofs(federation.leaves, [0])[0],
            tuple(federation.adverts[v] for v in self._others),
        )

    def _delivery(self, other: int) -> Delivered:
        kind, sealer = suite(self.federation.parameters.suite), HpkeSealer()
        me, seeds, context1 = self.federation.adverts[1], self.federation.seeds, self._context1
        own = keys.contribution(seeds[other].mask, context1, other, 1)
        shares = bytes(2 * shamir.SHARE_BYTES)
        channel, mask = kind.public_key(me.channel_key), kind.public_key(me.mask_key)
        return Delivered(
            other,
            sealer.seal(mask, own, keys.contribution_info(context1, other, 1)),
            sealer.seal(channel, shares, keys.shares_info(context1, other, 1)),
        )


class ServerUnderTest:
    """The server up to the moment when it has delivered everybody's shares."""

    def __init__(self, parameters: MaskingParameters) -> None:
        self.federation = Federation(parameters)
        self._server = self._new_server()
        self._server.handle(Begin(APPLICATION))
        for u, own in self.federation.adverts.items():
            advert = Advert(self.federation.session.context, own.nonce, own.channel_key, own.mask_key)
            self._server.handle(Received(u, encode(advert)))
        (cohort, *_) = self._server.handle(RoundClosed())
        self.context1 = self.federation.context1(_graph_seed(cohort.data))
        self.shares = {u: self._deal(u) for u in self.federation.seeds}
        for u in self.federation.seeds:
            self._server.handle(Received(u, encode(self._posted(u))))
        self._server.handle(RoundClosed())
        self._snapshot = self._server.snapshot()

    def after_uploads(self, dropped: int) -> "ServerBeforeRecovery":
        """The same server when the last `dropped` clients did not upload, and all others did."""
        survivors = list(self.federation.seeds)[: len(self.federation.seeds) - dropped]
        server = self._restored(self._snapshot)
        expected = np.zeros(self.federation.parameters.length, np.uint32)
        for place, u in enumerate(survivors):
            values = np.full(self.federation.parameters.length, u, np.uint32)
            expected += values
            words = with_canary(values, self.federation.parameters)
            if place == 0:
                self._add_all_masks(words, survivors)
            server.handle(Received(u, encode(Upload(self.context1, words.tobytes()))))
        server.handle(RoundClosed())
        answers = {u: encode(self._answer(u, survivors)) for u in survivors}
        return ServerBeforeRecovery(self, server.snapshot(), answers, expected)

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
        kind = suite(self.federation.parameters.suite)
        contribution, shares = kind.sealed_bytes(32), kind.sealed_bytes(2 * shamir.SHARE_BYTES)
        prints = {
            v: [
                keys.fingerprint(name, share, self.context1, u, v)
                for name, share in zip(("mask", "self"), both, strict=True)
            ]
            for v, both in self.shares[u].items()
        }
        return Shares(
            self.context1,
            keys.commitment(self.federation.seeds[u].own, self.context1, u),
            prints[u][1],
            tuple(
                Posted(v, bytes(contribution), bytes(shares), *prints[v]) for v in prints if v != u
            ),
        )

    def _add_all_masks(self, words: Vector, survivors: list[int]) -> None:
        """Every mask that is still in the sum of these survivors, into one upload."""
        seeds, context1 = self.federation.seeds, self.context1
        gone = seeds.keys() - set(survivors)
        pairs = [(u, v) for u in survivors for v in gone]
        streams = [keys.own_stream(seeds[u].own, context1, u) for u in survivors]
        streams += [_pair_stream(seeds, context1, u, v) for u, v in pairs]
        signs = [1] * len(survivors) + [keys.pair_sign(u, v) for u, v in pairs]
        prg.add_masks(words, streams, signs)

    def _answer(self, u: int, survivors: list[int]) -> UnmaskAnswer:
        seeds, context1 = self.federation.seeds, self.context1
        gone = sorted(seeds.keys() - set(survivors))
        return UnmaskAnswer(
            context1,
            tuple(SelfShare(v, self.shares[v][u][1]) for v in survivors),
            tuple(
                MaskShare(
                    v, self.shares[v][u][0], keys.contribution(seeds[u].mask, context1, u, v)
                )
                for v in gone
            ),
        )


@dataclass(frozen=True)
class ServerBeforeRecovery:
    """The server when the unmask requests are out, and the answers on their way to it."""

    made_by: ServerUnderTest
    snapshot: bytes
    answers: Mapping[int, bytes]
    expected: Vector

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
            raise DifferentResults("the server's sum is not that of the inputs")


def _pair_stream(
    seeds: Mapping[int, Seeds], context1: bytes, one: int, other: int
) -> prg.StreamKey:
    of_one = keys.contribution(seeds[one].mask, context1, one, other)
    of_other = keys.contribution(seeds[other].mask, context1, other, one)
    return keys.pair_stream(keys.pair_seed(context1, one, of_one, other, of_other), context1)


def _graph_seed(cohort: bytes) -> bytes:
    return decode(cohort, Cohort).graph_seed


