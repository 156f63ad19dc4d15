"""Runs whole sessions in memory, with scripted faults, and records every byte.

The driver plays the network and the clock: it delivers what machines return, closes a stage
when everything that will arrive has arrived, and does to messages and parties whatever its
script says. Tests, benchmarks and simulations read their figures off the very thing that ran.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
from protocols.journal import MemoryJournal, Party
from secagg.errors import LocalError, PeerError, ProtocolAborted, SecaggError
from secagg.rng import RandomSource
from secagg.seal import HpkeSealer, Sealer

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

    errors: (party that refused, error); transcript: envelopes in the order of sending.
    """

    result: Result | None
    abort: ProtocolAborted | None
    errors: tuple[tuple[int, SecaggError], ...]
    transcript: tuple[Envelope, ...]

    def bytes_by_stage(self, sender: int) -> dict[str, int]:
        """What `sender` sent in each stage, in bytes."""
        count: dict[str, int] = defaultdict(int)
        for envelope in self.transcript:
            if envelope.sender == sender:
                count[envelope.stage] += len(envelope.data)
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
) -> Outcome:
    """One session over `inputs` (client -> vector); clients without an input never join."""
    return Simulation(protocol, session, inputs, source, application, faults, sealer).run()


@dataclass
class Simulation:
    """A session in progress. `step` runs one stage, so that tests can look in between."""

    protocol: Protocol
    session: Session
    inputs: Mapping[int, Vector]
    source: RandomSource
    application: bytes = bytes(32)
    faults: Script | None = None
    sealer: Sealer | None = None
    errors: list[tuple[int, SecaggError]] = field(default_factory=list)
    transcript: list[Envelope] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal = MemoryJournal()
        self.sealer = self.sealer or HpkeSealer()
        self.server = Party(self._new_server(), self.session.session_id, self.journal)
        self.server.handle(Begin(self.application))
        self.clients = {me: self._new_client(me) for me in self.inputs}
        self._late: list[Envelope] = []
        self._requests: list[Envelope] = []
        self.abort: ProtocolAborted | None = None

    def run(self) -> Outcome:
        """All stages."""
        for stage in self.protocol.stages:
            self.step(stage)
            if self.abort:
                break
        result = None if self.abort else self.server.machine.result
        return Outcome(result, self.abort, tuple(self.errors), tuple(self.transcript))

    def step(self, stage: str) -> None:
        """Everything that happens in `stage`, up to the server closing it."""
        self._deliver_to_server(self._late)
        replies = self._replies(stage)
        self._late = [e for e in replies if self._fault(e.sender, stage) is Fault.DELAY]
        last = [e for e in replies if self._fault(e.sender, stage) is Fault.LAST]
        prompt = [e for e in replies if e not in self._late and e not in last]
        self._deliver_to_server(prompt + last)
        try:
            self._requests = list(self.server.handle(RoundClosed()))
        except ProtocolAborted as abort:
            self.abort = abort
            self._requests = []
        self.transcript += self._requests

    def _replies(self, stage: str) -> list[Envelope]:
        """What reaches the server, or would if it were not late."""
        replies: list[Envelope] = []
        requests = {e.to: e for e in self._requests}
        first = stage == self.protocol.stages[0]
        for me in list(self.clients):
            if first or me in requests:
                replies += self._client_stage(me, stage, requests.get(me))
        return replies

    def _client_stage(self, me: int, stage: str, request: Envelope | None) -> list[Envelope]:
        fault = self._fault(me, stage)
        if fault in (Fault.LOSE_REQUEST, Fault.VANISH):
            if fault is Fault.VANISH:
                del self.clients[me]
            return []
        if fault is Fault.CRASH_BEFORE:
            self._restart(me)
        before = [e for e in self.transcript if e.sender == me][-1:]
        sent = self._advance(me, request)
        self.transcript += sent
        if fault is Fault.CRASH_AFTER:
            sent = list(self._restart(me))
        if fault is Fault.VANISH_AFTER:
            del self.clients[me]
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

    def _advance(self, me: int, request: Envelope | None) -> list[Envelope]:
        """Hand a client its request, and what it needs from its own caller."""
        try:
            if request is None:
                return self._start(me)
            sent = list(self.clients[me].handle(Received(SERVER, request.data)))
            return sent + self._contribute(me)
        except (PeerError, LocalError, ProtocolAborted) as error:
            self.errors.append((me, error))
            return []

    def _start(self, me: int) -> list[Envelope]:
        client = self.clients[me]
        sent = list(client.handle(Join()))
        if Begin in client.machine.accepts:
            sent += client.handle(Begin(self.application))
        return sent + self._contribute(me)

    def _contribute(self, me: int) -> list[Envelope]:
        client = self.clients[me]
        if Contribute not in client.machine.accepts:
            return []
        return list(client.handle(Contribute(self.inputs[me])))

    def _deliver_to_server(self, envelopes: Iterable[Envelope]) -> None:
        for envelope in envelopes:
            try:
                self.server.handle(Received(envelope.sender, envelope.data))
            except (PeerError, LocalError) as error:
                self.errors.append((SERVER, error))

    def _restart(self, me: int) -> Sequence[Envelope]:
        """The machine is lost; a new one takes up what the journal kept."""
        self.clients[me] = self._new_client(me)
        resent = self.clients[me].resume()
        if Begin in self.clients[me].machine.accepts:
            self.clients[me].handle(Begin(self.application))
        return resent

    def _new_client(self, me: int) -> Party:
        assert self.sealer is not None  # noqa: S101 - set in __post_init__
        machine = self.protocol.client(self.session, me, self.source, self.sealer)
        return Party(machine, self.session.session_id, self.journal)

    def _new_server(self) -> Any:
        return self.protocol.server(self.session, self.source)

    def _fault(self, party: int, stage: str) -> Fault | None:
        return (self.faults or {}).get((party, stage))


def _cut(envelope: Envelope) -> Envelope:
    half = envelope.data[: len(envelope.data) // 2]
    return Envelope(envelope.sender, envelope.to, envelope.stage, half)
