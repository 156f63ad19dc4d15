"""What a client insists on, whatever session it is offered.

A server that chooses the parameters could choose ones that protect nobody: a sum of two, a
threshold that its friends reach alone, a modulus of one bit. So a client holds every session
against floors of its own configuration before it makes a machine for it.
"""

from dataclasses import dataclass

from protocols.base import Session
from secagg.errors import LocalError


@dataclass(frozen=True)
class Policy:
    """Least demands of one client. A default demands what every protocol promises.

    protocols: names of those it takes part in, any where empty; clients: roster size; floor:
    clients in a sum; corrupt: clients that may collude with the server, and each other, and
    still learn nothing; modulus_bits: of a coordinate of the sum; signed: whether members have
    to sign, so that a server cannot speak for them.
    """

    protocols: frozenset[str] = frozenset()
    clients: int = 2
    floor: int = 2
    corrupt: int = 0
    modulus_bits: int = 1
    signed: bool = False

    def admit(self, session: Session) -> None:
        """Raise LocalError, which names the first demand that the session does not meet."""
        if self.protocols and session.protocol not in self.protocols:
            allowed = ", ".join(sorted(self.protocols))
            raise LocalError(f"protocol {session.protocol!r}; this client allows {allowed}")
        offered = session.parameters
        for what, value, least in (
            ("the number of clients", offered.clients, self.clients),
            ("the number of clients in a sum", offered.floor, self.floor),
            ("the number of corrupt clients that is tolerated", offered.tolerated, self.corrupt),
            ("modulus_bits", offered.modulus_bits, self.modulus_bits),
        ):
            if value < least:
                raise LocalError(f"{what} is {value}, and this client insists on {least}")
        if self.signed and not offered.signed:
            raise LocalError("a session without signatures, and this client insists on them")
