"""Key swap: the server plays every other party itself, under keys of its own.

To the victim nothing differs but the keys. Then the sum minus what the puppets put in is the
victim's update. It needs no flaw in any message, only that nobody vouches for the keys; it
works on any protocol, helpers included, whose parties are not authenticated to each other.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.security.lying import BITS, LENGTH, VICTIM, Attempt
from benchmarks.security.targets import APPLICATION, Target, Words, identity, roster_of
from protocols.base import Session
from protocols.driver import Options, Simulation
from protocols.journal import Party
from secagg.errors import SecaggError
from secagg.identity import Member, Roster
from secagg.rng import SystemSource
from secagg.seal import SystemSealer

FORGER = "forger"


class ForgedRoster(Roster):
    """The victim as it is, and members whose keys are the server's, under the true digest."""

    @classmethod
    def of(cls, clients: int) -> "ForgedRoster":
        """For a federation of so many."""
        known = {VICTIM: identity(VICTIM)}
        return cls(
            [
                Member(f"member {u}", (known.get(u) or identity(u, FORGER)).public)
                for u in range(1, clients + 1)
            ]
        )

    def digest(self) -> bytes:
        """That of the true members: sessions are bound to the same 32 bytes."""
        return roster_of(len(self)).digest()


class Puppets(Simulation):
    """A session with one honest client; server, helpers and all others are the attacker's."""

    true_session: Session

    def _new_party(self, me: int) -> Party:
        signed = self.session.parameters.signed
        honest = me == VICTIM
        signer = identity(me, "member" if honest else FORGER) if signed else None
        session = self.true_session if honest else self.session
        machine = self.protocol.party(session, me, self.source, SystemSealer(), signer)
        return Party(machine, self.journal)


def key_swap(target: Target, number: int, clients: int = 5) -> Attempt:
    """One session with puppets."""
    parameters = target.parameters(clients, LENGTH, BITS)
    true = target.session(parameters, number)
    forged = replace(true, members=ForgedRoster.of(clients)) if parameters.signed else true
    random = np.random.default_rng([6, number])
    top = 2 ** (BITS - 4)
    inputs: dict[int, Words] = {
        u: random.integers(0, top, LENGTH, dtype=np.uint64) for u in range(1, clients + 1)
    }
    kind: Any = type("Puppets", (Puppets,), {"true_session": true})
    options = Options(record=False)
    attempt = Attempt()
    try:
        simulation = kind(
            target.protocol, forged, inputs, SystemSource(), APPLICATION, options=options
        )
        outcome = simulation.run()
    except SecaggError as error:
        attempt.refused(error)
        return attempt
    for party, refusal in outcome.errors:
        if party == VICTIM:
            attempt.refused(refusal)
    result = outcome.result
    if result is not None and VICTIM in result.contributors:
        puppets = sum(inputs[u] for u in result.contributors if u != VICTIM)
        found = (result.total.astype(np.uint64) - puppets) & np.uint64(2**BITS - 1)
        attempt.worked = bool(np.array_equal(found, inputs[VICTIM]))
    return attempt
