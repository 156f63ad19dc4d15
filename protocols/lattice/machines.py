"""Client and server of `lattice`, around those of an inner protocol.

Theory of operation. The inner machine's state is part of ours: each rule sets the inner
machine to it, hands it one event, and takes its next state and its messages away again. So the
two advance together or not at all. Of the inner protocol nothing is used but `Machine`: that
its clients contribute at a stage `upload`, and that its server's result is the sum over those
whose upload it accepted. What it sums are the short keys, shifted by B to be unsigned; its U3
is the only U3 there is.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from protocols.base import (
    SERVER,
    Aborted,
    Begin,
    Contribute,
    Envelope,
    Join,
    Local,
    Machine,
    Message,
    Protocol,
    Received,
    Result,
    RoundClosed,
    Session,
    State,
    Step,
    on,
    receives,
)
from protocols.lattice.parameters import UPLOAD, LatticeParameters, configure
from protocols.lattice.states import (
    Collecting,
    Done,
    Finished,
    Nesting,
    Opening,
    Preparing,
    Relay,
    Running,
    Spent,
    Upload,
    inside,
    with_inner,
)
from secagg import rlwe
from secagg.errors import DecodeError, LocalError, ProtocolAborted
from secagg.gaussian import BOUND
from secagg.kdf import digest
from secagg.ring import RingVector, check_vector
from secagg.rng import RandomSource
from secagg.seal import Sealer

N = TypeVar("N", bound=Nesting)


class Outer(Machine):
    """What both roles need to have a machine inside."""

    def __init__(self, session: Session, inner: Machine, state: State) -> None:
        assert isinstance(session.parameters, LatticeParameters)  # noqa: S101 - by `over`
        super().__init__(session, inner.me, state)
        self.parameters = session.parameters
        self._plan = session.parameters.plan
        self._inner = inner

    @property
    def accepts(self) -> frozenset[type]:
        """Rows of ours for which the inner machine has one too."""
        mine, inner = super().accepts, self._inner_now()
        if inner is None:
            return mine
        theirs = inner.accepts
        listens = any(issubclass(each, Message) for each in theirs)
        return frozenset(e for e in mine if (listens if issubclass(e, Message) else e in theirs))

    def snapshot(self) -> bytes:
        """See `Machine`. The inner state is nested as its machine's own snapshot."""
        with _Flat(self):
            return super().snapshot()

    def dump(self) -> Any:
        """See `Machine`."""
        with _Flat(self):
            return super().dump()

    def restore(self, stored: bytes, vectors: Sequence[Any] = ()) -> None:
        """See `Machine`."""
        before = self.state
        super().restore(stored, vectors)
        if not isinstance(self.state, Nesting):
            return
        raw = self.state.inner
        try:
            self._inner.restore(raw if type(raw) is bytes else b"")
        except LocalError:
            self.state = before
            raise LocalError(f"not a stored state of a {self.role}") from None
        self.state = with_inner(self.state, self._inner.state)

    def _inner_now(self) -> Machine | None:
        """The inner machine, in the state that is in ours."""
        state = inside(self.state)
        if state is None or type(state) is bytes:
            return None
        self._inner.state = state
        return self._inner

    def _advance(self, state: Nesting, event: Received | Local) -> tuple[Any, list[Envelope]]:
        """The inner machine's next state, and what it sends."""
        self._inner.state = state.inner
        sent = self._inner.handle(event)
        return self._inner.state, list(sent)

    def _bound_context(self, inner: State) -> bytes:
        """What `a` and the uploads are bound to, given the inner state that awaits them."""
        context = inner.expected_context
        if not context:
            raise LocalError("the inner protocol has no context at its upload stage")
        return digest("lattice context", self.session.context, context)


class _Flat:
    """Within the block, the inner state is bytes: what is stored."""

    def __init__(self, machine: Outer) -> None:
        self.machine, self.state = machine, machine.state

    def __enter__(self) -> None:
        inner = self.machine._inner_now()
        if inner is not None:
            self.machine.state = with_inner(self.state, inner.snapshot())

    def __exit__(self, *_error: object) -> None:
        self.machine.state = self.state


class Client(Outer):
    """One client of one session."""

    role = "lattice client"
    receivable = Relay
    states = Running | Spent | Done | Aborted

    def __init__(self, session: Session, inner: Machine, source: RandomSource) -> None:
        seeds = source.seed(), source.seed()
        super().__init__(session, inner, Running(inner.state, session.context, *seeds))

    @on(Running, Join)
    def join(self, state: Running, event: Join) -> Step[Running]:
        """Take part, as the inner protocol does it."""
        inner, sent = self._advance(state, event)
        return Step(replace(state, inner=inner), _relayed(state.context, sent))

    @on(Running, Begin)
    def bind(self, state: Running, event: Begin) -> Step[Running]:
        """Fix what is trained."""
        inner, sent = self._advance(state, event)
        return Step(replace(state, inner=inner), _relayed(state.context, sent))

    @receives(Running, Relay)
    def prepare(self, state: Running, relay: Relay, sender: int) -> Step[Running]:
        """A stage of the inner protocol before its upload."""
        inner, sent = self._advance(state, Received(sender, relay.data))
        return Step(replace(state, inner=inner), _relayed(state.context, sent))

    @on(Running, Contribute)
    def upload(self, state: Running, event: Contribute) -> Step[Spent | Done]:
        """Encrypt under a fresh short key, which the inner protocol uploads."""
        check_vector(event.values, self.parameters.length)
        rlwe.check_values(self._plan, event.values)
        context = self._bound_context(state.inner)
        key = rlwe.draw_key(state.key_seed, context, self._plan)
        shifted = (key + np.int32(BOUND)).astype(np.uint64)
        inner, sent = self._advance(state, Contribute(shifted))
        if len(sent) != 1:
            raise LocalError("the inner protocol must upload a short key in one message")
        pieces = self._pieces(state, context, event.values, key, sent[0].data)
        following = Done() if self._inner.finished else Spent(inner, context)
        return Step(following, pieces)

    @receives(Spent, Relay)
    def answer(self, state: Spent, relay: Relay, sender: int) -> Step[Spent | Done]:
        """A stage of the inner protocol after its upload."""
        inner, sent = self._advance(state, Received(sender, relay.data))
        following = Done() if self._inner.finished else replace(state, inner=inner)
        return Step(following, _relayed(state.context, sent))

    def _pieces(
        self,
        state: Running,
        context: bytes,
        values: NDArray[Any],
        key: rlwe.Short,
        inner: bytes,
    ) -> Iterator[tuple[int, Upload]]:
        """The upload, one piece at a time, so that never two copies of it are needed."""
        step, last = self.parameters.step, len(self.parameters.pieces) - 1
        packed = rlwe.encrypt(self._plan, state.error_seed, context, values, key, step)
        for index, piece in enumerate(packed):
            yield SERVER, Upload(context, index, piece, inner if index == last else b"")
        key.fill(0)


class Server(Outer):
    """The server of one session."""

    role = "lattice server"
    receivable = Relay | Upload
    states = Preparing | Collecting | Opening | Finished | Aborted

    def __init__(self, session: Session, inner: Machine) -> None:
        super().__init__(session, inner, Preparing(inner.state, session.context))

    @property
    def result(self) -> Result:
        """The outcome; LocalError before there is one."""
        if not isinstance(self.state, Finished):
            return super().result
        done = self.state
        return Result(done.total.values(), done.contributors, done.dropped, done.bad_answers)

    @property
    def waits_for(self) -> frozenset[int]:
        """Whom the inner machine waits for."""
        inner = self._inner_now()
        return frozenset() if inner is None else inner.waits_for

    @property
    def unfinished(self) -> frozenset[int]:
        """The clients in the middle of an upload."""
        return frozenset(self.state.pieces if isinstance(self.state, Collecting) else {})

    @property
    def satisfied(self) -> bool:
        """Whether the inner machine is."""
        inner = self._inner_now()
        return inner is not None and inner.satisfied

    def fits(self, state: State) -> bool:
        """A stored sum must be one of ours."""
        match state:
            case Collecting(total=total) | Opening(total=total):
                return rlwe.is_sum(self._plan, total.words)
            case Finished(total=total):
                return total.fits(self.parameters.modulus_bits, self.parameters.length)
        return True

    @on(Preparing, Begin)
    def bind(self, state: Preparing, event: Begin) -> Step[Preparing | Collecting]:
        """Fix what is trained."""
        return self._prepared(state, event)

    @receives(Preparing, Relay)
    def prepare(self, state: Preparing, relay: Relay, sender: int) -> Step[Preparing]:
        """A message of the inner protocol before its upload."""
        inner, sent = self._advance(state, Received(sender, relay.data))
        return Step(replace(state, inner=inner), _relayed(state.context, sent))

    @on(Preparing, RoundClosed)
    def close(self, state: Preparing, event: RoundClosed) -> Step[Preparing | Collecting]:
        """The end of a stage of the inner protocol before its upload."""
        return self._prepared(state, event)

    @receives(Collecting, Upload)
    def add(self, state: Collecting, upload: Upload, sender: int) -> Step[Collecting]:
        """Take a piece of a ciphertext; the last one adds all to the running sum, once the
        inner protocol has taken its part.
        """
        if sender not in self.waits_for:
            raise self.refuse(sender, "uploaded twice, or does not take part any more")
        have = (*self.earlier_pieces(state.pieces, sender, upload.index), upload.packed)
        self._check_piece(upload, len(have), sender)
        if len(have) < len(self.parameters.pieces):
            return Step(replace(state, pieces={**state.pieces, sender: have}))
        inner = self._inner_upload(state, upload, sender)
        for chunks, packed in zip(self.parameters.pieces, have, strict=True):
            rlwe.add_chunks(self._plan, state.total.words, chunks, packed)
        rest = {party: parts for party, parts in state.pieces.items() if party != sender}
        return Step(replace(state, inner=inner, pieces=rest))

    @on(Collecting, RoundClosed)
    def fix_survivors(self, state: Collecting, event: RoundClosed) -> Step[Opening | Finished]:
        """The inner protocol fixes U3, which is ours."""
        inner, sent = self._advance(state, event)
        following = self._opened(Opening(inner, state.context, state.total), state.stage)
        return Step(following, _relayed(state.context, sent))

    @receives(Opening, Relay)
    def take_answer(self, state: Opening, relay: Relay, sender: int) -> Step[Opening]:
        """A message of the inner protocol after its upload."""
        inner, sent = self._advance(state, Received(sender, relay.data))
        return Step(replace(state, inner=inner), _relayed(state.context, sent))

    @on(Opening, RoundClosed)
    def finish(self, state: Opening, event: RoundClosed) -> Step[Opening | Finished]:
        """The end of a stage of the inner protocol after its upload: of the last, the sum."""
        inner, sent = self._advance(state, event)
        following = self._opened(replace(state, inner=inner), state.stage)
        return Step(following, _relayed(state.context, sent))

    def _prepared(self, state: Preparing, event: Local) -> Step[Any]:
        inner, sent = self._advance(state, event)
        messages = _relayed(state.context, sent)
        if inner.stage != UPLOAD or Begin in self._inner.accepts:
            return Step(replace(state, inner=inner), messages)
        total = RingVector(32, rlwe.zero_sum(self._plan))
        return Step(Collecting(inner, self._bound_context(inner), total, {}), messages)

    def _check_piece(self, upload: Upload, count: int, sender: int) -> None:
        pieces = self.parameters.pieces
        if bool(upload.inner) is not (count == len(pieces)):
            raise self.refuse(sender, "the last piece, and no other, carries the short key")
        try:
            rlwe.check_piece(self._plan, pieces[upload.index], upload.packed)
        except DecodeError as error:
            raise self.refuse(sender, str(error)) from None

    def _inner_upload(self, state: Collecting, upload: Upload, sender: int) -> Any:
        """The inner state once it has taken a client's upload: whole, or it is refused."""
        inner, _ = self._advance(state, Received(sender, upload.inner))
        if sender in self._inner.waits_for:
            raise self.refuse(sender, "the upload of its short key is incomplete")
        return inner

    def _opened(self, state: Opening, stage: str) -> Opening | Finished:
        """The sum, once the inner machine has that of the keys, which it gets in `stage`."""
        self._inner.state = state.inner
        if not self._inner.finished:
            return state
        short = self._inner.result
        count = len(short.contributors)
        bits = self.parameters.modulus_bits
        keys = short.total.astype(np.int64) - count * BOUND
        try:
            values = rlwe.open_sum(self._plan, state.total.words, state.context, keys, count, bits)
        except DecodeError as error:
            raise ProtocolAborted(str(error), stage=stage) from None
        vector = RingVector.of(bits, values)
        return Finished(vector, short.contributors, dict(short.dropped), short.bad_answers)


def over(inner: Protocol) -> Protocol:
    """`lattice` with the sum of the short keys opened by `inner`."""
    return Protocol(
        name="lattice",
        parameters=LatticeParameters,
        configure=partial(configure, inner),
        client=partial(_client, inner),
        server=partial(_server, inner),
    )


def _client(
    inner: Protocol,
    session: Session,
    me: int,
    source: RandomSource,
    sealer: Sealer,
    **options: Any,
) -> Client:
    machine = inner.client(_session_inside(inner, session), me, source, sealer, **options)
    return Client(session, machine, source)


def _server(inner: Protocol, session: Session, source: RandomSource) -> Server:
    return Server(session, inner.server(_session_inside(inner, session), source))


def _session_inside(inner: Protocol, session: Session) -> Session:
    """The inner session, bound to all of the outer one."""
    assert isinstance(session.parameters, LatticeParameters)  # noqa: S101 - the registry's pair
    number = digest("lattice inner session", session.context)
    parameters = session.parameters.inner
    return Session(inner.name, parameters, number, session.roster, session.members)


def _relayed(context: bytes, sent: Iterable[Envelope]) -> tuple[tuple[int, Relay], ...]:
    return tuple((envelope.to, Relay(context, envelope.data)) for envelope in sent)
