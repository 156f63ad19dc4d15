"""The client of the weak protocol."""

from typing import Any, ClassVar

import numpy as np

from benchmarks.security.vulnerable.masks import mask, shortened
from benchmarks.security.vulnerable.messages import (
    Advert,
    Answer,
    Ask,
    Cohort,
    Inbox,
    Key,
    Parcel,
    Piece,
    Shares,
    Upload,
)
from benchmarks.security.vulnerable.parameters import ZEROS, VulnerableParameters
from protocols.base import (
    SERVER,
    Aborted,
    Begin,
    Contribute,
    Join,
    Machine,
    Session,
    State,
    Step,
    on,
    receives,
)
from secagg import prg, shamir
from secagg.codec import Bytes32
from secagg.context import bound_context
from secagg.errors import DecodeError, LocalError
from secagg.kdf import derive, label
from secagg.ring import RingVector, check_vector
from secagg.rng import RandomSource
from secagg.seal import KeyPair, Sealer, suite
from secagg.shamir import SHARE_BYTES
from secagg.signing import Identity


class Idle(State, frozen=True, tag="weak-idle"):
    """Before the session."""

    stage: ClassVar[str] = "advertise"
    secrets: tuple[Bytes32, Bytes32, Bytes32]


class Advertised(Idle, frozen=True, tag="weak-advertised"):
    """Its key is out."""

    stage: ClassVar[str] = "share"


class Bound(Idle, frozen=True, tag="weak-bound"):
    """It knows what is trained."""

    stage: ClassVar[str] = "share"
    context: Bytes32
    application: Bytes32

    @property
    def expected_context(self) -> bytes:
        """`context0`."""
        return self.context


class Shared(Idle, frozen=True, tag="weak-shared"):
    """It has dealt its secrets. `held`: the shares that it was given, by dealer."""

    stage: ClassVar[str] = "upload"
    context: Bytes32
    peers: tuple[Key, ...]
    held: dict[int, bytes]

    @property
    def expected_context(self) -> bytes:
        """`context1`, which here may not know the model."""
        return self.context


class Ready(Shared, frozen=True, tag="weak-ready"):
    """It can upload."""


class Sent(Shared, frozen=True, tag="weak-sent"):
    """It has uploaded, and keeps everything."""

    stage: ClassVar[str] = "unmask"


class Answered(Shared, frozen=True, tag="weak-answered"):
    """It has answered, and keeps everything."""

    stage: ClassVar[str] = "answered"


class Client(Machine):
    """One client of one session."""

    role = "vulnerable client"
    receivable = Cohort | Inbox | Ask
    states = Idle | Advertised | Bound | Shared | Ready | Sent | Answered | Aborted

    def __init__(
        self,
        session: Session,
        me: int,
        source: RandomSource,
        sealer: Sealer,
        signer: Identity | None = None,
    ) -> None:
        assert isinstance(session.parameters, VulnerableParameters)  # noqa: S101 - our own pair
        super().__init__(session, me, Idle((source.seed(), source.seed(), source.seed())))
        self.parameters = session.parameters
        self._sealer = sealer
        self._signer = signer

    @on(Idle, Join)
    def advertise(self, state: Idle, _event: Join) -> Step[Advertised]:
        """Send the key."""
        public = self._pair(state).public.raw
        signature = self._signer.sign(self._signed(self.me, public)) if self._signer else b""
        advert = Advert(self.session.context, public, signature)
        return Step(Advertised(state.secrets), ((SERVER, advert),))

    @on(Advertised, Begin)
    def bind(self, state: Advertised, event: Begin) -> Step[Bound]:
        """Note the model."""
        return Step(Bound(state.secrets, self.session.context, event.application))

    @receives(Bound, Cohort)
    def share(self, state: Bound, cohort: Cohort, _sender: int) -> Step[Shared]:
        """Deal both secrets to everybody whose key the server sent."""
        peers = tuple(key for key in cohort.keys if key.party != self.me)
        if not self.parameters.swapped_keys:
            self._check_keys(peers)
        context = self.session.context
        if not self.parameters.unbound_model:
            context = bound_context(context, state.application)
        points = [self.me, *(key.party for key in peers)]
        _, own, coins = state.secrets
        dealt = shamir.deal(
            [self._own_secret(own), state.secrets[0]],
            points,
            self.parameters.threshold,
            _coins(coins),
        )
        parcels = tuple(
            self._sealed(context, key, b"".join(pieces))
            for key, pieces in zip(peers, dealt[1:], strict=True)
        )
        held = {self.me: b"".join(dealt[0])}
        return Step(
            Shared(state.secrets, context, peers, held), ((SERVER, Shares(context, parcels)),)
        )

    @receives(Shared, Inbox)
    def collect(self, state: Shared, inbox: Inbox, _sender: int) -> Step[Ready]:
        """Open what the others dealt."""
        pair = self._pair(state)
        held = dict(state.held)
        for parcel in inbox.parcels:
            info = label("weak shares", state.context, parcel.party, self.me)
            try:
                held[parcel.party] = pair.open(parcel.sealed, info)
            except DecodeError as error:
                raise self.refuse(SERVER, f"client {parcel.party}: {error}") from None
        peers = tuple(key for key in state.peers if key.party in held)
        return Step(Ready(state.secrets, state.context, peers, held))

    @on(Ready, Contribute)
    def upload(self, state: Ready, event: Contribute) -> Step[Sent]:
        """Mask and send."""
        bits, length = self.parameters.modulus_bits, self.parameters.length
        if self.parameters.silent:
            values: Any = np.resize(event.values.astype(np.uint64), length) & np.uint64(2**bits - 1)
        else:
            check_vector(event.values, length)
            values = RingVector.of(bits, event.values).values().astype(np.uint64)
        words = np.concatenate([values, np.zeros(ZEROS, np.uint64)])
        for seed, sign in self._seeds(state):
            stream = mask(seed, len(words), self.parameters.weak_seeds)
            words = words + stream if sign > 0 else words - stream
        packed = RingVector.of(bits, words & np.uint64(2**bits - 1)).pack()
        sent = Sent(state.secrets, state.context, state.peers, state.held)
        return Step(sent, ((SERVER, Upload(state.context, packed)),))

    @receives(Sent, Inbox)
    def begin_again(self, state: Sent, _inbox: Inbox, _sender: int) -> Step[Ready]:
        """A delivery that comes twice: the mistake is to take it."""
        if not self.parameters.reuse:
            raise self.refuse(SERVER, "a second delivery")
        return Step(Ready(state.secrets, state.context, state.peers, state.held))

    @receives(Sent, Ask)
    def answer(self, state: Sent, ask: Ask, _sender: int) -> Step[Answered]:
        """Give what is asked for."""
        if not self.parameters.both_shares and set(ask.survivors) & set(ask.dropped):
            raise self.refuse(SERVER, "both shares of one client")
        held = state.held
        message = Answer(
            state.context,
            tuple(Piece(v, held[v][:SHARE_BYTES]) for v in ask.survivors if v in held),
            tuple(Piece(v, held[v][SHARE_BYTES:]) for v in ask.dropped if v in held),
        )
        after = Answered(state.secrets, state.context, state.peers, held)
        return Step(after, ((SERVER, message),))

    @receives(Answered, Ask)
    def answer_again(self, state: Answered, ask: Ask, sender: int) -> Step[Answered]:
        """And again."""
        if not self.parameters.both_shares:
            raise self.refuse(SERVER, "a second request")
        return self.answer(Sent(state.secrets, state.context, state.peers, state.held), ask, sender)

    def _pair(self, state: Idle) -> KeyPair:
        return suite("X25519").key_pair(state.secrets[0])

    def _own_secret(self, own: bytes) -> bytes:
        return shortened(own, self.parameters.seed_bits).to_bytes(32, "big")

    def _seeds(self, state: Shared) -> list[tuple[int, int]]:
        """(seed, sign) of every mask of this client."""
        bits = self.parameters.seed_bits
        pair = self._pair(state)
        pairs = [
            (pair_seed(pair, key.public, state.context, bits), 1 if self.me < key.party else -1)
            for key in state.peers
        ]
        return [(shortened(state.secrets[1], bits), 1), *pairs]

    def _sealed(self, context: bytes, to: Key, body: bytes) -> Parcel:
        info = label("weak shares", context, self.me, to.party)
        sealed = self._sealer.seal(suite("X25519").public_key(to.public), body, info)
        return Parcel(to.party, sealed)

    def _signed(self, party: int, public: bytes) -> bytes:
        return label("weak key", self.session.context, party, public)

    def _check_keys(self, peers: tuple[Key, ...]) -> None:
        members = self.session.members
        if members is None:
            raise LocalError("keys are checked against a roster, and the session has none")
        for key in peers:
            try:
                public = members.member(key.party).public
                public.verify(key.signature, self._signed(key.party, key.public))
            except DecodeError as error:
                raise self.refuse(SERVER, f"the key of client {key.party}: {error}") from None


def pair_seed(pair: KeyPair, public: bytes, context: bytes, bits: int) -> int:
    """The seed of the mask that two clients share."""
    secret = pair.agree(suite("X25519").public_key(public))
    return shortened(derive(secret, "weak pair", context), bits)


def _coins(seed: bytes) -> prg.StreamKey:
    raw = derive(seed, "weak coins", length=28)
    return prg.StreamKey(raw[:16], raw[16:])
