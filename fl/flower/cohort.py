"""One session from the server's side: its machine, its nodes, and who was lost where."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from flwr.app import Error, Message

from fl.flower.exchange import UNAVAILABLE
from fl.flower.protection import UPLOAD, Protection
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
    "its app raised an exception: see the client's log, and put fl.flower.secure_mod(PROTECTION) "
    "first in ClientApp(mods=[…]) if it is not there"
)
NO_MOD = (
    "the client does not speak secure aggregation; put fl.flower.secure_mod(PROTECTION) first in "
    "ClientApp(mods=[…])"
)


@dataclass(eq=False)
class Cohort:
    """A session for `nodes` and `helpers`, each sorted. Raises ParameterError.

    lost: who was, where; joined: who has answered at all; schema: what the uploads mean.
    """

    protection: Protection
    nodes: tuple[int, ...]
    helpers: tuple[int, ...]
    length: int
    source: RandomSource
    lost: dict[int, Lost] = field(default_factory=dict)
    joined: set[int] = field(default_factory=set)
    schema: Schema | None = None

    def __post_init__(self) -> None:
        session_id = self.source.seed()
        self.session: Session = self.protection.session(
            session_id, self.nodes, self.length, self.helpers
        )
        machine = self.protection.machines.server(self.session, self.source)
        self.party = Party(machine, MemoryJournal())
        self._fixed = self.protection.roster is None
        everyone = (*self.nodes, *self.helpers) if self._fixed else ()
        self._number = {node: i for i, node in enumerate(everyone, start=1)}
        self._stages = self.session.parameters.stages
        self._at = 0
        self._asked: set[int] = set()
        self._answered: dict[int, None] = {}
        self._quickest: tuple[int, ...] = ()
        self._requests: dict[int, list[bytes]] = {}

    @property
    def key(self) -> bytes:
        """The session's id."""
        return self.session.session_id

    @property
    def over(self) -> bool:
        """Whether the last stage is closed."""
        return self._at == len(self._stages)

    @property
    def stage(self) -> str:
        """The one that is open."""
        return self._stages[self._at]

    @property
    def early(self) -> bool:
        """Whether this stage needs nothing of what is trained."""
        return not self.over and self._at < self._stages.index(UPLOAD)

    @property
    def final(self) -> bool:
        """Whether clients say their last word in this stage, or have: then nobody can say that
        their updates are not known in a sum.
        """
        return self._at >= self._stages.index(self.session.parameters.client_stages[-1])

    @property
    def pending(self) -> frozenset[int]:
        """The nodes that may still answer in this stage."""
        waits = self.party.machine.waits_for
        known = {node for node, number in self._number.items() if number in waits}
        if not self._fixed and not self._at:  # who has not said yet which member it is
            known |= set(self.nodes) - self._number.keys()
        return frozenset(known)

    @property
    def may_spare(self) -> bool:
        """Whether some of those who may answer in this stage, whoever they are, are enough."""
        last = self._at == len(self._stages) - 1 > self._stages.index(UPLOAD)
        return last and self.session.parameters.any_suffice

    @property
    def satisfied(self) -> bool:
        """Whether nobody else need be asked in such a stage."""
        return self.party.machine.satisfied

    def quickest(self, nodes: Collection[int]) -> list[int]:
        """The nodes, those first that answered first in the stage before: they look for their
        next message first, too.
        """
        place = {node: at for at, node in enumerate(self._quickest)}
        return sorted(nodes, key=lambda node: (place.get(node, len(place)), node))

    @property
    def prepared(self) -> bool:
        """Whether this stage can be closed before it is known what is trained."""
        return self.early and not self.pending and Begin not in self.party.machine.accepts

    def serves(self, nodes: tuple[int, ...], length: int) -> bool:
        """Whether a round of these nodes can go on from here without losing one of them."""
        if length != self.length or (self._fixed and nodes != self.nodes):
            return False
        return not self._at or (self.pending - self._asked).issuperset(nodes)

    def enough(self, asked: Collection[int]) -> int:
        """With so many answers of the nodes asked the stage can end well."""
        helpers = self._answered.keys() & set(self.helpers)
        clients, parameters = len(self._answered) - len(helpers), self.session.parameters
        missing = 0
        if set(asked) & set(self.helpers):
            missing += max(parameters.helper_floor - len(helpers), 0)
        if set(asked) - set(self.helpers):
            missing += max(parameters.floor - clients, 0)
        return missing

    def offer(self, node: int) -> Offer:
        """What the node needs to join."""
        parameters = encode(self.session.parameters)
        nodes, helpers = (self.nodes, self.helpers) if self._fixed else ((), ())
        number = self._number[node] if self._fixed else 0
        protocol = self.protection.protocol
        return Offer(self.key, protocol, parameters, self.length, nodes, helpers, number)

    def ask(self, node: int) -> Sequence[bytes]:
        """What the node is asked in this stage, once: if it fails, it is lost to this session."""
        self._asked.add(node)
        return self._requests.get(node, ())

    def begin(self, application: bytes) -> None:
        """Say what is trained, once the machine is ready to hear it."""
        if Begin in self.party.machine.accepts:
            self.party.handle(Begin(application))

    def close(self) -> None:
        """End the stage. Raises ProtocolAborted."""
        envelopes: Iterable[Envelope] = self.party.handle(RoundClosed())
        node_of = {number: node for node, number in self._number.items()}
        self._requests = {}
        for envelope in envelopes:
            self._requests.setdefault(node_of[envelope.to], []).append(envelope.data)
        self._asked.clear()
        self._quickest, self._answered = tuple(self._answered), {}
        self._at += 1

    def result(self) -> tuple[Result, tuple[int, ...]]:
        """The sum and the nodes in it."""
        result = self.party.machine.result
        node_of = {number: node for node, number in self._number.items()}
        return result, tuple(node_of[number] for number in result.contributors)

    def lose(self, node: int, stage: str, reason: str, code: int = UNAVAILABLE) -> None:
        """The first loss of a node counts."""
        self.lost.setdefault(node, Lost(stage, reason, code))

    def take(self, node: int, stage: str, parcel: Parcel, data: Sequence[bytes]) -> None:
        """Hand a node's bytes to the machine; the node is lost where it refuses them."""
        if not self._known_as(node, parcel.number):
            self.lose(node, stage, f"it says that it is number {parcel.number}, which it is not")
            return
        try:
            for each in data:
                self.party.handle(Received(parcel.number, each))
        except (PeerError, LocalError) as error:
            self.lose(node, stage, str(error), REFUSED)
            if not self._fixed and node not in self.joined:
                del self._number[node]  # it is not who it says it is
            return
        self.joined.add(node)
        self._answered[node] = None

    def agrees(self, schema: Schema | None) -> bool:
        """Whether this reply means the same as the first one's."""
        if schema is not None and self.schema is None:
            self.schema = schema
        return schema is None or schema == self.schema

    def _known_as(self, node: int, number: int) -> bool:
        """With a roster the node says who it is, once, and the machine checks its signature."""
        if not self._fixed and number not in self._number.values():
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
        return Lost("", str(error), REFUSED)
