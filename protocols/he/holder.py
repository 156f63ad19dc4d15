"""The key holder of `ckks` and `bfv`, party n + 1: it opens one sum a session and nothing else."""

from typing import ClassVar

from msgspec.structs import replace

from protocols.base import (
    SERVER,
    Aborted,
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
from protocols.he.engine import Engine
from protocols.he.messages import Aggregate, Opened, PublicKey
from protocols.he.packing import Words
from protocols.he.parameters import HeParameters
from secagg.codec import Bytes32
from secagg.errors import DecodeError, LocalError, ProtocolAborted
from secagg.packing import pack
from secagg.ring import RingVector


class Idle(State, frozen=True, tag="idle"):
    """It has a new key pair, which nobody has seen."""

    stage: ClassVar[str] = "join"
    public: bytes
    secret: bytes


class Holding(State, frozen=True, tag="holding"):
    """It waits for the sum; `total` has the pieces before `index`, which it keeps to itself."""

    stage: ClassVar[str] = "open"
    context: Bytes32
    secret: bytes
    index: int
    contributors: int
    total: RingVector

    @property
    def expected_context(self) -> bytes:
        """Session and key."""
        return self.context


class Done(Terminal, frozen=True, tag="done"):
    """It has opened the sum, and has no key any more."""

    stage: ClassVar[str] = "done"


class KeyHolder(Machine):
    """The key holder of one session. Its keys are TenSEAL's, new for every session."""

    role = "key holder"
    receivable = Aggregate
    states = Idle | Holding | Done | Aborted

    def __init__(self, session: Session, me: int, engine: Engine) -> None:
        assert isinstance(session.parameters, HeParameters)  # noqa: S101 - the registry's pair
        if me != session.parameters.holder:
            raise LocalError(f"the key holder is party {session.parameters.holder}, not {me}")
        super().__init__(session, me, Idle(*engine.new_keys()))
        self.parameters = session.parameters
        self._engine = engine

    def fits(self, state: State) -> bool:
        """A stored sum must be one of ours."""
        if not isinstance(state, Holding):
            return True
        return state.total.fits(self.parameters.modulus_bits, self.parameters.length)

    @on(Idle, Join)
    def publish(self, state: Idle, _event: Join) -> Step[Holding]:
        """Hand out the public key."""
        context0 = self.session.context
        total = RingVector.zeros(self.parameters.modulus_bits, self.parameters.length)
        context = keys.opening_context(context0, state.public)
        holding = Holding(context, state.secret, 0, 0, total)
        return Step(holding, ((SERVER, PublicKey(context0, state.public)),))

    @receives(Holding, Aggregate)
    def open(self, state: Holding, piece: Aggregate, sender: int) -> Step[Holding | Done]:
        """Decrypt a piece of the sum; the last one releases the sum and ends the key's life."""
        if sender != SERVER:
            raise self.refuse(sender, "only the server sends this")
        self._check(state, piece)
        where = self.parameters.pieces[piece.index]
        values = self._decrypted(state, piece, where.stop - where.start)
        packed = pack(values, self.parameters.modulus_bits)
        state.total.add_packed(packed, start=where.start, count=len(values))
        if piece.index + 1 < len(self.parameters.pieces):
            return Step(replace(state, index=piece.index + 1, contributors=piece.contributors))
        return Step(Done(), ((SERVER, Opened(state.context, state.total.pack())),))

    def _check(self, state: Holding, piece: Aggregate) -> None:
        if piece.index != state.index:
            raise self.refuse(SERVER, f"piece {piece.index} where {state.index} is next")
        if not self.parameters.floor <= piece.contributors <= self.parameters.clients:
            raise self.refuse(
                SERVER,
                f"a sum over {piece.contributors} clients",
                expected=f"one over {self.parameters.floor} to {self.parameters.clients}",
            )
        if state.index and piece.contributors != state.contributors:
            raise self.refuse(SERVER, "pieces of sums over different clients")
        try:
            self._engine.check(piece.ciphertexts, self.parameters.ciphertexts(piece.index))
        except DecodeError as error:
            raise self.refuse(SERVER, str(error)) from None

    def _decrypted(self, state: Holding, piece: Aggregate, length: int) -> Words:
        """The sums. What decrypts to no sum ends the session and the key with it: neither scheme
        is safe against chosen ciphertexts, so there is no second try.
        """
        try:
            slots = self._engine.decrypt(state.secret, piece.ciphertexts, piece.contributors)
        except DecodeError as error:
            why = f"piece {piece.index} decrypts to {error}; it is not of this session's key"
            raise ProtocolAborted(why, stage=state.stage, blame=(SERVER,)) from None
        return self.parameters.collect(slots, length)
