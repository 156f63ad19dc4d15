"""Rounds of `masking` that are played by hand, so that a test can be the server.

`Round` plays the honest server up to a stage and hands out what it would send; a test tells
clients something else. The corrupt client is the last one: the adversary knows its machine.
"""

import gc
import types
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from msgspec.structs import asdict

from protocols import masking
from protocols.base import (
    SERVER,
    Aborted,
    Contribute,
    Envelope,
    Join,
    Machine,
    Message,
    Received,
    RoundClosed,
    Session,
)
from protocols.journal import MemoryJournal, Party
from protocols.masking import keys, recovery
from protocols.masking.client_state import Peer
from protocols.masking.keys import Seeds, leaf
from protocols.masking.messages import Cohort, Delivered, Inbox, Keys, Shares
from protocols.masking.parameters import MaskingParameters
from secagg.codec import decode, encode
from secagg.context import bound_context
from secagg.errors import LocalError, PeerError, ProtocolAborted
from secagg.identity import Identity, Member, Roster
from secagg.kdf import DIGEST_BYTES, Table, strings
from secagg.merkle import proof, root
from secagg.prg import StreamKey
from secagg.rng import SeededSource
from secagg.seal import KeyPair, SystemSealer, seal_between, suite
from secagg.shamir import SHARE_BYTES
from tests.protocols.support import APPLICATION, begin, exact_sum, one_hot

N, LENGTH, BITS = 5, 5, 16
Told = Mapping[int, Any]


@cache
def identity(number: int, scheme: str = "Ed25519") -> Identity:
    """The long-lived key of a member, the same in every test."""
    return Identity.from_seed(scheme, sha256(f"{scheme} {number}".encode()).digest())


@cache
def roster_of(n: int, scheme: str = "Ed25519") -> Roster:
    """Members 1..n with these keys."""
    return Roster([Member(f"member {u}", identity(u, scheme).public) for u in range(1, n + 1)])


def session_with(
    parameters: MaskingParameters, number: int = 0, scheme: str = "Ed25519"
) -> Session:
    """Session `number`, with the roster of identities where its mode has one."""
    roster = roster_of(parameters.clients, scheme)
    members = roster if parameters.active else None
    session_id = number.to_bytes(32, "big")
    return Session("masking", parameters, session_id, roster.digest(), members)


def active(n: int = N, length: int = LENGTH, bits: int = BITS, **options: Any) -> MaskingParameters:
    """Parameters of a quick session in active mode, with one corrupt client of five."""
    chosen = {"suite": "X25519", "adversary": "active", "corrupt": 1, **options}
    return masking.configure(n, length, bits, **chosen)


@dataclass
class Round:
    """One session. `applications` says which clients were shown another model."""

    parameters: MaskingParameters = field(default_factory=active)
    number: int = 0
    scheme: str = "Ed25519"
    application: bytes = APPLICATION
    applications: Mapping[int, bytes] = field(default_factory=dict)
    seed: bytes = b"round"

    def __post_init__(self) -> None:
        self.session = session_with(self.parameters, self.number, self.scheme)
        self.source = SeededSource(self.seed + self.number.to_bytes(4, "big"))
        self.journal = MemoryJournal()
        self.server = masking.new_server(self.session, self.source)
        self.everyone = tuple(range(1, self.parameters.clients + 1))
        self.clients = {u: self.party(u) for u in self.everyone}
        bits, length = self.parameters.modulus_bits, self.parameters.length
        short = length < len(self.everyone)
        self.inputs = {u: one_hot(1 if short else u, length, bits) for u in self.everyone}
        self.replies: dict[int, list[Any]] = {u: [] for u in self.everyone}

    @property
    def corrupt(self) -> int:
        """The member that works with the server."""
        return self.everyone[-1]

    def machine(self, u: int) -> Machine:
        """Client u, without its journal."""
        return self.clients[u].machine

    def party(self, u: int) -> Party:
        """A new machine for client u, over the same journal: what a restart begins with."""
        signer = identity(u, self.scheme) if self.parameters.active else None
        made = masking.new_client(self.session, u, self.source, SystemSealer(), signer)
        return Party(made, self.journal)

    def restart(self, u: int) -> tuple[Envelope, ...]:
        """Client u dies and takes up what its journal kept; what it resends."""
        self.clients[u] = self.party(u)
        return self.clients[u].resume()

    def tell(self, u: int, body: Message | bytes, sender: int = SERVER) -> tuple[Envelope, ...]:
        """What client u answers to this; it is told the model where that comes next."""
        data = body if isinstance(body, bytes) else encode(body)
        sent = self.clients[u].handle(Received(sender, data))
        begin(self.clients[u], self.applications.get(u, self.application))
        return sent

    def hear(self, envelopes: Iterable[Envelope]) -> None:
        """The honest server takes what clients sent."""
        for e in envelopes:
            self.replies[e.sender].append(decode(e.data, self.server.receivable))
            self.server.handle(Received(e.sender, e.data))

    def close(self) -> dict[int, Any]:
        """The honest server closes the stage; what it sends, by recipient."""
        kinds = self.machine(1).receivable
        sent = self.server.handle(RoundClosed())
        begin(self.server, self.application)
        return {e.to: decode(e.data, kinds) for e in sent}

    # The honest server, up to a stage; `without` are clients that it does not hear any more.

    def cohorts(self, without: Collection[int] = ()) -> dict[int, Cohort]:
        """Stage 0."""
        for u, sent in self.adverts().items():
            self.hear(sent if u not in without else ())
        return self.close()

    def adverts(self) -> dict[int, tuple[Envelope, ...]]:
        """What every client begins with."""
        return {u: self.clients[u].handle(Join()) for u in self.everyone}

    def inboxes(self, told: Told | None = None, without: Collection[int] = ()) -> dict[int, Any]:
        """Stage 1."""
        return self._next(self.cohorts() if told is None else told, without)

    def uploads(self, told: Told | None = None, without: Collection[int] = ()) -> dict[int, Any]:
        """Stage 2: what the server says once U3 is fixed."""
        told = self.inboxes() if told is None else told
        for u in [u for u in told if u not in without]:
            self.tell(u, told[u])
            self.hear(self.clients[u].handle(Contribute(self.inputs[u])))
        return self.close()

    survivor_sets = uploads

    def proofs(self, told: Told | None = None, without: Collection[int] = ()) -> dict[int, Any]:
        """Stage 3."""
        return self._next(self.survivor_sets() if told is None else told, without)

    def finish(self, told: Told, without: Collection[int] = ()) -> None:
        """Stage 4, and the sum must be exact."""
        self._next(told, without)
        result = self.server.result
        bits = self.parameters.modulus_bits
        assert result.total.tolist() == exact_sum(self.inputs, result.contributors, bits)

    def _next(self, told: Told, without: Collection[int]) -> dict[int, Any]:
        for u in [u for u in told if u not in without]:
            self.hear(self.tell(u, told[u]))
        return self.close()


# --- what the adversary can build ----------------------------------------------------------


def adverts_of(played: Round, told: Mapping[int, Cohort]) -> dict[int, Keys]:
    """Every advert of the cohort, by party."""
    return {k.party: k for cohort in told.values() for k in cohort.neighbours}


def cohort_of(cohort: Cohort, shown: Collection[Keys], me: int, **changes: Any) -> Cohort:
    """A cohort of exactly these adverts, with root and path as they should be for `me`."""
    ordered = sorted(shown, key=lambda k: k.party)
    leaves = [leaf(k) for k in ordered]
    parties = [k.party for k in ordered]
    index = parties.index(me) if me in parties else 0
    fields = {
        **asdict(cohort),
        "size": len(ordered),
        "root": root(leaves),
        "index": index,
        "path": proof(leaves, index),
        "neighbours": tuple(k for k in ordered if k.party != me),
    }
    return Cohort(**{**fields, **changes})


def sealed_for(u: int, v: int, shares: Shares, everyone: Collection[int]) -> bytes:
    """What v sealed for u."""
    return shares.sealed[sorted(set(everyone) - {v}).index(u)]


def forged(played: Round, u: int, v: int, pair: KeyPair, *, info: bytes | None = None) -> Delivered:
    """What whoever holds `pair` seals for u in the name of v, under u's own context1."""
    state, own = played.machine(u).state, played.session.parameters.suite
    key = suite(own).public_key(_channel_key(played, u))
    agreed = pair.agree(key)
    what = keys.shares_info(state.context, v, u) if info is None else info
    plaintext = bytes(DIGEST_BYTES) + b"\1" * SHARE_BYTES + b"\2" * SHARE_BYTES
    return Delivered(v, seal_between(agreed, key, plaintext, what, SystemSealer()))


def pair_of(played: Round, u: int) -> KeyPair:
    """The channel key pair of u, which the adversary has where u is corrupt."""
    seed = played.machine(u).state.seeds.channel
    named = suite(played.parameters.suite)
    return keys.channel_keys(named, seed, played.session.context, u)


def _channel_key(played: Round, u: int) -> bytes:
    return pair_of(played, u).public.raw


def inbox_of(context: bytes, delivered: Iterable[Delivered]) -> Inbox:
    """An inbox in order of the senders."""
    return Inbox(context, tuple(sorted(delivered, key=lambda d: d.sender)))


def takes_off_right_self_masks(
    patch: pytest.MonkeyPatch, context1: bytes, models: Mapping[int, bytes]
) -> None:
    """From now on servers know that not everybody has their model: the self mask that they take
    off is that of the client's own.
    """

    def own_streams(seeds: Table, _context2: bytes, parties: Any) -> list[StreamKey]:
        return [
            keys.own_stream(seed, bound_context(context1, models[u]), u)
            for seed, u in zip(strings(seeds), parties.tolist(), strict=True)
        ]

    lying = types.SimpleNamespace(**{**vars(keys), "own_streams": own_streams})
    patch.setattr(recovery, "keys", lying)


# --- what a refusal must be ----------------------------------------------------------------


def secrets_of(state: Any) -> set[bytes]:
    """Every secret in a client's state: seeds, agreed and pair secrets, shares."""
    found: set[bytes] = set()
    for name in getattr(state, "__struct_fields__", ()):
        value = getattr(state, name)
        if isinstance(value, Seeds):
            found |= {value.channel, value.mask, value.own, value.coins}
        elif name in ("own_seed", "own_share"):
            found.add(value)
        elif name in ("pair_secrets", "agreed"):
            found |= set(value)
        elif name == "peers":
            found |= {share for peer in value for share in _shares(peer)}
    return {each for each in found if each}


def _shares(peer: Peer) -> tuple[bytes, bytes]:
    return peer.mask_share, peer.self_share


_OPAQUE = type | types.ModuleType | types.FunctionType | types.BuiltinFunctionType


def reachable(machine: Machine) -> list[bytes]:
    """Every byte string that a machine holds, wherever it does."""
    seen: set[int] = set()
    found, left = [], [vars(machine)]
    while left:
        each = left.pop()
        if id(each) in seen or isinstance(each, _OPAQUE):
            continue
        seen.add(id(each))
        if isinstance(each, bytes | bytearray):
            found.append(bytes(each))
        left += gc.get_referents(each)
    return found


def holds_none(party: Party, secrets: Collection[bytes]) -> None:
    """Neither the machine nor its journal has any of these."""
    machine = party.machine
    held = b"\0".join([*reachable(machine), machine.snapshot()])
    stored = party._journal.latest(machine.session.session_id, machine.me)
    kept = b"" if stored is None else b"".join([stored.snapshot, *(e.data for e in stored.outbox)])
    assert not any(secret in held or secret in kept for secret in secrets)


def aborts(
    played: Round, u: int, body: Message | bytes, reason: str, blame: int = SERVER
) -> ProtocolAborted:
    """Client u takes no further part: the rule and who broke it are named, nothing leaves, and
    no secret is left, nor comes back with a restart.
    """
    party = played.clients[u]
    before = party.machine.state
    assert secrets_of(before)
    assert secrets_of(before) <= set(reachable(party.machine)), "the search finds what is there"
    with pytest.raises(ProtocolAborted) as caught:
        played.tell(u, body)
    error = caught.value
    assert reason in error.reason, error.reason
    assert error.blame == (blame,)
    assert error.stage == before.stage
    assert isinstance(party.machine.state, Aborted)
    holds_none(party, secrets_of(before))
    assert played.restart(u) == ()
    assert isinstance(played.machine(u).state, Aborted)
    holds_none(played.clients[u], secrets_of(before))
    return error


def ignores(played: Round, u: int, body: Message | bytes, reason: str, sender: int = SERVER) -> Any:
    """Client u refuses a message that is not due, or no message at all, and stays as it was."""
    machine = played.machine(u)
    before = machine.snapshot()
    with pytest.raises((PeerError, LocalError)) as caught:
        played.tell(u, body, sender)
    assert reason in str(caught.value), str(caught.value)
    assert machine.snapshot() == before
    return caught.value


def raw(message: Any) -> list[Any]:
    """A message as plain MessagePack, to be put together wrongly."""
    return msgspec.msgpack.decode(encode(message))
