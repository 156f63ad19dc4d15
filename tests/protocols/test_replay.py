"""Every message that a machine took, once more in every later state, and after a restart there.

It is refused by name, the state stays the same to the byte, and the session still ends in the
exact sum.
"""

from collections.abc import Callable
from typing import Any

import pytest

from protocols import masking
from protocols.base import SERVER, Machine, Received
from secagg.errors import PeerError
from tests.protocols.active_support import Round, active

REASONS = (
    "unexpected ",
    "a second advert",
    "shared its keys twice",
    "uploaded twice",
    "piece ",
    "confirmed twice",
    "answered twice",
)


class Replaying:
    """A machine to which, after each event, everything that it took is said again."""

    def __init__(self, played: Round, machine: Machine, twin: Callable[[], Machine]) -> None:
        self.played, self.machine, self.twin = played, machine, twin
        self.real = machine.handle
        self.taken: list[Received] = []
        self.tried: set[tuple[str, str]] = set()
        machine.handle = self.handle  # type: ignore[method-assign]

    def handle(self, event: Any) -> Any:
        sent = self.real(event)
        if isinstance(event, Received):
            self.taken.append(event)
        restarted = self.twin()
        for handle, machine in ((self.real, self.machine), (restarted.handle, restarted)):
            restarted.restore(self.machine.snapshot())
            for old in self.taken:
                self._refused(handle, machine, old)
        return sent

    def _refused(self, handle: Any, machine: Machine, old: Received) -> None:
        before = machine.snapshot()
        with pytest.raises(PeerError) as caught:
            handle(old)
        assert caught.value.reason.startswith(REASONS)
        assert caught.value.peer == old.sender
        assert machine.snapshot() == before
        self.tried.add((type(machine.state).__name__, caught.value.reason))


def replayed(parameters: Any) -> dict[int, Replaying]:
    played = Round(parameters)
    of = {u: Replaying(played, played.machine(u), _new(played, u)) for u in played.everyone}
    fresh = Round(parameters)
    of[SERVER] = Replaying(
        played, played.server, lambda: masking.new_server(fresh.session, fresh.source)
    )
    cohorts = played.cohorts()
    told = played.uploads(played.inboxes(cohorts), without={4})
    if parameters.active:
        told = played.proofs(told, without={2})
    played.finish(told)
    assert played.server.result.contributors == (1, 2, 3, 5)
    return of


def _new(played: Round, u: int) -> Callable[[], Machine]:
    return lambda: played.party(u).machine


@pytest.mark.parametrize("chunk", [None, 8])
@pytest.mark.parametrize("suite", ["X25519", "MLKEM768-X25519"])
def test_semi_honest(suite: str, chunk: int | None) -> None:
    options = {} if chunk is None else {"chunk": chunk}
    length = 5 if chunk is None else 20
    of = replayed(masking.configure(5, length, 16, threshold=3, floor=3, suite=suite, **options))
    states = {state for state, _ in of[1].tried}
    assert states == {"Shared", "Ready", "Bound", "Uploaded", "Done"}
    assert ("Ready", "unexpected Cohort") in of[1].tried
    assert ("Done", "unexpected UnmaskRequest") in of[1].tried
    server = {state for state, _ in of[SERVER].tried}
    assert server == {
        *("Advertising", "Sharing", "Prepared", "Collecting", "Unmasking", "Finished")
    }


@pytest.mark.parametrize("suite", ["X25519", "MLKEM768-X25519"])
def test_active(suite: str) -> None:
    of = replayed(active(corrupt=0, suite=suite))
    states = {state for state, _ in of[1].tried}
    assert states == {"Shared", "Ready", "Bound", "Unconfirmed", "Confirmed", "Done"}
    assert ("Done", "unexpected SurvivorSet") in of[1].tried
    assert ("Done", "unexpected UnmaskProof") in of[1].tried
    server = of[SERVER].tried
    assert {state for state, _ in server} == {
        *("Advertising", "Sharing", "Prepared", "Collecting"),
        *("Confirming", "Unmasking", "Finished"),
    }
    assert ("Confirming", "confirmed twice") in server
    assert ("Finished", "unexpected Confirmation") in server
