"""`SecureGrid`: a Grid on which training and evaluation replies exist only as their mean.

A strategy sends one message to each node and gets one reply from each. In between run all
stages of the protocol. What comes back is one reply for each survivor, all with the mean in
them, and an `Error` with stage and reason for each node that was lost.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from logging import INFO, WARNING
from typing import Any, Literal

from flwr.app import Error, Message, MessageType, RecordDict
from flwr.common import log
from flwr.serverapp import Grid

from fl.flower.digests import application_of, model_of
from fl.flower.exchange import Clock, Exchange, Patience
from fl.flower.protection import Protection
from fl.flower.report import Lost, RoundReport
from fl.flower.rounds import Rounds, Task
from fl.flower.values import Means, category
from fl.flower.wire import Refusal
from secagg.errors import LocalError, ParameterError, ProtocolAborted
from secagg.rng import RandomSource, SystemSource

OnAbort = Literal["skip", "retry", "raise"]
PROTECTED = (MessageType.TRAIN, MessageType.EVALUATE)


@dataclass
class SecureGrid(Grid):
    """`inner` with `protection`. Use `fl.flower.secure`, which checks the strategy as well.

    helpers: the ids of the nodes that are decryptors, or the key holder, where the protocol has
    any; strategies do not see them. on_abort: what a round without a sum is: `skip` (every node
    is an Error), `retry` (at most `retries` times, and only while no update can be known in a
    sum; then as `skip`) or `raise`.
    `rounds` has a report for each secure exchange.
    """

    inner: Grid
    protection: Protection
    helpers: Sequence[int] = ()
    on_abort: OnAbort = "skip"
    retries: int = 2
    patience: Patience = field(default_factory=Patience)
    clock: Clock = field(default_factory=Clock, repr=False)
    source: RandomSource = field(default_factory=SystemSource, repr=False)
    rounds: list[RoundReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.on_abort not in ("skip", "retry", "raise") or self.retries < 0:
            raise ParameterError("on_abort is skip, retry or raise, and retries not negative")
        self.helpers = sorted(set(self.helpers))
        if len(self.helpers) != self.protection.helpers:
            raise ParameterError(
                f"{len(self.helpers)} helper nodes, and protocol {self.protection.protocol!r} "
                f"needs {self.protection.helpers}; name them: "
                "helpers=fl.flower.find_helpers(grid, PROTECTION), or their ids"
            )
        exchange = Exchange(self.inner, self.patience, self.clock)
        self._rounds = Rounds(self.protection, self.helpers, exchange, self.clock, self.source)
        self._spent: set[bytes] = set()
        self._attempts: dict[bytes, int] = {}

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """The strategy's messages, answered by means. `timeout` bounds each stage.

        Queries go to the inner grid as they are. Raises LocalError for what cannot be asked of
        a sum, and ProtocolAborted as configured.
        """
        asked = list(messages)
        kinds = {message.metadata.message_type for message in asked}
        if not asked or {category(kind) for kind in kinds} == {MessageType.QUERY}:
            return list(self.inner.send_and_receive(asked, timeout=timeout))
        deadline = min(timeout or self.patience.deadline, self.patience.deadline)
        task = self._task(asked, kinds, deadline)
        report = RoundReport(task.kind)
        self.rounds.append(report)
        means = self._means(task, report)
        _tell(report)
        return [_reply(message, means, report) for message in asked]

    def _means(self, task: Task, report: RoundReport) -> Means | None:
        """The means, after as many attempts as are allowed. Raises ProtocolAborted."""
        if task.model in self._spent:
            self._refuse_spent(task, report)
            return None
        attempts = 1 + self.retries * (self.on_abort == "retry")
        while True:
            report.attempts += 1
            attempt = self._attempts[task.model] = self._attempts.get(task.model, 0) + 1
            try:
                means = self._rounds.run(replace(task, attempt=attempt), report)
            finally:
                if report.spent:
                    self._spent.add(task.model)
            if means is not None:
                return means
            if report.spent or report.attempts >= attempts:
                break
            log(WARNING, "secagg: %s; trying again", report.aborted)
        if self.on_abort == "raise":
            raise ProtocolAborted(report.aborted, stage=report.stage)
        return None

    def _refuse_spent(self, task: Task, report: RoundReport) -> None:
        """Another sum over the same model could reveal a client by the difference."""
        report.aborted = (
            f"a {task.kind} round over this very model was summed, or failed when it might be: "
            "a second sum over other clients would reveal one of them by the difference"
        )
        report.lost = {node: Lost("", report.aborted, 0) for node in task.nodes}
        if category(task.kind) == MessageType.TRAIN:
            raise ProtocolAborted(f"{report.aborted}; start again from another model", stage="")

    def _task(self, asked: list[Message], kinds: set[str], deadline: float) -> Task:
        """What all nodes are asked alike. Raises LocalError where they are not."""
        if len(kinds) != 1 or category(next(iter(kinds))) not in PROTECTED:
            raise LocalError(
                f"messages of types {', '.join(sorted(kinds))} in one exchange; a sum needs one "
                "type, train or evaluate"
            )
        first = asked[0]
        kind, terms = first.metadata.message_type, self.protection.terms
        nodes = tuple(message.metadata.dst_node_id for message in asked)
        if len(set(nodes)) != len(nodes):
            raise LocalError("two messages to one node in an exchange; a sum takes one of each")
        if helpers := set(nodes).intersection(self.helpers):
            raise LocalError(
                f"node {min(helpers)} is a helper and trains nothing; sample from the nodes of "
                "the secure grid"
            )
        application = application_of(kind, first.content, terms)
        for message in asked[1:]:
            if _differs(message, first, application, terms):
                raise LocalError(
                    f"the message to node {message.metadata.dst_node_id} differs from that to "
                    f"node {nodes[0]}; what is summed must be trained alike, so use a strategy "
                    "that sends the same to all"
                )
        try:
            group, model = first.metadata.group_id, model_of(kind, first.content)
        except Refusal as error:
            raise LocalError(str(error)) from None
        return Task(kind, group, tuple(sorted(nodes)), first.content, application, model, deadline)

    def set_run(self, run: Any) -> None:
        """As the inner grid."""
        self.inner.set_run(run)

    @property
    def run(self) -> Any:
        """As the inner grid."""
        return self.inner.run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """As the inner grid."""
        return self.inner.create_message(*args, **kwargs)

    def get_node_ids(self) -> Iterable[int]:
        """Those of the inner grid that are clients."""
        return [node for node in self.inner.get_node_ids() if node not in self.helpers]

    def get_nodes(self) -> Any:
        """Those of the inner grid that are clients."""
        return [node for node in self.inner.get_nodes() if node.node_id not in self.helpers]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Refused: a single reply would be one client's. Raises LocalError."""
        del messages
        raise LocalError(_ONE_BY_ONE)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Refused: a single reply would be one client's. Raises LocalError."""
        del message_ids
        raise LocalError(_ONE_BY_ONE)


_ONE_BY_ONE = (
    "a secure grid has no replies one by one; use send_and_receive, or the inner grid for what "
    "needs no protection"
)


def _differs(message: Message, first: Message, application: bytes, terms: bytes) -> bool:
    if message.content is first.content:
        return False
    return application_of(first.metadata.message_type, message.content, terms) != application


def _reply(message: Message, means: Means | None, report: RoundReport) -> Message:
    node = message.metadata.dst_node_id
    if means is not None and node in report.survivors:
        return Message(RecordDict(dict(means.content)), reply_to=message)
    lost = report.lost.get(node)
    reason = str(lost) if lost else report.aborted
    code = lost.code if lost else 0
    if lost and report.aborted:
        reason = f"{reason} (and there is no sum: {report.aborted})"
    return Message(Error(code, f"secagg: {reason}"), reply_to=message)


def _tell(report: RoundReport) -> None:
    for node, lost in (report.lost | report.lost_helpers).items():
        log(WARNING, "secagg: node %d %s", node, lost)
    for trouble in report.troubles:
        log(WARNING, "secagg: %s", trouble)
    if report.aborted:
        log(WARNING, "secagg: %s round without a sum: %s", report.kind, report.aborted)
        return
    log(
        INFO,
        "secagg: %s round, %d of %d nodes in the sum, %d exchanges, %.1f s, %.2g of coordinates "
        "clipped",
        report.kind,
        len(report.survivors),
        len(report.survivors) + len(report.lost),
        report.exchanges,
        report.total_seconds,
        report.clipped or 0.0,
    )
