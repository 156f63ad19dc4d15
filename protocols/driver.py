"""Runs whole sessions in memory, with scripted faults, and records every byte.

The driver plays the network and the clock: it delivers what machines return, closes a stage
when everything that will arrive has arrived, and does to messages and parties whatever its
script says. Tests, benchmarks and simulations read their figures off the very thing that ran.

A reply reaches the server as soon as it is sent, so at most one upload is in memory at a time
where nothing is recorded: thousands of clients fit.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.base import (
    SERVER,
    Begin,
    Contribute,
    Envelope,
    Join,
    Protocol,
    Received,
    Result,
    RoundClosed,
    Session,
)
from protocols.journal import Journal, MemoryJournal, Party
from secagg.errors import LocalError, PeerError, ProtocolAborted, SecaggError
from secagg.rng import RandomSource
from secagg.seal import Sealer, SystemSealer
from secagg.signing import Identity

Vector = NDArray[np.unsignedinteger[Any]]


class Fault(Enum):
    """What can happen to a client at a stage. The request is what makes it send."""

    LOSE_REQUEST = "the server's request does not arrive"
    LOSE_REPLY = "its message does not arrive"
    DELAY = "its message arrives after the stage was closed"
    DUPLICATE = "its message arrives twice"
    REPLAY = "its message of the stage before arrives once more"
    TRUNCATE = "the second half of its message is cut off"
    LAST = "its message arrives after everybody else's"
    CRASH_BEFORE = "it dies before it has persisted anything of the stage, and restarts"
    CRASH_AFTER = "it dies after persisting and before sending, and restarts"
    VANISH = "it is gone for good before it sends"
    VANISH_AFTER = "it sends, and is gone for good"


Script = Mapping[tuple[int, str], Fault]
"""Faults by (client, stage)."""


@dataclass(frozen=True)
class Outcome:
    """How a session ended: a result or an abort, every refusal, and every byte sent.

    errors: (party that refused, error); transcript: envelopes in the order of sending, empty
    where nothing was recorded. sizes: bytes by (sender, recipient, stage); seconds: what a
    party worked on each stage, by (party, stage), where the driver was given a clock.
    """

    result: Result | None
    abort: ProtocolAborted | None
    errors: tuple[tuple[int, SecaggError], ...]
    transcript: tuple[Envelope, ...]
    sizes: Mapping[tuple[int, int, str], int] = field(default_factory=dict)
    seconds: Mapping[tuple[int, str], float] = field(default_factory=dict)

    def bytes_by_stage(self, sender: int) -> dict[str, int]:
        """What `sender` sent in each stage, in bytes."""
        count: dict[str, int] = defaultdict(int)
        for (party, _to, stage), size in self.sizes.items():
            if party == sender:
                count[stage] += size
        return dict(count)


def run(
    protocol: Protocol,
    session: Session,
    inputs: Mapping[int, Vector],
    source: RandomSource,
    *,
    application: bytes = bytes(32),
    faults: Script | None = None,
    sealer: Sealer | None = None,
    options: "Options | None" = None,
) -> Outcome:
    """One session over `inputs` (client -> vector); clients without an input never join."""
    return Simulation(
        protocol, session, inputs, source, application, faults, sealer, options=options
    ).run()


@dataclass(frozen=True)
class Options:
    """How a session is watched.

    record: keep every envelope, or only its size; progress: told of each client that has
    acted in a stage, (stage, client); clock: seconds, to time each party's work with; journal:
    of all parties, `MemoryJournal` where None; signers: the identity of each client, in a session
    that needs them.
    """

    record: bool = True
    progress: Callable[[str, int], None] | None = None
    clock: Callable[[], float] | None = None
    journal: Journal | None = None
    signers: Mapping[int, Identity] = field(default_factory=dict, repr=False)


@dataclass
class Simulation:
    """A session in progress. `step` runs one stage, so that tests can look in between."""

    protocol: Protocol
    session: Session
    inputs: Mapping[int, Vector] = field(repr=False)
    source: RandomSource
    application: bytes = bytes(32)
    faults: Script | None = None
    sealer: Sealer | None = None
    errors: list[tuple[int, SecaggError]] = field(default_factory=list)
    transcript: list[Envelope] = field(default_factory=list)
    options: Options | None = None

    def __post_init__(self) -> None:
        self._options = self.options or Options()
        self.journal: Journal = self._options.journal or MemoryJournal()
        self.sealer = self.sealer or SystemSealer()
        self.server = Party(self._new_server(), self.journal)
        self._begin(self.server, self.application)
        parameters = self.session.parameters
        helpers = range(parameters.clients + 1, parameters.clients + parameters.helpers + 1)
        self.parties = {me: self._new_party(me) for me in (*self.inputs, *helpers)}
        self.sizes: dict[tuple[int, int, str], int] = defaultdict(int)
        self.seconds: dict[tuple[int, str], float] = defaultdict(float)
        self._late: list[Envelope] = []
        self._requests: list[Envelope] = []
        self._replayed: dict[int, Envelope] = {}
        self.abort: ProtocolAborted | None = None

    def run(self) -> Outcome:
        """All stages."""
        for stage in self.session.parameters.stages:
            self.step(stage)
            if self.abort:
                break
        result = None if self.abort else self.server.machine.result
        return Outcome(
            result,
            self.abort,
            tuple(self.errors),
            tuple(self.transcript),
            dict(self.sizes),
            dict(self.seconds),
        )

    def step(self, stage: str) -> None:
        """Everything that happens in `stage`, up to the server closing it."""
        with self._timed(SERVER, stage):
            self._deliver_to_server(self._late)
        self._late, last = [], []
        requests = defaultdict[int, list[Envelope]](list)
        for envelope in self._requests:
            requests[envelope.to].append(envelope)
        self._requests = []
        for me in list(self.parties):
            request = requests.pop(me, [])
            if not request and stage != self.session.parameters.stages[0]:
                continue
            replies = self._client_stage(me, stage, request)
            match self._fault(me, stage):
                case Fault.DELAY:
                    self._late += replies
                case Fault.LAST:
                    last += replies
                case _:
                    self._take(stage, replies)
            if self._options.progress:
                self._options.progress(stage, me)
        self._take(stage, last)
        self._close(stage)

    def _take(self, stage: str, replies: Iterable[Envelope]) -> None:
        with self._timed(SERVER, stage):
            self._deliver_to_server(replies)

    def _close(self, stage: str) -> None:
        try:
            with self._timed(SERVER, stage):
                self._requests = list(self.server.handle(RoundClosed()))
                self._begin(self.server, self.application)
        except ProtocolAborted as abort:
            self.abort = abort
            self._requests = []
        self._sent(self._requests)

    def _sent(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            self.sizes[envelope.sender, envelope.to, envelope.stage] += len(envelope.data)
        if self._options.record:
            self.transcript += envelopes

    @contextmanager
    def _timed(self, party: int, stage: str) -> Iterator[None]:
        """Adds what happens within to the seconds of this party, if there is a clock."""
        clock = self._options.clock
        began = clock() if clock else 0.0
        try:
            yield
        finally:
            if clock:
                self.seconds[party, stage] += clock() - began

    def _client_stage(self, me: int, stage: str, request: Sequence[Envelope]) -> list[Envelope]:
        fault = self._fault(me, stage)
        if fault in (Fault.LOSE_REQUEST, Fault.VANISH):
            if fault is Fault.VANISH:
                del self.parties[me]
            return []
        if fault is Fault.CRASH_BEFORE:
            self._restart(me)
        before = [self._replayed[me]] if me in self._replayed else []
        with self._timed(me, stage):
            sent = self._advance(me, request)
        self._sent(sent)
        if sent and Fault.REPLAY in (self.faults or {}).values():
            self._replayed[me] = sent[-1]
        if fault is Fault.CRASH_AFTER:
            sent = list(self._restart(me))
        if fault is Fault.VANISH_AFTER:
            del self.parties[me]
        return self._on_the_wire(fault, sent, before)

    def _on_the_wire(
        self, fault: Fault | None, sent: list[Envelope], before: list[Envelope]
    ) -> list[Envelope]:
        match fault:
            case Fault.LOSE_REPLY:
                return []
            case Fault.DUPLICATE:
                return sent * 2
            case Fault.REPLAY:
                return before + sent
            case Fault.TRUNCATE:
                return [_cut(e) for e in sent]
        return sent

    def _advance(self, me: int, request: Sequence[Envelope]) -> list[Envelope]:
        """Hand a party its requests, and what it needs from its own caller."""
        try:
            if not request:
                return self._start(me)
            sent = [
                reply
                for each in request
                for reply in self.parties[me].handle(Received(SERVER, each.data))
            ]
            return sent + self._contribute(me)
        except (PeerError, LocalError, ProtocolAborted) as error:
            self.errors.append((me, error))
            return []

    def _start(self, me: int) -> list[Envelope]:
        party = self.parties[me]
        joins = Join in party.machine.accepts  # not where it was restarted, and knows its model
        sent = list(party.handle(Join())) if joins else []
        return sent + self._contribute(me)

    def _contribute(self, me: int) -> list[Envelope]:
        party = self.parties[me]
        sent = list(self._begin(party, self.application))
        if Contribute in party.machine.accepts:
            sent += party.handle(Contribute(self.inputs[me]))
        return sent

    def _deliver_to_server(self, envelopes: Iterable[Envelope]) -> None:
        for envelope in envelopes:
            try:
                self.server.handle(Received(envelope.sender, envelope.data))
            except (PeerError, LocalError) as error:
                self.errors.append((SERVER, error))

    def _restart(self, me: int) -> Sequence[Envelope]:
        """The machine is lost; a new one takes up what the journal kept."""
        self.parties[me] = self._new_party(me)
        resent = self.parties[me].resume()
        self._begin(self.parties[me], self.application)
        return resent

    @staticmethod
    def _begin(party: Party, application: bytes) -> Sequence[Envelope]:
        """Say what is trained, where that is what comes next."""
        return party.handle(Begin(application)) if Begin in party.machine.accepts else ()

    def _new_party(self, me: int) -> Party:
        assert self.sealer is not None  # noqa: S101 - set in __post_init__
        signer = self._options.signers.get(me)
        machine = self.protocol.party(self.session, me, self.source, self.sealer, signer)
        return Party(machine, self.journal)

    def _new_server(self) -> Any:
        return self.protocol.server(self.session, self.source)

    def _fault(self, party: int, stage: str) -> Fault | None:
        return (self.faults or {}).get((party, stage))


def _cut(envelope: Envelope) -> Envelope:
    half = envelope.data[: len(envelope.data) // 2]
    return Envelope(envelope.sender, envelope.to, envelope.stage, half)
