"""Replay and mask reuse: everything once more, to the same machine and to one that restarted.

A message counts as accepted if the party then sends something that differs from what it sent
at that stage before. A second upload under the same masks gives the difference of two inputs.
"""

from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np

from benchmarks.security.attack import Attack, Case, Effort, proportion
from benchmarks.security.targets import APPLICATION, Target, Words
from benchmarks.security.verdict import Measured, Rule
from protocols.base import SERVER, Begin, Contribute, Envelope, Join, Local, Machine, Received
from protocols.journal import Party
from secagg.errors import SecaggError
from secagg.rng import SystemSource

CLIENTS, LENGTH, BITS = 4, 5, 32


@dataclass
class Count:
    """How often it was tried, and how often something new came out."""

    tried: int = 0
    accepted: int = 0
    first: str = ""

    def refused(self, error: Exception) -> None:
        """Remember what was said."""
        self.first = self.first or str(error)


@dataclass
class Replayer:
    """One session of a target, with every message replayed after every stage."""

    target: Target
    number: int
    count: Count = field(default_factory=Count)

    def __post_init__(self) -> None:
        parameters = self.target.parameters(CLIENTS, LENGTH, BITS)
        random = np.random.default_rng([8, self.number])
        self.inputs = {u: self._vector(random) for u in range(1, CLIENTS + 1)}
        self.other = self._vector(random)
        self.simulation = self.target.simulation(parameters, self.inputs, self.number)

    def stages(self) -> tuple[str, ...]:
        """Of the session."""
        return self.simulation.session.parameters.stages

    def again(self) -> Count:
        """Everything to the machines as they are, and to the server."""
        for stage in self.stages():
            self.simulation.step(stage)
            if self.simulation.abort:
                raise self.simulation.abort
            for u in self.inputs:
                now = self.simulation.parties[u].machine.snapshot()
                self._replay(u, lambda u=u, now=now: self._party(u, now))  # type: ignore[misc]
            self._to_server()
        return self.count

    def restarted(self) -> Count:
        """Everything to machines that take up their journal, or an older copy of their state."""
        for stage in self.stages():
            before = {u: self.simulation.parties[u].machine.snapshot() for u in self.inputs}
            self.simulation.step(stage)
            for u in self.inputs:
                self._replay(u, lambda u=u: self._party(u))  # type: ignore[misc]
                old = before[u]
                self._replay(u, lambda u=u, old=old: self._party(u, old))  # type: ignore[misc]
        return self.count

    def _vector(self, random: np.random.Generator) -> Words:
        return random.integers(0, 2**20, LENGTH, dtype=np.uint64)

    def _party(self, u: int, state: bytes | None = None) -> Party:
        """Client u once more, over a copy of its journal, so that the session is not disturbed."""
        machine: Machine = self.target.client(self.simulation.session, u, 100 + self.number)
        party = Party(machine, deepcopy(self.simulation.journal))
        if state is None:
            party.resume()
        else:
            machine.restore(state)
        return party

    def _replay(self, u: int, make: Callable[[], Party]) -> None:
        """Each message once more, to a party of its own, and then another vector."""
        sent: dict[str, set[bytes]] = defaultdict(set)
        for envelope in self.simulation.transcript:
            if envelope.sender == u:
                sent[envelope.stage].add(envelope.data)
        heard = [e.data for e in self.simulation.transcript if e.to == u]
        for told in (None, *heard):
            party = make()
            self.count.tried += 1
            new = self._told(party, Join()) + self._told(party, Begin(APPLICATION))
            new += self._told(party, Received(SERVER, told)) if told is not None else []
            new += self._told(party, Begin(APPLICATION))
            new += self._told(party, Contribute(self.other))
            beyond = [e for e in new if e.stage in sent and e.data not in sent[e.stage]]
            self.count.accepted += bool(beyond)

    def _told(self, party: Party, event: Received | Local) -> list[Envelope]:
        if not isinstance(event, Received) and type(event) not in party.machine.accepts:
            return []
        try:
            return list(party.handle(event))
        except SecaggError as error:
            self.count.refused(error)
            return []

    def _to_server(self) -> None:
        now = self.simulation.server.machine.snapshot()
        for envelope in [e for e in self.simulation.transcript if e.to == SERVER]:
            server = self.simulation.protocol.server(self.simulation.session, SystemSource())
            server.restore(now)
            self.count.tried += 1
            try:
                server.handle(Received(envelope.sender, envelope.data))
            except SecaggError as error:
                self.count.refused(error)
                continue
            self.count.accepted += 1


def _measured(target: Target, effort: Effort, restart: bool) -> Measured:
    total = Count()
    number = 0
    while total.tried < effort.of(150, 500):
        player = Replayer(target, number)
        number += 1
        found = player.restarted() if restart else player.again()
        total.tried += found.tried
        total.accepted += found.accepted
        total.first = total.first or found.first
    return proportion(total.accepted, total.tried, total.first)


_RULE = Rule(bar=0.03, baseline=0.0)
ATTACK = Attack(
    "replay and mask reuse",
    "Every message once more, at every later stage. Does anybody say anything new, or upload "
    "twice under the same masks?",
    "Bonawitz et al., CCS 2017; docs/machine.md",
    "replays accepted",
    (
        Case("the same machines", _RULE, lambda t, e: _measured(t, e, restart=False)),
        Case(
            "after a restart, or from an old copy",
            _RULE,
            lambda t, e: _measured(t, e, restart=True),
        ),
    ),
)
