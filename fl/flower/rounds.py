"""The stages of a round over Flower's messages, and what travels ahead of the next ones.

Until its upload a session is bound to nothing that is trained. So from a round's upload on, its
messages also carry the next sessions' stages, one session for training and one for evaluation:
whoever is asked something in this session is asked what it has to say in those, as far as they
can go without a model. A masking round after the first then has two exchanges, its uploads and
its unmasking. Where the next round has other nodes or another model, or where a node is missing in
what was prepared, it starts anew.

Two sessions of a kind wait, so that the next one is ready after a round's uploads. Then its
unmasking carries nothing else, and asks only as many as are needed: those who answered first. The
others are asked where one of these fails, is slow, or returns what does not match; and who is not
asked takes what it uploaded as summed, unless it is told that the session failed before.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from logging import WARNING

from flwr.app import RecordDict
from flwr.common import log

from fl.flower.cohort import REFUSED, Cohort, opened
from fl.flower.digests import attempted
from fl.flower.exchange import UNAVAILABLE, Clock, Exchange, Pattern
from fl.flower.protection import UPLOAD, Protection
from fl.flower.report import Lost, RoundReport
from fl.flower.state import AHEAD, MOST_SESSIONS
from fl.flower.values import Layout, Means, decode_means
from fl.flower.wire import BYTES, VERSION, Refusal, Reply, Request, Step, pack
from secagg.errors import LocalError, ProtocolAborted
from secagg.rng import RandomSource

EVALUATE = "evaluate"


@dataclass(frozen=True)
class Task:
    """What the strategy asks: the same of all nodes (sorted); attempt: at this model, from 1."""

    kind: str
    group: str
    nodes: tuple[int, ...]
    content: RecordDict = field(repr=False)
    application: bytes
    model: bytes
    deadline: float
    attempt: int = 1

    @property
    def bound_to(self) -> bytes:
        """What its session is bound to."""
        return attempted(self.application, self.attempt)


class Rounds:
    """Runs tasks over an exchange, one at a time; helpers: nodes, sorted."""

    def __init__(
        self,
        protection: Protection,
        helpers: Sequence[int],
        exchange: Exchange,
        clock: Clock,
        source: RandomSource,
    ) -> None:
        self._protection, self._helpers = protection, tuple(helpers)
        self._exchange, self._clock, self._source = exchange, clock, source
        self._next: dict[str, list[Cohort]] = {}
        self._failed: tuple[bytes, ...] = ()
        self._lengths: dict[str, int] = {}

    def run(self, task: Task, report: RoundReport) -> Means | None:
        """One attempt. None where it was aborted; `report` says why, and who was lost.

        Raises LocalError or ParameterError for a model that cannot be summed.
        """
        layout, cohort = self._prepare(task)
        report.aborted, report.survivors = "", ()
        means = None
        try:
            self._stages(task, cohort, report)
            means = self._finish(layout, cohort, report)
        except ProtocolAborted as abort:
            report.aborted = abort.reason
        if not report.spent:
            self._failed = (*self._failed, cohort.key)[-MOST_SESSIONS:]
        report.lost = {n: _lost(n, cohort, report) for n in task.nodes if n not in report.survivors}
        report.lost_helpers = {n: cohort.lost[n] for n in self._helpers if n in cohort.lost}
        return means

    def _prepare(self, task: Task) -> tuple[Layout, Cohort]:
        """The session that was prepared, if it is for these nodes and this model."""
        try:
            layout = self._layout(task.kind, task.nodes, task.content)
            length = layout.length
        except Refusal as error:
            raise LocalError(str(error)) from None
        self._settle()
        prepared = self._next.pop(task.kind, [])
        fitting = [each for each in prepared if each.serves(task.nodes, length)]
        cohort, *self._next[task.kind] = fitting or [self._cohort(task.nodes, length)]
        self._lengths.pop(task.kind, None)
        self._lengths[task.kind] = length
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
        """Those that are left. Raises ProtocolAborted."""
        while not cohort.over:
            cohort.begin(task.bound_to)
            report.stage = stage = cohort.stage
            began = self._clock.now()
            report.spent = report.spent or cohort.final
            contents, spared = self._contents(task, cohort)
            if contents:
                self._ask(task, cohort, contents, spared, report)
                left = began + task.deadline - self._clock.now()
                if spared and left > 0 and not cohort.satisfied:
                    self._ask(replace(task, deadline=left), cohort, spared, {}, report)
                self._settle()
            try:
                cohort.close()
            finally:
                seconds = report.seconds.get(stage, 0.0) + self._clock.now() - began
                report.seconds[stage] = seconds

    def _contents(
        self, task: Task, cohort: Cohort
    ) -> tuple[dict[int, RecordDict], dict[int, RecordDict]]:
        """What each node is sent in this stage; and those apart who are asked only if need be."""
        if not cohort.early:
            self._look_ahead(task)
        asked = cohort.pending.intersection((*task.nodes, *self._helpers))
        if not cohort.may_spare or any(queue[0].early for queue in self._next.values()):
            waiting = [each for each in self._waiting if each.early]
            return {node: self._content(task, cohort, node, waiting) for node in sorted(asked)}, {}
        contents = {n: self._content(task, cohort, n, ()) for n in cohort.quickest(asked)}
        few = list(contents)[: cohort.enough(asked)]
        return {node: contents.pop(node) for node in few}, contents

    def _content(
        self, task: Task, cohort: Cohort, node: int, waiting: Sequence[Cohort]
    ) -> RecordDict:
        """Its part in this session's stage, and in those of waiting ones that need no model."""
        uploads = cohort.stage == UPLOAD
        parts = [cohort, *(each for each in waiting if node in each.pending)]
        offers = tuple(each.offer(node) for each in parts if node not in each.joined)
        asked = [(each, each.ask(node)) for each in parts]
        steps = [(e, data) for e, data in asked if data or (e is cohort and uploads)]
        request = Request(
            VERSION,
            cohort.stage,
            cohort.key,
            (cohort.key, *(each.key for each in self._waiting)),
            self._failed,
            offers,
            tuple(Step(each.key, len(data)) for each, data in steps),
            task.attempt if uploads else 0,
            task.bound_to if uploads else b"",
        )
        content = pack(request, (each for _, data in steps for each in data))
        if uploads:
            content.update(task.content)
        return content

    def _ask(
        self,
        task: Task,
        cohort: Cohort,
        contents: dict[int, RecordDict],
        spared: dict[int, RecordDict],
        report: RoundReport,
    ) -> None:
        """One exchange: every reply goes to the machines as it comes."""
        report.exchanges += 1
        stage, refusing = cohort.stage, []
        pattern = Pattern(task.kind, task.group, stage, task.deadline)
        report.sent += sum(_size(each) for part in (contents, spared) for each in part.values())
        enough = max(cohort.enough(contents), 1)
        for node, reply in self._exchange.ask(contents, pattern, enough, spared):
            body = opened(reply)
            if isinstance(body, Lost):
                cohort.lose(node, stage, body.reason, body.code)
                refusing += [node] * (body.code == REFUSED)
            else:
                self._take(node, cohort, *body, report)
        for node in self._exchange.twice:
            report.troubles.append(f"node {node} answered twice at stage {stage}; the first counts")
        self._exchange.twice.clear()
        report.sent -= sum(map(_size, spared.values()))
        self._prepare_anew(refusing)

    def _take(
        self,
        node: int,
        cohort: Cohort,
        reply: Reply,
        parts: Sequence[Sequence[bytes]],
        report: RoundReport,
    ) -> None:
        """A node's reply, to the machines of the sessions that it is for."""
        report.received += sum(len(each) for part in parts for each in part)
        if not cohort.agrees(reply.schema):
            reason = f"its metrics are {reply.schema}, and others have {cohort.schema}"
            cohort.lose(node, cohort.stage, f"{reason}; return the same from all clients")
            return
        open_now = {each.key: each for each in (cohort, *self._waiting)}
        for parcel, data in zip(reply.parcels, parts, strict=True):
            if parcel.session in open_now:
                open_now[parcel.session].take(node, cohort.stage, parcel, data)
            else:
                report.troubles.append(f"node {node} spoke of an unknown session; ignored")

    def _look_ahead(self, task: Task) -> None:
        """The next sessions of the two kinds asked last."""
        if EVALUATE not in self._lengths:
            length = self._layout(EVALUATE, task.nodes, RecordDict()).length
            self._lengths = {EVALUATE: length, **self._lengths}
        ahead = {}
        for kind, length in list(self._lengths.items())[-2:]:
            queue = [c for c in self._next.get(kind, []) if c.serves(task.nodes, length)]
            new = (self._cohort(task.nodes, length) for _ in range(AHEAD - len(queue)))
            ahead[kind] = [*queue, *new]
        self._next = ahead

    def _prepare_anew(self, refusing: Collection[int]) -> None:
        """Drop what waits and these nodes have joined: they may have lost their state."""
        for kind, queue in self._next.items():
            self._next[kind] = [each for each in queue if each.joined.isdisjoint(refusing)]

    def _settle(self) -> None:
        """Close what is complete of the waiting sessions; one that fails is made anew later."""
        for kind, queue in self._next.items():
            for each in [each for each in queue if each.prepared]:
                try:
                    each.close()
                except ProtocolAborted as abort:
                    queue.remove(each)
                    log(WARNING, "secagg: a later %s round needs new keys: %s", kind, abort)

    @property
    def _waiting(self) -> list[Cohort]:
        """The sessions that were prepared, as far as they are."""
        return [each for queue in self._next.values() for each in queue]

    def _cohort(self, nodes: tuple[int, ...], length: int) -> Cohort:
        return Cohort(self._protection, nodes, self._helpers, length, self._source)

    def _layout(self, kind: str, nodes: tuple[int, ...], content: RecordDict) -> Layout:
        roster = self._protection.roster
        clients = len(nodes) if roster is None else len(roster)
        return Layout(self._protection, kind, clients, content)


def _lost(node: int, cohort: Cohort, report: RoundReport) -> Lost:
    known = cohort.lost.get(node)
    return known or Lost(report.stage, "the round ended without it", UNAVAILABLE)


def _size(content: RecordDict) -> int:
    return sum(len(array.data) for array in content.array_records.get(BYTES, {}).values())
