"""The client of `ckks` and `bfv`: it encrypts under the key holder's key and seals for the server.

Multi-party use of one key pair whose secret half is not with the aggregator, as in BatchCrypt
(Zhang et al., USENIX ATC 2020, section 4) and NVFLARE's HE aggregation, where however every
client has the secret key.
"""

from collections.abc import Iterator
from typing import ClassVar

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
from protocols.he import keys
from protocols.he.engine import Encryptor
from protocols.he.messages import Batch, Offer, Present, Upload
from protocols.he.parameters import HeParameters, Vector
from secagg.codec import Bytes32, encode
from secagg.errors import DecodeError, LocalError
from secagg.ring import check_vector
from secagg.rng import RandomSource
from secagg.seal import Sealer, suite


class Idle(State, frozen=True, tag="idle"):
    """Before the session. seed: of the coins of its encryption, until they are used."""

    stage: ClassVar[str] = "join"
    seed: Bytes32


class Joined(State, frozen=True, tag="joined"):
    """It has said that it is there, and not what it trains."""

    stage: ClassVar[str] = "join"
    seed: Bytes32


class Bound(State, frozen=True, tag="bound"):
    """It waits for the key."""

    stage: ClassVar[str] = "join"
    seed: Bytes32
    context: Bytes32
    application: Bytes32

    @property
    def expected_context(self) -> bytes:
        """`context0`."""
        return self.context


class Ready(State, frozen=True, tag="ready"):
    """It can contribute."""

    stage: ClassVar[str] = "upload"
    seed: Bytes32
    context: Bytes32
    key: bytes
    sealing_key: bytes


class Done(Terminal, frozen=True, tag="done"):
    """It has contributed, once."""

    stage: ClassVar[str] = "done"


class Client(Machine):
    """One client of one session, number `me`. It draws the seed of its encryption's coins, and
    nothing else; HPKE draws its own.
    """

    role = "homomorphic client"
    receivable = Offer
    states = Idle | Joined | Bound | Ready | Done | Aborted

    def __init__(
        self,
        session: Session,
        me: int,
        source: RandomSource,
        sealer: Sealer,
        engine: Encryptor,
    ) -> None:
        assert isinstance(session.parameters, HeParameters)  # noqa: S101 - the registry's pair
        if not 1 <= me <= session.parameters.clients:
            raise LocalError(f"client {me} of {session.parameters.clients}")
        super().__init__(session, me, Idle(source.seed()))
        self.parameters = session.parameters
        self._sealer = sealer
        self._engine = engine

    @on(Idle, Join)
    def join(self, state: Idle, _event: Join) -> Step[Joined]:
        """Say that it is there."""
        return Step(Joined(state.seed), ((SERVER, Present(self.session.context)),))

    @on(Joined, Begin)
    def bind(self, state: Joined, event: Begin) -> Step[Bound]:
        """Fix what is trained, by this client's own hash of what it received."""
        return Step(Bound(state.seed, self.session.context, event.application))

    @receives(Bound, Offer)
    def take_key(self, state: Bound, offer: Offer, sender: int) -> Step[Ready]:
        """Check both keys before anything is encrypted under them."""
        if sender != SERVER:
            raise self.refuse(sender, "only the server sends this")
        if offer.application != state.application:
            raise self.refuse(
                SERVER,
                "the model or the round configuration differs from ours",
                expected="the application digest that this client computed",
            )
        try:
            self._engine.check_public(offer.key)
            suite(self.parameters.suite).public_key(offer.sealing_key)
        except DecodeError as error:
            raise self.refuse(SERVER, str(error), expected="keys of our parameters") from None
        context2 = keys.upload_context(
            self.session.context, state.application, offer.key, offer.sealing_key
        )
        return Step(Ready(state.seed, context2, offer.key, offer.sealing_key))

    @on(Ready, Contribute)
    def upload(self, state: Ready, event: Contribute) -> Step[Done]:
        """Encrypt, seal and send the vector, piece by piece."""
        check_vector(event.values, self.parameters.length)
        if int(event.values.max()) >> self.parameters.modulus_bits:
            raise LocalError(f"a value does not fit in {self.parameters.modulus_bits} bits")
        return Step(Done(), self._pieces(state, event.values))

    def _pieces(self, state: Ready, values: Vector) -> Iterator[tuple[int, Upload]]:
        """One piece at a time, so that hardly more than one is in memory unsealed."""
        to = suite(self.parameters.suite).public_key(state.sealing_key)
        coins, first = keys.coins(state.seed, state.context), 0
        for index, piece in enumerate(self.parameters.pieces):
            slots = self.parameters.spread(values[piece])
            ciphertexts = self._engine.encrypt(state.key, slots, coins, first)
            first += len(ciphertexts)
            info = keys.sealing_info(state.context, self.me, index)
            sealed = self._sealer.seal(to, encode(Batch(ciphertexts)), info)
            yield SERVER, Upload(state.context, index, sealed)
