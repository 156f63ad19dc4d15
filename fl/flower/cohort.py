"""One session from the server's side: its machine, its nodes, and who was lost where."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from flwr.app import Error, Message

from fl.flower.exchange import UNAVAILABLE
from fl.flower.protection import Protection
from fl.flower.report import Lost
from fl.flower.wire import Offer, Parcel, Refusal, Reply, Schema, is_ours, shared_out, unpack
from protocols.base import Begin, Envelope, Received, Result, RoundClosed, Session
from protocols.journal import MemoryJournal, Party
from secagg.codec import encode
from secagg.errors import DecodeError, LocalError, PeerError
from secagg.rng import RandomSource

REFUSED = 6
APP_RAISED = 2
RAISED = (
    "its app raised an exception: see the client's log, and whether fl.flower.secure_mod is the "
    "first of its mods"
)
NO_MOD = (
    "the client does not speak secure aggregation; put fl.flower.secure_mod(PROTECTION) first in "
    "ClientApp(mods=[…])"
)


@dataclass
class Cohort:
    """A session that was offered to `nodes`, sorted. Raises ParameterError."""

    protection: Protection
    nodes: tuple[int, ...]
    length: int
    source: RandomSource
    lost: dict[int, Lost] = field(default_factory=dict)
    joined: set[int] = field(default_factory=set)
    schema: Schema | None = None

    def __post_init__(self) -> None:
        session_id = self.source.seed()
        self.session: Session = self.protection.session(session_id, self.nodes, self.length)
        machine = self.protection.machines.server(self.session, self.source)
        self.party = Party(machine, MemoryJournal())
        fixed = self.protection.roster is None
        self._number = {n: i for i, n in enumerate(self.nodes, start=1)} if fixed else {}

    @property
    def key(self) -> bytes:
        """The session's id."""
        return self.session.session_id

    @property
    def stages(self) -> tuple[str, ...]:
        """The protocol's, in order."""
        return self.session.parameters.stages

    @property
    def enough(self) -> int:
        """With so many answers of a stage the round can end well."""
        return self.session.parameters.floor

    def offer(self, node: int) -> Offer:
        """What the node needs to join."""
        parameters = encode(self.session.parameters)
        fixed = self.protection.roster is None
        nodes, number = (self.nodes, self._number[node]) if fixed else ((), 0)
        protocol = self.protection.protocol
        return Offer(self.key, protocol, parameters, self.length, nodes, number)

    def begin(self, application: bytes) -> None:
        """Say what is trained."""
        self.party.handle(Begin(application))

    def close(self) -> dict[int, list[bytes]]:
        """End the stage; the next one's requests by node. Raises ProtocolAborted."""
        requests: dict[int, list[bytes]] = {}
        envelopes: Iterable[Envelope] = self.party.handle(RoundClosed())
        node_of = {number: node for node, number in self._number.items()}
        for envelope in envelopes:
            requests.setdefault(node_of[envelope.to], []).append(envelope.data)
        return requests

    def result(self) -> tuple[Result, tuple[int, ...]]:
        """The sum and the nodes in it."""
        result = self.party.machine.result
        node_of = {number: node for node, number in self._number.items()}
        return result, tuple(node_of[number] for number in result.contributors)

    def lose(self, node: int, stage: str, reason: str, code: int = UNAVAILABLE) -> None:
        """The first loss of a node counts."""
        self.lost.setdefault(node, Lost(stage, reason, code))

    def take(self, node: int, stage: str, parcel: Parcel, data: Sequence[bytes]) -> bool:
        """Hand a node's bytes to the machine; False, and the node is lost, where it refuses."""
        if not self._known_as(node, parcel.number):
            self.lose(node, stage, f"it says that it is number {parcel.number}, which it is not")
            return False
        try:
            for each in data:
                self.party.handle(Received(parcel.number, each))
        except (PeerError, LocalError) as error:
            self.lose(node, stage, str(error), REFUSED)
            return False
        self.joined.add(node)
        return True

    def agrees(self, schema: Schema | None) -> bool:
        """Whether this reply means the same as the first one's."""
        if schema is not None and self.schema is None:
            self.schema = schema
        return schema is None or schema == self.schema

    def _known_as(self, node: int, number: int) -> bool:
        """With a roster the node says who it is, once, and the machine checks its signature."""
        if self.protection.roster is not None and number not in self._number.values():
            self._number.setdefault(node, number)
        return self._number.get(node) == number


def opened(reply: Message | Error) -> tuple[Reply, list[Sequence[bytes]]] | Lost:
    """A node's reply, or why there is none."""
    if isinstance(reply, Error):
        return Lost("", str(reply.reason), reply.code)
    if reply.has_error():
        reason = str(reply.error.reason)
        if reply.error.code == APP_RAISED:
            reason = f"{reason} ({RAISED})"
        return Lost("", reason, reply.error.code)
    if not is_ours(reply.content):
        return Lost("", NO_MOD, REFUSED)
    try:
        body, data = unpack(reply.content, Reply)
        return body, shared_out(body.parcels, data)
    except (DecodeError, Refusal) as error:
        return Lost("", f"{error}; install the same version at both ends", REFUSED)
