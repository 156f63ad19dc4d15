"""Client and server of the plain sum."""

from typing import ClassVar

from msgspec.structs import replace

from protocols.base import (
    SERVER,
    Aborted,
    Begin,
    Contribute,
    Join,
    Machine,
    Message,
    Parameters,
    Result,
    RoundClosed,
    Session,
    State,
    Step,
    Terminal,
    on,
    receives,
)
from secagg.codec import Bytes32
from secagg.context import bound_context, cohort_context
from secagg.errors import DecodeError, LocalError, ProtocolAborted
from secagg.kdf import DIGEST_BYTES
from secagg.ring import RingVector, check_vector
from secagg.rng import RandomSource
from secagg.seal import Sealer

_NOBODY = bytes(DIGEST_BYTES)


class Upload(Message, frozen=True, tag="plain-upload"):
    """The vector, k bits a coordinate, in clear."""

    packed: bytes


class Idle(State, frozen=True, tag="idle"):
    """Before the session."""

    stage: ClassVar[str] = "upload"


class Joined(State, frozen=True, tag="joined"):
    """It takes part, and has not said what it trains."""

    stage: ClassVar[str] = "upload"


class Bound(State, frozen=True, tag="bound"):
    """It can contribute."""

    stage: ClassVar[str] = "upload"
    context: Bytes32


class Done(Terminal, frozen=True, tag="done"):
    """It has contributed, once."""

    stage: ClassVar[str] = "done"


class Collecting(State, frozen=True, tag="collecting"):
    """One running sum; `context` is empty until the server has said what is trained."""

    stage: ClassVar[str] = "upload"
    context: bytes
    uploaded: frozenset[int]
    total: RingVector

    @property
    def expected_context(self) -> bytes:
        """Session and application; there is no cohort to bind."""
        return self.context


class Finished(Terminal, frozen=True, tag="finished"):
    """The sum is known."""

    stage: ClassVar[str] = "finished"
    total: RingVector
    contributors: tuple[int, ...]


class Client(Machine):
    """One client of one session."""

    role = "plain client"
    receivable = Upload  # nothing is sent to a client, so every message is unexpected
    states = Idle | Joined | Bound | Done | Aborted

    def __init__(self, session: Session, me: int, _source: RandomSource, _sealer: Sealer) -> None:
        if not 1 <= me <= session.parameters.clients:
            raise LocalError(f"client {me} of {session.parameters.clients}")
        super().__init__(session, me, Idle())

    @on(Idle, Join)
    def join(self, _state: Idle, _event: Join) -> Step[Joined]:
        """Take part; nobody needs to be told."""
        return Step(Joined())

    @on(Joined, Begin)
    def bind(self, _state: Joined, event: Begin) -> Step[Bound]:
        """Fix what is trained."""
        return Step(Bound(_context2(self.session, event)))

    @on(Bound, Contribute)
    def upload(self, state: Bound, event: Contribute) -> Step[Done]:
        """Send the vector."""
        parameters = self.session.parameters
        check_vector(event.values, parameters.length)
        vector = RingVector.of(parameters.modulus_bits, event.values)
        return Step(Done(), ((SERVER, Upload(state.context, vector.pack())),))


class Server(Machine):
    """The server of one session."""

    role = "plain server"
    receivable = Upload
    states = Collecting | Finished | Aborted

    def __init__(self, session: Session, _source: RandomSource) -> None:
        parameters = session.parameters
        total = RingVector.zeros(parameters.modulus_bits, parameters.length)
        super().__init__(session, SERVER, Collecting(b"", frozenset(), total))

    @property
    def result(self) -> Result:
        """The outcome; LocalError before there is one."""
        if not isinstance(self.state, Finished):
            return super().result
        everyone = range(1, self.session.parameters.clients + 1)
        there = self.state.contributors
        dropped = {party: "upload" for party in everyone if party not in there}
        return Result(self.state.total.values(), there, dropped)

    def fits(self, state: State) -> bool:
        """A stored sum must be one of ours."""
        parameters = self.session.parameters
        total = getattr(state, "total", None)
        return total is None or total.fits(parameters.modulus_bits, parameters.length)

    @property
    def waits_for(self) -> frozenset[int]:
        """The clients that have not contributed."""
        if not isinstance(self.state, Collecting):
            return frozenset()
        return frozenset(range(1, self.session.parameters.clients + 1)) - self.state.uploaded

    @on(Collecting, Begin)
    def bind(self, state: Collecting, event: Begin) -> Step[Collecting]:
        """Fix what is trained; needed before anything is taken."""
        if state.context:
            raise LocalError("Begin is said once")
        return Step(replace(state, context=_context2(self.session, event)))

    @receives(Collecting, Upload)
    def add(self, state: Collecting, upload: Upload, sender: int) -> Step[Collecting]:
        """Add one vector to the running sum."""
        if not 1 <= sender <= self.session.parameters.clients:
            raise self.refuse(sender, "not a member of the roster")
        if sender in state.uploaded:
            raise self.refuse(sender, "uploaded twice")
        try:
            state.total.add_packed(upload.packed)
        except DecodeError as error:
            raise self.refuse(sender, str(error)) from None
        return Step(replace(state, uploaded=state.uploaded | {sender}))

    @on(Collecting, RoundClosed)
    def finish(self, state: Collecting, _event: RoundClosed) -> Step[Finished]:
        """The sum is what was added."""
        if not state.context:
            raise LocalError("say Begin, with the application digest, before closing the stage")
        have, need = len(state.uploaded), self.session.parameters.floor
        if have < need:
            why = f"only {have} clients uploaded, fewer than {need}"
            raise ProtocolAborted(why, stage=state.stage)
        return Step(Finished(state.total, tuple(sorted(state.uploaded))))


def configure(
    clients: int, length: int, modulus_bits: int, *, floor: int | None = None
) -> Parameters:
    """Checked parameters; a majority must be in the sum unless `floor` is given."""
    default = max(clients // 2 + 1, 2)
    chosen = Parameters(clients, default if floor is None else floor, length, modulus_bits)
    chosen.check()
    return chosen


def _context2(session: Session, event: Begin) -> bytes:
    return bound_context(cohort_context(session.context, _NOBODY, _NOBODY), event.application)
