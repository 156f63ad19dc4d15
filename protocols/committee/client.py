"""The client of `committee`: it hears who the decryptors are, sends one upload, and is done."""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

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
    Terminal,
    on,
    receives,
)
from protocols.committee.messages import Committee, DecryptorKey, Upload, context_of, info
from protocols.committee.parameters import CommitteeParameters
from secagg import kdf, prg, rlwe, vshare
from secagg.codec import Bytes32, Value
from secagg.errors import DecodeError, LocalError, PeerError, ProtocolAborted
from secagg.ring import check_vector
from secagg.rng import RandomSource
from secagg.seal import PublicKey, Sealer, suite


class Seeds(Value, frozen=True):
    """Of the short key, of the errors, and of the polynomials that share the key."""

    key: Bytes32
    errors: Bytes32
    coins: Bytes32


class Idle(State, frozen=True, tag="idle"):
    """It has not said what it trains."""

    stage: ClassVar[str] = "upload"
    seeds: Seeds


class Bound(State, frozen=True, tag="bound"):
    """It knows what is trained, and waits for the committee."""

    stage: ClassVar[str] = "upload"
    context: Bytes32
    seeds: Seeds
    application: Bytes32

    @property
    def expected_context(self) -> bytes:
        """The committee is announced under `context0`."""
        return self.context


class Ready(State, frozen=True, tag="ready"):
    """It can contribute."""

    stage: ClassVar[str] = "upload"
    context: Bytes32
    seeds: Seeds
    keys: tuple[DecryptorKey, ...]


class Done(Terminal, frozen=True, tag="done"):
    """It has contributed, once, and holds no secret any more."""

    stage: ClassVar[str] = "done"


class Client(Machine):
    """One client of one session, number `me`."""

    role = "committee client"
    receivable = Committee
    states = Idle | Bound | Ready | Done | Aborted

    def __init__(self, session: Session, me: int, source: RandomSource, sealer: Sealer) -> None:
        assert isinstance(session.parameters, CommitteeParameters)  # noqa: S101 - the registry's
        if not 1 <= me <= session.parameters.clients:
            raise LocalError(f"client {me} of {session.parameters.clients}")
        super().__init__(session, me, Idle(Seeds(source.seed(), source.seed(), source.seed())))
        self.parameters = session.parameters
        self._plan = session.parameters.plan
        self._suite = suite(session.parameters.suite)
        self._sealer = sealer

    @on(Idle, Join)
    def join(self, state: Idle, _event: Join) -> Step[Idle]:
        """Take part; nobody needs to be told, so a restarted client may also just begin."""
        return Step(state)

    @on(Idle, Begin)
    def bind(self, state: Idle, event: Begin) -> Step[Bound]:
        """Fix what is trained."""
        return Step(Bound(self.session.context, state.seeds, event.application))

    @receives(Bound, Committee)
    def meet(self, state: Bound, committee: Committee, sender: int) -> Step[Ready]:
        """Take the decryptors' keys, which must be valid, distinct, and enough."""
        if sender != SERVER:
            raise self.refuse(sender, "only the server sends this")
        if committee.application != state.application:
            raise self.refuse(
                SERVER,
                "the model or the round configuration differs from ours",
                expected="the application digest that this client computed",
            )
        parties = [key.party for key in committee.keys]
        if sorted({*parties} & {*self.parameters.committee}) != parties:
            raise self.refuse(SERVER, "decryptors that are not of the committee, in order")
        if len({key.public for key in committee.keys}) != len(parties):
            raise self.refuse(SERVER, "a decryptor's key appears twice")
        for key in committee.keys:
            self._public(key)
        need = self.parameters.threshold
        if len(parties) < need:
            why = f"only {len(parties)} decryptors have keys, fewer than {need}"
            raise ProtocolAborted(why, stage=state.stage)
        context2 = context_of(state.context, state.application, committee.keys)
        return Step(Ready(context2, state.seeds, committee.keys))

    @on(Ready, Contribute)
    def upload(self, state: Ready, event: Contribute) -> Step[Done]:
        """Encrypt under a fresh short key, and share that among the decryptors."""
        check_vector(event.values, self.parameters.length)
        rlwe.check_values(self._plan, event.values)
        return Step(Done(), self._pieces(state, event.values))

    def _pieces(self, state: Ready, values: NDArray[Any]) -> Iterator[tuple[int, Upload]]:
        """The upload, one piece at a time, so that never two copies of it are needed."""
        plan, context, seeds = self._plan, state.context, state.seeds
        key = rlwe.draw_key(seeds.key, context, plan)
        step, last = self.parameters.step, len(self.parameters.pieces) - 1
        packed = rlwe.encrypt(plan, seeds.errors, context, values, key, step)
        for index, piece in enumerate(packed):
            sealed = self._sealed_shares(state, key) if index == last else ()
            yield SERVER, Upload(context, index, piece, sealed)
        key.fill(0)

    def _sealed_shares(self, state: Ready, key: rlwe.Short) -> tuple[bytes, ...]:
        """The shares of the key, each sealed for its decryptor."""
        raw = kdf.derive(
            state.seeds.coins, "committee coins", state.context, length=prg.STREAM_KEY_BYTES
        )
        coins = prg.StreamKey.of(raw)
        points = [each.party for each in state.keys]
        shares = vshare.deal(key.astype(np.int64), points, self.parameters.threshold, coins)
        return tuple(
            self._sealer.seal(self._public(to), share, info(state.context, self.me, to.party))
            for to, share in zip(state.keys, shares, strict=True)
        )

    def _public(self, key: DecryptorKey) -> PublicKey:
        try:
            return self._suite.public_key(key.public)
        except DecodeError as error:
            raise self._bad_key(key, error) from None

    def _bad_key(self, key: DecryptorKey, error: DecodeError) -> PeerError:
        return self.refuse(SERVER, f"the key of decryptor {key.party}: {error}")
