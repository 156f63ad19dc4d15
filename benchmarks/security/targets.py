"""What is attacked: a protocol, the parameters its clients agree to, and how parties are made.

A protocol of the registry is one line of `_LINES`; one that the registry does not have is no
row. Identities are derived from numbers: they protect nothing, and need not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.security import vulnerable
from protocols.base import Machine, Parameters, Protocol, Session
from protocols.driver import Options, Simulation
from protocols.journal import Journal, MemoryJournal, Stored
from protocols.policy import Policy
from protocols.registry import PROTOCOLS, load
from secagg.identity import Identity, Member, Roster
from secagg.rng import SeededSource, SystemSource
from secagg.seal import SystemSealer

Words = NDArray[np.unsignedinteger[Any]]
REFERENCE = "vulnerable_reference"
APPLICATION = sha256(b"the model that everybody was shown").digest()


class ForgetfulJournal(MemoryJournal):
    """Forgets every claim at once: what the reference is driven with."""

    def commit(self, claim: Any, stored: Stored) -> None:
        """Anything goes, as often as it likes."""
        vectors = tuple(bytes(each) for each in stored.vectors)
        self._stored[claim.session, claim.party] = stored._replace(vectors=vectors)


@dataclass(frozen=True)
class Target:
    """One line of every attack's table.

    configure: from (clients, length, modulus_bits) and `threshold`, where there is one; policy:
    whether clients hold what they are offered against floors of their own.
    """

    name: str
    protocol: Protocol
    configure: Callable[..., Parameters]
    journal: Callable[[], Journal] = MemoryJournal
    policy: bool = True
    signed: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The protocol's name."""
        return self.protocol.name

    @property
    def is_reference(self) -> bool:
        """Whether this is the protocol that must fail."""
        return self.name == REFERENCE

    def parameters(self, clients: int, length: int, bits: int, **more: Any) -> Parameters:
        """Checked parameters."""
        return self.configure(clients, length, bits, **{**self.options, **more})

    def session(self, parameters: Parameters, number: int = 0) -> Session:
        """Session `number` of the one federation with so many members."""
        roster = roster_of(parameters.clients)
        members = roster if parameters.signed else None
        session_id = sha256(f"session {number}".encode()).digest()
        return Session(self.protocol.name, parameters, session_id, roster.digest(), members)

    def signers(self, parameters: Parameters) -> dict[int, Identity]:
        """Each member's identity, where the session is signed."""
        everyone = range(1, parameters.clients + 1) if parameters.signed else ()
        return {u: identity(u) for u in everyone}

    def client(self, session: Session, me: int, number: int = 0) -> Machine:
        """An honest client's machine."""
        signers = self.signers(session.parameters)
        more = {"signer": signers[me]} if signers else {}
        source = SeededSource(f"client {me} {number}".encode())
        return self.protocol.client(session, me, source, SystemSealer(), **more)

    def admits(self, offered: Session, own: Parameters) -> None:
        """What a client with its own configuration says of a session: LocalError refuses it."""
        if self.policy:
            wanted = Policy(
                frozenset({self.protocol.name}),
                clients=own.clients,
                floor=own.floor,
                modulus_bits=own.modulus_bits,
                signed=own.signed,
            )
            wanted.admit(offered)

    def simulation(
        self,
        parameters: Parameters,
        inputs: Mapping[int, Words],
        number: int = 0,
        *,
        record: bool = True,
        kind: type[Simulation] = Simulation,
        **more: Any,
    ) -> Simulation:
        """A session of honest parties, not begun."""
        options = Options(record=record, journal=self.journal(), signers=self.signers(parameters))
        return kind(
            self.protocol,
            self.session(parameters, number),
            inputs,
            SystemSource(),
            APPLICATION,
            options=options,
            **more,
        )


@cache
def identity(number: int, who: str = "member") -> Identity:
    """A signing key; `who` tells the members from those who would like to be."""
    return Identity.from_seed("Ed25519", sha256(f"{who} {number}".encode()).digest())


@cache
def roster_of(clients: int) -> Roster:
    """The members, as every client has them in its configuration."""
    return Roster([Member(f"member {u}", identity(u).public) for u in range(1, clients + 1)])


_QUICK_SUITE = {"suite": "X25519"}
_LINES: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("plain", "plain", {}),
    ("masking, semi-honest", "masking", _QUICK_SUITE),
    ("masking, active", "masking", {**_QUICK_SUITE, "adversary": "active"}),
    ("lattice", "lattice", {}),
    ("lattice, active", "lattice", {"adversary": "active"}),
    ("committee", "committee", {}),
    ("ckks", "ckks", {}),
    ("bfv", "bfv", {}),
)


def reference(**switches: bool) -> Target:
    """The weak protocol; a switch that is False repairs one of its mistakes."""
    return Target(
        REFERENCE,
        vulnerable.PROTOCOL,
        partial(vulnerable.configure, **switches),
        ForgetfulJournal if switches.get("reuse", True) else MemoryJournal,
        policy=not switches.get("downgrade", True),
    )


def targets() -> tuple[Target, ...]:
    """Everything that the registry has and that can be configured here, and the reference."""
    found = []
    for name, protocol, options in _LINES:
        if protocol in PROTOCOLS:
            loaded = load(protocol)
            signed = options.get("adversary") == "active"
            found.append(
                Target(name, loaded, loaded.configure, signed=signed, options=dict(options))
            )
    return (*found, reference())
