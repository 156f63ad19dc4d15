"""A deliberately trivial protocol: what a newcomer has to write, and the battery's control.

A client sends its vector; the server adds it up. Nothing is bound, hidden or checked twice.
"""

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
    Protocol,
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
from secagg.errors import DecodeError, LocalError, ProtocolAborted
from secagg.ring import RingVector
from secagg.rng import RandomSource
from secagg.seal import Sealer


class Votes(Parameters, frozen=True):
    @property
    def stages(self) -> tuple[str, ...]:
        return ("vote",)


class Vote(Message, frozen=True, tag="vote"):
    packed: bytes


class Absent(State, frozen=True, tag="absent"):
    stage: ClassVar[str] = "vote"


class Present(State, frozen=True, tag="present"):
    stage: ClassVar[str] = "vote"


class Voted(Terminal, frozen=True, tag="voted"):
    stage: ClassVar[str] = "voted"


class Open(State, frozen=True, tag="open"):
    stage: ClassVar[str] = "vote"
    context: Bytes32
    seen: frozenset[int]
    total: RingVector

    @property
    def expected_context(self) -> bytes:
        return self.context


class Counted(Terminal, frozen=True, tag="counted"):
    stage: ClassVar[str] = "counted"
    seen: frozenset[int]
    total: RingVector


class Client(Machine):
    role = "trivial client"
    receivable = Vote
    states = Absent | Present | Voted | Aborted

    def __init__(self, session: Session, me: int, _source: RandomSource, _sealer: Sealer) -> None:
        if not 1 <= me <= session.parameters.clients:
            raise LocalError(f"client {me} of {session.parameters.clients}")
        super().__init__(session, me, Absent())

    @on(Absent, Join)
    def join(self, _state: Absent, _event: Join) -> Step[Present]:
        return Step(Present())

    @on(Present, Contribute)
    def vote(self, _state: Present, event: Contribute) -> Step[Voted]:
        parameters = self.session.parameters
        vector = RingVector.of(parameters.modulus_bits, event.values)
        if len(vector) != parameters.length:
            raise LocalError("a vector of another length")
        return Step(Voted(), ((SERVER, Vote(self.session.context, vector.pack())),))


class Server(Machine):
    role = "trivial server"
    receivable = Vote
    states = Open | Counted | Aborted

    def __init__(self, session: Session, _source: RandomSource) -> None:
        self.parameters = session.parameters
        total = RingVector.zeros(self.parameters.modulus_bits, self.parameters.length)
        super().__init__(session, SERVER, Open(session.context, frozenset(), total))

    @property
    def result(self) -> Result:
        if not isinstance(self.state, Counted):
            raise LocalError(f"no result at stage {self.state.stage}")
        everyone = frozenset(range(1, self.parameters.clients + 1))
        dropped = dict.fromkeys(sorted(everyone - self.state.seen), "vote")
        return Result(self.state.total.values(), tuple(sorted(self.state.seen)), dropped)

    @property
    def waits_for(self) -> frozenset[int]:
        if not isinstance(self.state, Open):
            return frozenset()
        return frozenset(range(1, self.parameters.clients + 1)) - self.state.seen

    @on(Open, Begin)
    def begin(self, state: Open, event: Begin) -> Step[Open]:
        if len(event.application) != 32:
            raise LocalError("an application digest has 32 bytes")
        return Step(state)

    @receives(Open, Vote)
    def count(self, state: Open, vote: Vote, sender: int) -> Step[Open]:
        if sender not in self.waits_for:
            raise self.refuse(sender, "has no vote left")
        try:
            state.total.add_packed(vote.packed)
        except DecodeError as error:
            raise self.refuse(sender, str(error)) from None
        return Step(replace(state, seen=state.seen | {sender}))

    @on(Open, RoundClosed)
    def close(self, state: Open, _event: RoundClosed) -> Step[Counted]:
        if len(state.seen) < self.parameters.floor:
            why = f"only {len(state.seen)} clients voted, fewer than {self.parameters.floor}"
            raise ProtocolAborted(why, stage=state.stage)
        return Step(Counted(state.seen, state.total))


def configure(clients: int, length: int, modulus_bits: int) -> Votes:
    chosen = Votes(clients, 2, length, modulus_bits)
    chosen.check()
    return chosen


PROTOCOL = Protocol("trivial", Votes, configure, Client, Server)
