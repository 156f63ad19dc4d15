"""A protocol whose machines check the contract of `Machine` at every single event.

Each machine has a twin: before an event, a new machine takes up the snapshot, and must then
do exactly the same. So every run is also a test of restoring at every point of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from protocols.base import (
    SERVER,
    Aborted,
    Begin,
    Contribute,
    Envelope,
    Join,
    Local,
    Machine,
    Protocol,
    Received,
    RoundClosed,
    Session,
)
from secagg.errors import LocalError, PeerError, ProtocolAborted, ProtocolError
from secagg.rng import SeededSource
from tests.protocols.support import RecallingSealer, RecordingSource, forms, one_hot

Answer = tuple[Envelope, ...] | ProtocolError


@dataclass
class Watch:
    """Everything that happened to the machines of one or more sessions."""

    source: RecordingSource = field(default_factory=RecordingSource)
    sealer: RecallingSealer = field(default_factory=RecallingSealer)
    rows: set[tuple[type, str, str]] = field(default_factory=set)
    accepted: dict[str, set[int]] = field(default_factory=dict)
    events: int = 0

    def over(self, protocol: Protocol) -> Protocol:
        """`protocol`, watched."""

        def client(
            session: Session, me: int, source: object, sealer: object, **identity: object
        ) -> Machine:
            assert source is self.source
            assert sealer is self.sealer
            machine = protocol.client(session, me, self.source, self.sealer, **identity)
            twin = SeededSource(b"twin")
            return self._watched(
                machine, lambda: protocol.client(session, me, twin, self.sealer, **identity)
            )

        def server(session: Session, source: object) -> Machine:
            assert source is self.source
            machine = protocol.server(session, self.source)
            return self._watched(machine, lambda: protocol.server(session, SeededSource(b"twin")))

        def helper(session: Session, me: int, _source: object, sealer: object) -> Machine:
            assert sealer is self.sealer
            assert protocol.helper
            machine = protocol.helper(session, me, self.source, self.sealer)
            twin = SeededSource(b"twin")
            return self._watched(machine, lambda: protocol.helper(session, me, twin, self.sealer))

        watched = helper if protocol.helper else None
        return replace(protocol, client=client, server=server, helper=watched)

    def _watched(self, machine: Machine, twin: Callable[[], Machine]) -> Machine:
        real = machine.handle
        machine.handle = lambda event: self._check(machine, real, twin(), event)
        return machine

    def _check(
        self, machine: Machine, handle: Callable, twin: Machine, event: Received | Local
    ) -> tuple[Envelope, ...]:
        self.events += 1
        stage, waits = machine.state.stage, machine.waits_for
        _refuses_what_has_no_row(machine, handle)
        before = machine.snapshot()
        twin.restore(before)
        assert twin.snapshot() == before
        assert twin.waits_for == waits
        mine, state = _answer(handle, event), type(machine.state)
        again = _answer(twin.handle, event)
        assert repr(mine) == repr(again)
        assert mine == again or _same(mine, again)
        assert machine.snapshot() == twin.snapshot()
        self._shows_no_secret(machine, event, mine)
        _result_only_at_the_end(machine)
        if isinstance(mine, ProtocolAborted):
            assert state is Aborted
            assert machine.state.at == stage
            assert machine.state.reason == mine.reason
            assert machine.finished
            raise mine
        if isinstance(mine, ProtocolError):
            assert machine.snapshot() == before
            raise mine
        self._note(machine, before, twin, event)
        assert all((e.sender, e.stage) == (machine.me, stage) for e in mine)
        assert all((e.to == SERVER) is (machine.me != SERVER) for e in mine)
        if isinstance(event, Received) and machine.me == SERVER:
            assert machine.waits_for in (waits, waits - {event.sender})
            if event.sender not in machine.waits_for:
                self.accepted.setdefault(stage, set()).add(event.sender)
            assert machine.unfinished <= machine.waits_for
        return mine

    def _note(self, machine: Machine, before: bytes, twin: Machine, event: object) -> None:
        """The move must be a row of the table, and lead where the row says."""
        after = type(machine.state).__name__
        twin.restore(before)
        start = type(twin.state)
        moved = [
            row
            for row in machine.rows()
            if row.state is start
            and (isinstance(event, Received) or row.event is type(event))
            and after in row.leads_to
        ]
        assert moved, (start, event, after)
        self.rows |= {(type(machine), start.__name__, row.rule) for row in moved}

    def _shows_no_secret(self, machine: Machine, event: object, answer: Answer) -> None:
        things = (machine, machine.state, event, answer)
        shown = " ".join([*map(repr, things), *map(str, things)])
        for secret in self.source.drawn:
            assert not any(form in shown for form in forms(secret))


def _answer(handle: Callable, event: Received | Local) -> Answer:
    try:
        return handle(event)
    except (PeerError, LocalError, ProtocolAborted) as error:
        return error


def _same(one: Answer, other: Answer) -> bool:
    return type(one) is type(other) and str(one) == str(other) and vars(one) == vars(other)


def _refuses_what_has_no_row(machine: Machine, handle: Callable) -> None:
    before = machine.snapshot()
    for event in (Join(), Begin(bytes(32)), Contribute(one_hot(1, 2, 1)), RoundClosed()):
        if type(event) not in machine.accepts:
            assert isinstance(_answer(handle, event), LocalError)
    assert machine.snapshot() == before


def _result_only_at_the_end(machine: Machine) -> None:
    if machine.me != SERVER:
        return
    if machine.finished and not isinstance(machine.state, Aborted):
        assert machine.result.contributors
    else:
        error = _answer(lambda _event: machine.result, RoundClosed())
        assert isinstance(error, LocalError)
