"""One party of a protocol, as a table of transitions.

Theory of operation. A machine turns an event into messages. It never waits, sends, reads a
clock or asks for randomness: whoever drives it does (`protocols.driver` in memory,
`fl.runner` over pipes). There are two kinds of event, of different types, so that a peer can
never send a local one:

* `Received(sender, data)`: bytes of a peer. The channel vouches for the sender; the bytes
  are decoded strictly, must belong to this session, and must have a row in the table.
* `Local` events: what our own caller says, such as `RoundClosed` ("nothing more will arrive
  in this stage": late means dropped).

The state is a frozen, serialisable value apart from the machine. A rule returns the next
state and what to send; when it raises, the state stays as it was, so a malformed message
changes nothing. There is one exception: `ProtocolAborted` is an outcome, and leads to the
terminal state `Aborted`, which holds no secret.

The table is the class itself: `@receives(State, Message)` and `@on(State, Event)` mark its
rows, and mypy rejects a rule that disagrees with its row. Diagrams and tests are generated
from `Machine.rows()`.
"""

import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from protocols import snapshot
from protocols.session import SERVER as SERVER  # noqa: PLC0414 - one place to import from
from protocols.session import Parameters as Parameters  # noqa: PLC0414 - one place to import from
from protocols.session import Session as Session  # noqa: PLC0414 - one place to import from
from protocols.snapshot import Dump
from secagg.codec import Bytes32, Value, decode, encode
from secagg.encoding import FixedPoint
from secagg.errors import DecodeError, LocalError, PeerError, ProtocolAborted
from secagg.kdf import DIGEST_BYTES
from secagg.rng import RandomSource
from secagg.seal import Sealer
from secagg.signing import Identity

MAX_OPEN_UPLOADS = 4
MAX_OPEN_BYTES = 2**26
"""A server keeps so many incomplete uploads, or fewer that together are no longer than this
when they are whole, but always one. So its memory does not grow with clients, and beside a long
running sum there is one more vector, not four.
"""


class Message(Value, frozen=True):
    """Base of everything that crosses the wire. `context` binds it to one session."""

    context: Bytes32


class State(Value, frozen=True):
    """Base of every state; `stage` is the name that errors, journals and reports use."""

    stage: ClassVar[str]

    @property
    def expected_context(self) -> bytes | None:
        """What the context of a message must be now; None where no message may arrive."""
        return None


class Terminal(State, frozen=True):
    """Base of the states in which nothing more happens."""


class Aborted(Terminal, frozen=True, tag="aborted"):
    """The session ended without a result. Nothing secret is left."""

    stage: ClassVar[str] = "aborted"
    at: str
    reason: str
    blame: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Local:
    """Base of what our own caller tells a machine. A peer can never send one."""


@dataclass(frozen=True, slots=True)
class Join(Local):
    """Take part in the session."""


@dataclass(frozen=True, slots=True)
class Begin(Local):
    """What is trained: the application digest, 32 bytes, by this party's own hash."""

    application: bytes

    def __post_init__(self) -> None:
        if type(self.application) is not bytes or len(self.application) != DIGEST_BYTES:
            raise LocalError(f"an application digest has {DIGEST_BYTES} bytes")


@dataclass(frozen=True, slots=True)
class Contribute(Local):
    """The vector that this client adds to the sum: (length,) integers below 2^k."""

    values: NDArray[np.unsignedinteger[Any]]

    def __repr__(self) -> str:
        return "<Contribute>"


@dataclass(frozen=True, slots=True)
class RoundClosed(Local):
    """Nothing more will arrive in this stage: who has not answered has dropped out."""


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes from a peer, whom the driver's channel has authenticated."""

    sender: int
    data: bytes

    def __repr__(self) -> str:
        return f"<Received {len(self.data)} bytes from {self.sender}>"


@dataclass(frozen=True, slots=True)
class Envelope:
    """Bytes on their way from one party to another; `stage` says which step they belong to."""

    sender: int
    to: int
    stage: str
    data: bytes

    def __repr__(self) -> str:
        return f"<Envelope {self.sender} -> {self.to}, {self.stage}, {len(self.data)} bytes>"


class BadAnswer(Value, frozen=True):
    """Something that `holder` returned about `dealer` and that does not match what was
    published: a `mask share`, a `self share` or a `contribution`. One of the two is at fault.
    It was not used.
    """

    dealer: int
    holder: int
    what: str

    def __repr__(self) -> str:
        return f"BadAnswer(dealer={self.dealer}, holder={self.holder}, what={self.what!r})"


@dataclass(frozen=True)
class Result:
    """What the server learns: the sum over `contributors` modulo 2^k, and who was lost where.

    `dropped` maps a client to the first stage in which it was missing.
    """

    total: NDArray[np.unsignedinteger[Any]]
    contributors: tuple[int, ...]
    dropped: Mapping[int, str]
    bad_answers: tuple[BadAnswer, ...] = ()


S = TypeVar("S", bound=State)
E = TypeVar("E", bound=Local)
B = TypeVar("B", bound=Message)
M = TypeVar("M", bound="Machine")
P = TypeVar("P")
S_co = TypeVar("S_co", bound=State, covariant=True)


@dataclass(frozen=True, slots=True)
class Step(Generic[S_co]):
    """What a rule yields: the next state, and messages with their recipients.

    `send` may be a generator, whose messages are encoded one by one; if it raises, the rule
    has raised, and the state stays as it was.
    """

    state: S_co
    send: Iterable[tuple[int, Message]] = ()


@dataclass(frozen=True, slots=True)
class Protocol:
    """What a protocol's folder offers: the registry points at one of these.

    configure: parameters from (clients, length, modulus_bits) and the protocol's own options;
    client: a new machine from (session, number, random source, sealer), and `signer`, its
    identity, where one is given; server and helper: likewise, without that.
    """

    name: str
    parameters: type[Parameters]
    configure: Callable[..., Parameters]
    client: Callable[..., "Machine"]
    server: Callable[[Session, RandomSource], "Machine"]
    helper: Callable[[Session, int, RandomSource, Sealer], "Machine"] | None = None

    def configure_for(
        self, encoding: FixedPoint, clients: int, length: int, modulus_bits: int, **options: Any
    ) -> Parameters:
        """Parameters for vectors that `encoding` makes: where the packing depends on the largest
        value of a client, they are told.
        """
        if "largest" in self.parameters.__struct_fields__:
            options.setdefault("largest", encoding.max_weight * (2**encoding.bits - 1))
        return self.configure(clients, length, modulus_bits, **options)

    def party(
        self,
        session: Session,
        me: int,
        source: RandomSource,
        sealer: Sealer,
        signer: Identity | None = None,
    ) -> "Machine":
        """A new machine for party `me`, who is not the server. Or LocalError."""
        parameters = session.parameters
        if me <= parameters.clients:
            identity = {} if signer is None else {"signer": signer}
            return self.client(session, me, source, sealer, **identity)
        if self.helper is None or me > parameters.clients + parameters.helpers:
            raise LocalError(f"party {me} of {parameters.clients} clients")
        return self.helper(session, me, source, sealer)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table, for documentation and tests."""

    state: type[State]
    event: type[Message] | type[Local]
    rule: str
    leads_to: tuple[str, ...]


def receives(
    state: type[S], message: type[B]
) -> Callable[[Callable[[M, S, B, int], Step[Any]]], Callable[[M, S, B, int], Step[Any]]]:
    """A row for a peer's message. The rule gets (state, message, sender)."""
    return _mark(state, message)


def on(
    state: type[S], event: type[E]
) -> Callable[[Callable[[M, S, E], Step[Any]]], Callable[[M, S, E], Step[Any]]]:
    """A row for a local event. The rule gets (state, event)."""
    return _mark(state, event)


def _mark(state: type[State], event: type) -> Callable[[Any], Any]:
    def mark(rule: Any) -> Any:
        rule.rows = (*getattr(rule, "rows", ()), (state, event))
        return rule

    return mark


class Machine:
    """Base class of every party.

    A subclass names the messages it may receive and the states it may be in, as unions of
    tagged structs; the table is collected from its marked methods.
    """

    role: ClassVar[str]
    receivable: ClassVar[Any]
    states: ClassVar[Any]
    table: ClassVar[Mapping[tuple[type, type], Callable[..., Step[Any]]]] = {}

    def __init_subclass__(cls) -> None:
        rows = {row: rule for rule in vars(cls).values() for row in getattr(rule, "rows", ())}
        cls.table = {**cls.table, **rows}

    def __init__(self, session: Session, me: int, state: State) -> None:
        self.session = session
        self.me = me
        self.state = state

    def handle(self, event: Received | Local) -> tuple[Envelope, ...]:
        """Advance on `event` and return what is to be sent.

        Raises PeerError (the peer's fault) or LocalError (the caller's) with the state
        unchanged, or ProtocolAborted, after which the state is `Aborted`.
        """
        stage = self.state.stage
        try:
            step = self._step(event)
            sent = tuple(Envelope(self.me, to, stage, encode(body)) for to, body in step.send)
        except ProtocolAborted as abort:
            self.state = Aborted(stage, abort.reason, abort.blame)
            raise
        self.state = step.state
        return sent

    @property
    def finished(self) -> bool:
        """Whether nothing more can happen."""
        return isinstance(self.state, Terminal)

    @property
    def accepts(self) -> frozenset[type]:
        """The types of message and event that the table has rows for now."""
        return frozenset(event for state, event in self.table if state is type(self.state))

    @property
    def result(self) -> Result:
        """A server's outcome. Raises LocalError before there is one, and for a client."""
        raise LocalError(f"a {self.role} has no result at stage {self.state.stage}")

    @property
    def waits_for(self) -> frozenset[int]:
        """The peers that have not answered in this stage."""
        return frozenset()

    @property
    def unfinished(self) -> frozenset[int]:
        """The peers of whose message parts are still missing: hear them first."""
        return frozenset()

    @property
    def satisfied(self) -> bool:
        """Whether what has come in the last stage suffices, by all that can be checked before its
        end: who has not been asked yet (`Parameters.any_suffice`) need not be.
        """
        return False

    def snapshot(self) -> bytes:
        """The state as bytes, secrets included: for this party's own store only."""
        return snapshot.encode(self.state)

    def dump(self) -> Dump:
        """The same for a store that takes long vectors apart and at once; see `Dump`."""
        return snapshot.dump(self.state)

    def restore(
        self, stored: bytes, vectors: Sequence[bytes | bytearray | memoryview] = ()
    ) -> None:
        """Take up a state that this party's own store kept, as a `snapshot` or as a `dump`.

        Raises LocalError for anything else.
        """
        state: State = snapshot.load(stored, self.states, self.role, vectors)
        if not self.fits(state):
            raise LocalError(f"a stored state of a {self.role} with other parameters")
        self.state = state

    def fits(self, state: State) -> bool:
        """Whether a stored state, well-formed as it is, belongs to these parameters."""
        del state  # a subclass whose states depend on the parameters looks at it
        return True

    @classmethod
    def rows(cls) -> tuple[Row, ...]:
        """The table as data, in the order in which it is written."""
        return tuple(
            Row(state, event, rule.__name__, _leads_to(rule))
            for (state, event), rule in cls.table.items()
        )

    def _step(self, event: Received | Local) -> Step[Any]:
        if isinstance(event, Received):
            body = self._open(event)
            return self.table[type(self.state), type(body)](self, self.state, body, event.sender)
        if type(event) not in self.accepts:
            raise LocalError(self._not_now(event))
        return self.table[type(self.state), type(event)](self, self.state, event)

    def _not_now(self, event: Local) -> str:
        local = sorted(each.__name__ for each in self.accepts if issubclass(each, Local))
        instead = f"; what is: {' or '.join(local)}" if local else ""
        return f"{type(event).__name__} is not allowed at stage {self.state.stage}{instead}"

    def _open(self, event: Received) -> Message:
        """Decode a peer's bytes; every refusal names the peer, the stage and the expectation."""
        try:
            body = cast(Message, decode(event.data, self.receivable))
        except DecodeError as error:
            raise self.refuse(event.sender, str(error)) from None
        if (type(self.state), type(body)) not in self.table:
            raise self.refuse(event.sender, f"unexpected {type(body).__name__}")
        if body.context != self.state.expected_context:
            raise self.refuse(
                event.sender,
                f"{type(body).__name__} of another session",
                expected="a message bound to this session, roster and model",
            )
        return body

    def earlier_pieces(
        self, incomplete: Mapping[int, tuple[P, ...]], sender: int, index: int
    ) -> tuple[P, ...]:
        """What came of a sender's upload before the piece `index`, which must be the next.

        Raises PeerError for another piece, and LocalError for a first one while as many uploads
        are incomplete as may be (`MAX_OPEN_UPLOADS`): it may be handed over again.
        """
        in_bytes = MAX_OPEN_BYTES // self.session.parameters.upload_bytes
        most = max(1, min(MAX_OPEN_UPLOADS, in_bytes))
        if sender not in incomplete and len(incomplete) >= most:
            raise LocalError(f"{len(incomplete)} uploads are incomplete: hear `unfinished` first")
        before = incomplete.get(sender, ())
        if index != len(before):
            raise self.refuse(sender, f"piece {index} where {len(before)} is next")
        return before

    def refuse(self, peer: int, reason: str, *, expected: str | None = None) -> PeerError:
        """The error that blames `peer` at this stage."""
        return PeerError(
            reason, peer=peer, stage=self.state.stage, expected=expected or self._expectation()
        )

    def _expectation(self) -> str:
        messages = sorted(e.__name__ for e in self.accepts if issubclass(e, Message))
        return f"one {' or '.join(messages)}" if messages else "no message at this stage"


def _leads_to(rule: Callable[..., Step[Any]]) -> tuple[str, ...]:
    """The next states by the rule's own annotation, `Step[A | B]`."""
    (next_state,) = typing.get_args(typing.get_type_hints(rule)["return"])
    options = typing.get_args(next_state) or (next_state,)
    return tuple(option.__name__ for option in options)
