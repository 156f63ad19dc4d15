"""A Grid in this process that serialises everything, and does to messages what it is told.

Every message and every node's Context goes through Flower's own protobufs, as between
processes. Time is the grid's own: it passes when somebody sleeps.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.common.serde import (
    context_from_proto,
    context_to_proto,
    message_from_proto,
    message_to_proto,
)
from flwr.proto.message_pb2 import Context as ContextProto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.serverapp import Grid

from fl.flower.exchange import Clock, Patience
from fl.flower.protection import Protection
from fl.flower.wire import RECORD, Request, is_ours, unpack
from secagg.identity import Identity, Member, Roster
from secagg.rng import SystemSource

try:
    from flwr.supercore.task_identity import TaskIdentity
except ImportError:  # flwr 1.40
    TaskIdentity = None

NODES = (11, 22, 33, 44, 55)
PATIENCE = Patience(deadline=100.0, grace=5.0, slack=0.0, poll=1.0)


class Fault(Enum):
    """What can happen to a node at a stage."""

    LOSE_REQUEST = "the message does not arrive"
    LOSE_REPLY = "its reply does not arrive, and its state is kept"
    ERROR = "its client process is killed: the engine reports it, and its state is as before"
    LATE = "its reply comes when nobody waits for it any more"
    TWICE = "its reply comes twice"
    RESTART = "it has lost its state before the message comes"
    RESTART_AFTER = "it loses its state after it has answered"
    ROLLED_BACK = "its reply arrives, and its state stays as it was before the message"
    GARBAGE = "its reply is not what the adapter sends"
    UNPUSHED = "the grid does not take the message"


@dataclass
class Node:
    app: ClientApp
    context: bytes
    empty: bytes


@dataclass
class FakeGrid(Grid):
    """`faults` by (node, stage) apply to every message of that stage until they are removed.
    `helpers` are nodes whose own configuration says that they are; `configs`: the configurations
    of others.
    """

    apps: dict[int, ClientApp]
    helpers: tuple[int, ...] = ()
    faults: dict[tuple[int, str], Fault] = field(default_factory=dict)
    now: float = 0.0
    asked: list[tuple[int, str]] = field(default_factory=list)
    on_push: Callable[[int, str], None] | None = None
    most_open: int = 0
    largest_state: int = 0
    configs: dict[int, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if TaskIdentity is not None:
            TaskIdentity.run_id = TaskIdentity.task_id = 1
            TaskIdentity.node_id = 1
        configs = {node: {"secagg-role": "helper"} for node in self.helpers} | self.configs
        self._nodes = {n: _node(n, app, configs.get(n, {})) for n, app in self.apps.items()}
        self._replies: dict[str, list[tuple[float, bytes]]] = {}
        self._owes: Counter[int] = Counter()
        self._owner: dict[str, int] = {}
        self._count = 0

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, self._sleep)

    def _sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def restart(self, node: int) -> None:
        self._nodes[node].context = self._nodes[node].empty

    def state(self, node: int) -> bytes:
        return self._nodes[node].context

    def set_state(self, node: int, context: bytes) -> None:
        self._nodes[node].context = context

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        keys = []
        for message in messages:
            node, stage = message.metadata.dst_node_id, stage_of(message)
            fault = self.faults.get((node, stage))
            if fault is Fault.UNPUSHED:
                continue
            if self.on_push:
                self.on_push(node, stage)
            self._count += 1
            key = f"message-{self._count}"
            message.metadata.__dict__["_message_id"] = key
            self.asked.append((node, stage))
            self._owner[key] = node
            self._owes[node] += 1
            self.most_open = max(self.most_open, self._owes[node])
            self._replies[key] = self._run(node, wire(message), fault)
            keys.append(key)
        return keys

    def _run(self, node: int, message: Message, fault: Fault | None) -> list[tuple[float, bytes]]:
        if fault is Fault.LOSE_REQUEST:
            return []
        if fault is Fault.RESTART:
            self.restart(node)
        if fault is Fault.ERROR:
            return [(self.now, packed(Message(Error(8, "the app crashed"), reply_to=message)))]
        before = self.state(node)
        reply = self._handle(node, message)
        if fault is Fault.RESTART_AFTER:
            self.restart(node)
        if fault is Fault.ROLLED_BACK:
            self.set_state(node, before)
        if fault is Fault.GARBAGE:
            record = ConfigRecord({"body": b"\x93 is nothing"})
            reply = Message(RecordDict({RECORD: record}), reply_to=message)
        times = {Fault.LOSE_REPLY: 0, Fault.TWICE: 2}.get(fault, 1)
        when = self.now + (message.metadata.ttl - 0.5 if fault is Fault.LATE else 0.0)
        return [(when, packed(reply))] * times

    def _handle(self, node: int, message: Message) -> Message:
        """As flwr 1.41 does it: the app's exception becomes an Error, and the state is stored all
        the same.
        """
        known = self._nodes[node]
        context = context_from_proto(ContextProto.FromString(known.context))
        try:
            reply = known.app(message, context)
        except Exception as error:
            reply = Message(Error(2, f"{type(error).__name__}: {error}"), reply_to=message)
        known.context = context_to_proto(context).SerializeToString()
        self.largest_state = max(self.largest_state, len(known.context))
        return reply

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        found = []
        for key in message_ids:
            for at, raw in self._replies[key]:
                if at <= self.now:
                    found.append(message_from_proto(MessageProto.FromString(raw)))
            if any(at <= self.now for at, _ in self._replies[key]):
                self._replies[key] = []
                self._owes[self._owner[key]] -= 1
        return found

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))

    def get_node_ids(self) -> Iterable[int]:
        return list(self.apps)

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        return Message(*args, **kwargs)


def _node(node: int, app: ClientApp, config: dict[str, str]) -> Node:
    empty = context_to_proto(Context(1, node, config, RecordDict(), {})).SerializeToString()
    return Node(app, empty, empty)


def packed(message: Message) -> bytes:
    return message_to_proto(message).SerializeToString()


def wire(message: Message) -> Message:
    return message_from_proto(MessageProto.FromString(packed(message)))


def stage_of(message: Message) -> str:
    if not is_ours(message.content):
        return message.metadata.message_type
    return unpack(message.content, Request)[0].stage


def model() -> ArrayRecord:
    """Three arrays: floats, a scalar and a counter."""
    weights = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    return ArrayRecord(
        {
            "w": Array(weights),
            "bias": Array(np.asarray(0.25, np.float32)),
            "steps": Array(np.asarray(7, np.int64)),
        }
    )


def protection(**changes: Any) -> Protection:
    options = {"protocol": "masking", "options": {"suite": "X25519"}, "clips": {"steps": 100.0}}
    return Protection(**{"max_weight": 256, **options, **changes})


def trained(node: int, arrays: ArrayRecord) -> tuple[ArrayRecord, MetricRecord]:
    """What a node makes of a model: a different step for each, and a metric of each kind."""
    source = np.random.default_rng(node)
    new = {}
    for name, array in arrays.items():
        old = array.numpy()
        if old.dtype.kind == "i":
            new[name] = Array(np.asarray(old + node, old.dtype))
        else:
            # towards something, so that five rounds stay in range
            step = 0.1 * (source.normal(size=old.shape) - old)
            new[name] = Array(np.asarray(old + np.clip(step, -0.9, 0.9), old.dtype))
    metrics = {"loss": 1.0 / node, "num-examples": node, "by-class": [0.5, node / 100]}
    return ArrayRecord(new), MetricRecord(metrics)


def toy_app(*mods: Any, spoil: Callable[[RecordDict], None] | None = None) -> ClientApp:
    """An app that trains and evaluates. `spoil` changes its training replies."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        assert len(message.content.config_records) == 1
        arrays, metrics = trained(
            context.node_id, next(iter(message.content.array_records.values()))
        )
        content = RecordDict({"arrays": arrays, "metrics": metrics})
        if spoil:
            spoil(content)
        return Message(content, reply_to=message)

    app.train("again")(train)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        w = message.content["arrays"]["w"].numpy()
        loss = float(np.square(w).sum()) + context.node_id
        metrics = MetricRecord({"eval-loss": loss, "num-examples": context.node_id})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    @app.query()
    def query(message: Message, context: Context) -> Message:
        return Message(RecordDict({"q": MetricRecord({"id": context.node_id})}), reply_to=message)

    return app


IDENTITIES = {node: Identity.draw("Ed25519", SystemSource()) for node in NODES}


def roster() -> Roster:
    """The nodes as members who sign."""
    return Roster(Member(f"node {node}", IDENTITIES[node].public) for node in NODES)
