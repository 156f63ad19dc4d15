"""What all parties of a run agree on beforehand: its parameters, its number and its members."""

from dataclasses import dataclass, field
from functools import cached_property

from secagg.codec import Value, encode
from secagg.context import session_context
from secagg.errors import ParameterError
from secagg.identity import Roster
from secagg.packing import packed_bytes
from secagg.ring import MAX_BITS

SERVER = 0
"""The server's number. Clients are 1..n: roster index + 1; helpers, where a protocol has
any (a key holder, decryptors), follow from n + 1.
"""


class Parameters(Value, frozen=True):
    """What every protocol's public parameters have; a protocol adds its own and checks all.

    clients: roster size n; floor: fewest clients in a sum, below which there is no result;
    length: values in a vector; modulus_bits: k, sums are modulo 2^k.
    """

    clients: int
    floor: int
    length: int
    modulus_bits: int

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of what clients and helpers send, in order."""
        return ("upload",)

    @property
    def client_stages(self) -> tuple[str, ...]:
        """Those in which clients send; helpers act in the others."""
        return self.stages

    @property
    def helpers(self) -> int:
        """Parties that are neither clients nor the server, numbered from clients + 1."""
        return 0

    @property
    def helper_floor(self) -> int:
        """The fewest of them with whose answers a stage can end well."""
        return self.helpers

    @property
    def helper_role(self) -> str:
        """What one of them is called, in a word or two."""
        return "helper"

    @property
    def upload_bytes(self) -> int:
        """What a server holds of a client's upload until its last piece has come, at most."""
        return packed_bytes(self.length, self.modulus_bits)

    @property
    def tolerated(self) -> int:
        """The most corrupt clients beside which two others remain in every sum."""
        return self.floor - 2

    @property
    def any_suffice(self) -> bool:
        """Whether in the last stage any `floor` of the clients that it could ask are enough."""
        return False

    @property
    def signed(self) -> bool:
        """Whether the members sign, so that a server cannot speak for them."""
        return False

    def check(self) -> None:
        """Raise ParameterError, in one sentence with the way out."""
        if self.clients < 2:
            raise ParameterError(f"{self.clients} clients: a sum needs at least 2")
        if self.floor > self.clients:
            raise ParameterError(
                f"a sum of at least {self.floor} is more than the {self.clients} clients; lower it"
            )
        if self.floor < 2:
            raise ParameterError(f"a sum of {self.floor} would reveal one client; use 2 or more")
        if self.length < 1:
            raise ParameterError("the vector is empty; length must be at least 1")
        if not 1 <= self.modulus_bits <= MAX_BITS:
            raise ParameterError(f"modulus_bits is {self.modulus_bits}; choose 1 to {MAX_BITS}")


@dataclass(frozen=True)
class Session:
    """One run of one protocol: what all parties agree on before the first message.

    session_id: 32 bytes, never used before; roster: digest of the members (32 bytes); members:
    who they are, where the protocol checks signatures. Raises ParameterError.
    """

    protocol: str
    parameters: Parameters
    session_id: bytes
    roster: bytes
    members: Roster | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.parameters.check()
        if len(self.session_id) != 32 or len(self.roster) != 32:
            raise ParameterError("session_id and roster digest have 32 bytes each")
        if self.members is not None:
            self._check_members(self.members)

    def _check_members(self, members: Roster) -> None:
        if len(members) != self.parameters.clients:
            raise ParameterError(
                f"a roster of {len(members)} members for {self.parameters.clients} clients"
            )
        if members.digest() != self.roster:
            raise ParameterError("the roster digest is not that of the members")

    @cached_property
    def context(self) -> bytes:
        """`context0`, which all adverts are bound to."""
        return session_context(self.protocol, encode(self.parameters), self.session_id, self.roster)
