"""The stages of a round over Flower's messages, and what travels ahead of the next one.

Adverts are bound to a session and to nothing that is trained. So the last stage's messages
carry the offers of the next sessions, one for training and one for evaluation, and a masking
round after the first has three exchanges. Where the next round has other nodes or another
model, its offers are made anew.
"""

from dataclasses import dataclass, field

from flwr.app import RecordDict

from fl.flower.cohort import Cohort, opened
from fl.flower.exchange import UNAVAILABLE, Clock, Exchange, Pattern
from fl.flower.protection import UPLOAD, Protection
from fl.flower.report import Lost, RoundReport
from fl.flower.values import Layout, Means, decode_means
from fl.flower.wire import BYTES, VERSION, Refusal, Request, pack
from secagg.errors import LocalError, ProtocolAborted
from secagg.rng import RandomSource

EVALUATE = "evaluate"


@dataclass(frozen=True)
class Task:
    """What the strategy asks: the same of all nodes (sorted)."""

    kind: str
    group: str
    nodes: tuple[int, ...]
    content: RecordDict = field(repr=False)
    application: bytes
    model: bytes
    deadline: float


class Rounds:
    """Runs tasks over an exchange. One at a time."""

    def __init__(
        self, protection: Protection, exchange: Exchange, clock: Clock, source: RandomSource
    ) -> None:
        self._protection, self._exchange = protection, exchange
        self._clock, self._source = clock, source
        self._next: dict[str, Cohort] = {}
        self._lengths: dict[str, int] = {}

    def run(self, task: Task, report: RoundReport) -> Means | None:
        """One attempt. None where it was aborted; `report` says why, and who was lost.

        Raises LocalError or ParameterError for a model that cannot be summed.
        """
        layout, cohort = self._prepare(task)
        cohort.begin(task.application)
        report.aborted, report.survivors = "", ()
        means = None
        try:
            self._stages(task, cohort, report)
            means = self._finish(layout, cohort, report)
        except ProtocolAborted as abort:
            report.aborted = abort.reason
        report.lost = {n: _lost(n, cohort, report) for n in task.nodes if n not in report.survivors}
        return means

    def _prepare(self, task: Task) -> tuple[Layout, Cohort]:
        """The session that was offered ahead, if it is for these nodes and this model."""
        try:
            layout = self._layout(task.kind, task.nodes, task.content)
            length = layout.length
        except Refusal as error:
            raise LocalError(str(error)) from None
        cohort = self._next.pop(task.kind, None)
        self._lengths[task.kind] = length
        if cohort is None or cohort.length != length or not self._same(cohort.nodes, task.nodes):
            cohort = Cohort(self._protection, task.nodes, length, self._source)
        cohort.lost.clear()
        return layout, cohort

    def _finish(self, layout: Layout, cohort: Cohort, report: RoundReport) -> Means:
        """Decode the sum. Raises ProtocolAborted where it is impossible."""
        result, report.survivors = cohort.result()
        report.troubles += [f"bad answer: {bad}" for bad in result.bad_answers]
        assert cohort.schema is not None  # noqa: S101 - every upload brings one
        try:
            means = decode_means(result.total, len(report.survivors), cohort.schema, layout)
        except LocalError as error:
            report.survivors = ()
            reason = f"the sum is not one of encoded updates: {error}"
            raise ProtocolAborted(reason, stage=report.stage) from None
        report.clipped = means.clipped
        return means

    def _stages(self, task: Task, cohort: Cohort, report: RoundReport) -> None:
        """All of them. Raises ProtocolAborted."""
        requests: dict[int, list[bytes]] = {}
        for stage in cohort.stages:
            report.stage = stage
            began = self._clock.now()
            last = stage == cohort.stages[-1]
            report.spent = report.spent or last
            contents = self._contents(task, cohort, stage, requests)
            if contents:
                self._ask(task, cohort, stage, contents, report)
            try:
                requests = cohort.close()
            finally:
                seconds = report.seconds.get(stage, 0.0) + self._clock.now() - began
                report.seconds[stage] = seconds

    def _contents(
        self, task: Task, cohort: Cohort, stage: str, requests: dict[int, list[bytes]]
    ) -> dict[int, RecordDict]:
        """What each node is sent in this stage."""
        first, last = stage == cohort.stages[0], stage == cohort.stages[-1]
        nodes = [n for n in task.nodes if n not in cohort.joined] if first else list(requests)
        step = stage == UPLOAD or not first
        ahead = self._ahead(task) if last and not first else []
        contents = {}
        for node in nodes:
            offers = [cohort.offer(node)] if first else []
            offers += [each.offer(node) for each in ahead if node not in each.joined]
            session = cohort.key if step else b""
            request = Request(VERSION, tuple(offers), session, stage, task.application)
            contents[node] = pack(request, requests.get(node, ()))
            if stage == UPLOAD:
                contents[node].update(task.content)
        return contents

    def _ask(
        self,
        task: Task,
        cohort: Cohort,
        stage: str,
        contents: dict[int, RecordDict],
        report: RoundReport,
    ) -> None:
        """One exchange: every reply goes to the machine as it comes."""
        report.exchanges += 1
        pattern = Pattern(task.kind, task.group, stage, task.deadline)
        report.sent += sum(map(_size, contents.values()))
        enough = max(cohort.enough - len(cohort.joined) * (stage == cohort.stages[0]), 0)
        for node, reply in self._exchange.ask(contents, pattern, enough):
            body = opened(reply)
            if isinstance(body, Lost):
                cohort.lose(node, stage, body.reason, body.code)
                continue
            report.received += sum(len(each) for part in body[1] for each in part)
            if not cohort.agrees(body[0].schema):
                reason = f"its metrics are {body[0].schema}, and others have {cohort.schema}"
                cohort.lose(node, stage, f"{reason}; return the same from all clients")
                continue
            for parcel, data in zip(body[0].parcels, body[1], strict=True):
                whose = self._cohort_of(parcel.session, cohort)
                if whose is None:
                    report.troubles.append(f"node {node} spoke of an unknown session; ignored")
                else:
                    whose.take(node, stage, parcel, data)
        for node in self._exchange.twice:
            report.troubles.append(f"node {node} answered twice at stage {stage}; the first counts")
        self._exchange.twice.clear()

    def _cohort_of(self, session: bytes, current: Cohort) -> Cohort | None:
        return next((c for c in (current, *self._next.values()) if c.key == session), None)

    def _ahead(self, task: Task) -> list[Cohort]:
        """The sessions to offer now: the next of each kind that is known."""
        self._lengths.setdefault(EVALUATE, self._layout(EVALUATE, task.nodes, RecordDict()).length)
        for kind, length in self._lengths.items():
            waiting = self._next.get(kind)
            if waiting is None or not self._same(waiting.nodes, task.nodes):
                nodes = task.nodes
                self._next[kind] = Cohort(self._protection, nodes, length, self._source)
        return list(self._next.values())

    def _same(self, offered: tuple[int, ...], asked: tuple[int, ...]) -> bool:
        """With a roster, a session is for all members, whoever is asked."""
        return self._protection.roster is not None or offered == asked

    def _layout(self, kind: str, nodes: tuple[int, ...], content: RecordDict) -> Layout:
        roster = self._protection.roster
        clients = len(nodes) if roster is None else len(roster)
        return Layout(self._protection, kind, clients, content)


def _lost(node: int, cohort: Cohort, report: RoundReport) -> Lost:
    known = cohort.lost.get(node)
    return known or Lost(report.stage, "the round ended without it", UNAVAILABLE)


def _size(content: RecordDict) -> int:
    return sum(len(array.data) for array in content.array_records.get(BYTES, {}).values())
