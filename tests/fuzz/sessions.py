"""Honest sessions of every protocol, with machines as they were in each state that they pass."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from protocols import masking
from protocols.base import SERVER, Local, Machine, Received
from protocols.driver import Fault, Options, Simulation
from protocols.lattice.states import inside
from protocols.registry import load
from tests.protocols.active_support import Round, active, secrets_of
from tests.protocols.support import RecordingSource, random_values, session_of

N, LENGTH, BITS = 3, 3, 12


@dataclass(frozen=True)
class Held:
    """`machine` once stood at `snapshot`, and `due` was what came next from `sender`: empty
    where it waited for nobody but its own caller.
    """

    machine: Machine
    state: str
    snapshot: bytes
    due: bytes
    sender: int
    secrets: tuple[bytes, ...]


@dataclass
class Recorded:
    """For each party's states the last such moment, by (party, state); and all messages."""

    held: dict[tuple[int, str], Held] = field(default_factory=dict)
    corpus: list[bytes] = field(default_factory=list)

    def watch(self, machine: Machine, secrets: Callable[[], tuple[bytes, ...]]) -> None:
        """Note from now on what this machine gets, and where it stands then."""
        handle = machine.handle

        def watching(event: Received | Local) -> Any:
            self._note(machine, event, secrets())
            sent = handle(event)
            if machine.finished:
                self._note(machine, None, ())
            return sent

        machine.handle = watching  # type: ignore[method-assign]

    def stop(self) -> "Recorded":
        """What is noted is noted: the machines are themselves again."""
        for each in self.held.values():
            vars(each.machine).pop("handle", None)
        return self

    def _note(
        self, machine: Machine, event: Received | Local | None, secrets: tuple[bytes, ...]
    ) -> None:
        comes = event if isinstance(event, Received) else Received(SERVER, b"")
        if comes.data:
            self.corpus.append(comes.data)
        name = state_name(machine)
        snapshot = machine.snapshot()
        held = Held(machine, name, snapshot, comes.data, comes.sender, secrets)
        before = self.held.get((machine.me, name))
        if comes.data or not (before and before.due):
            self.held[machine.me, name] = held


def state_name(machine: Machine) -> str:
    """The state, and of a machine with another in it the inner state as well."""
    inner = inside(machine.state)
    return type(machine.state).__name__ + (f", {type(inner).__name__}" if inner else "")


def parameters(*, is_active: bool, suite: str = "X25519") -> Any:
    """Three clients, of whom two are enough."""
    if is_active:
        return active(N, LENGTH, BITS, corrupt=0, suite=suite)
    return masking.configure(N, LENGTH, BITS, threshold=2, floor=2, suite=suite)


@cache
def recorded(is_active: bool) -> Recorded:
    """A session of masking to its end; client 3 shares its keys and does not upload."""
    found, played = Recorded(), Round(parameters(is_active=is_active))
    for machine in (played.server, played.machine(1)):
        found.watch(machine, lambda m=machine: tuple(secrets_of(m.state)) if m.me else ())
    told = played.uploads(played.inboxes(), without={3})
    played.finish(played.proofs(told) if is_active else told)
    return found.stop()


OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "lattice": {"threshold": 2, "floor": 2, "step": 1, "ring": "A"},
    "committee": {"decryptors": 3, "floor": 2, "step": 1, "ring": "A"},
    "ckks": {"floor": 2},
    "bfv": {"floor": 2},
}
"""Of the sessions below: uploads of lattice and committee are two pieces long."""

LENGTHS = {"lattice": 4 * 4096, "committee": 4 * 4096, "ckks": LENGTH, "bfv": LENGTH}


@cache
def simulation(name: str) -> Simulation:
    """A session of another protocol that has not begun."""
    protocol = load(name)
    chosen = protocol.configure(N, LENGTHS[name], BITS, suite="X25519", **OPTIONS[name])
    inputs = {u: random_values(u, LENGTHS[name], BITS) for u in range(1, N + 1)}
    faults = {(3, "upload"): Fault.VANISH}
    source = RecordingSource(name.encode())
    session = session_of(protocol, chosen)
    options = Options(record=False)
    return Simulation(protocol, session, inputs, source, faults=faults, options=options)


@cache
def recorded_of(name: str) -> Recorded:
    """One session of it to its end, as seen by the server, client 1 and the first helper."""
    played, found = simulation(name), Recorded()
    source = played.source
    assert isinstance(source, RecordingSource)
    watched = [played.server, played.parties[1]]
    watched += [played.parties[N + 1]] if N + 1 in played.parties else []
    for party in watched:
        found.watch(party.machine, lambda: tuple(source.drawn))
    outcome = played.run()
    assert outcome.result is not None, outcome.abort
    return found.stop()
