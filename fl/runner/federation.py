"""The rounds of a federation, from the server's side, as a stream of events.

The server's machine lives here, with the global model and the public test set. No update in
clear is here while the federation runs; the demo's observer hands out one when it is over. A
stage is closed when everybody who can still answer has, or at its deadline.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl.data import load_test
from fl.identity_files import load_roster
from fl.journal import SqliteJournal
from fl.models import build, load_vector, to_vector
from fl.round import RoundConfig, model_bytes, round_digest
from fl.runner.events import (
    AloneEnded,
    Answered,
    Event,
    Lost,
    Rejoined,
    Revived,
    RoundEnded,
    RoundStarted,
    Seen,
    StageStarted,
    TrainingBegan,
    Trouble,
)
from fl.runner.frames import (
    AloneScore,
    AskEvidence,
    BeginRound,
    ClearUpdate,
    Deliver,
    EndRound,
    Refused,
    Resent,
    Resumed,
    Sent,
    Start,
    Summon,
    TrainAlone,
    Training,
    Verdict,
)
from fl.runner.observer import EVIDENCE_ROUND
from fl.runner.pool import Gone, Pool, RunnerError
from fl.schedule import Kill
from fl.settings import STAGE_DEADLINE, Settings
from fl.training import configure, evaluate
from fl.updates import decode_sum
from protocols.base import SERVER, Begin, Envelope, Machine, Received, Result, RoundClosed
from protocols.journal import Party
from secagg.errors import LocalError, PeerError, ProtocolAborted
from secagg.ring import word
from secagg.rng import SystemSource

Vector = NDArray[np.float64]
PIECE_PATIENCE = 2.0
"""Seconds without a piece after which a client in the middle of an upload is not waited for."""


@dataclass
class _Tally:
    """What a round cost so far."""

    bytes: dict[int, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Federation:
    """Runs the rounds of `settings` over the processes of `pool`."""

    def __init__(self, settings: Settings, pool: Pool, *, observed: bool = False) -> None:
        configure(threads=1)
        self.settings = settings
        self.model = build(settings.dataset.widths, settings.seed)
        self._vector: Vector = to_vector(self.model).astype(np.float64)
        self._test = load_test(settings.data, clients=len(settings.roster))
        self._pool = pool
        self._observed = observed
        self._members = load_roster(pool.roster) if settings.signed else None
        roster = self._members.digest() if self._members else settings.roster_digest
        self._journal = SqliteJournal(pool.file("server.sqlite"), SERVER, roster)
        self._away: dict[int, int] = {}
        self._spent = False
        self._received: tuple[int, bytes] | None = None

    def rounds(self) -> Iterator[Event]:
        """All rounds; fewer where one fails after its updates are spent.

        Then nothing may follow: another sum of the same updates over other clients would
        reveal a client by the difference, and without a sum there is no other model.
        """
        for number in range(1, self.settings.total_rounds + 1):
            yield from self._round(number)
            if self._spent:
                return

    def alone(self) -> Iterator[Event]:
        """The baseline: every client by itself, for as many epochs."""
        everyone = range(1, len(self.settings.roster) + 1)
        for who in self._pool.ensure(everyone):
            yield Rejoined(who, self._pool.pid(who))
        for who in everyone:
            self._pool.tell(
                who, TrainAlone(self.settings.total_rounds, self.settings.round_config(1))
            )
        waiting = set(everyone)
        while waiting:
            match self._pool.hear(STAGE_DEADLINE):
                case (who, AloneScore() as score):
                    waiting.discard(who)
                    yield AloneEnded(who, score.accuracy, score.auc)
                case (who, Gone()):
                    raise RunnerError(f"client {who} ended while it trained alone")
                case None:
                    raise RunnerError(f"clients {sorted(waiting)} do not finish training alone")

    def evidence(self) -> Seen | None:
        """One client's first update, in clear and as received; None without an observer."""
        if self._received is None or not self._observed:
            return None
        who, packed = self._received
        return Seen(self._pool.ask_observer(AskEvidence(who), ClearUpdate), packed)

    def _round(self, number: int) -> Iterator[Event]:
        kills = [k for k in self.settings.kills if k.round == number]
        yield from self._gather(number)
        yield from self._kill(kills, self.settings.stages[0])
        clients = tuple(sorted(self._pool.alive - self.settings.helpers.keys()))
        if self._observed:
            pids = {who: self._pool.pid(who) for who in clients}
            self._pool.ask_observer(BeginRound(number, pids), BeginRound)
        yield RoundStarted(number, clients)
        config = self.settings.round_config(number)
        model = model_bytes(self._vector)
        server = self._server(config, model)
        for who in clients:
            self._pool.tell(who, server.start)
        for who in self.settings.helpers:
            self._pool.tell(who, Summon(server.start.session_id))
        yield from self._stages(number, server, kills)
        yield self._ended

    def _stages(self, number: int, server: "_Server", kills: list[Kill]) -> Iterator[Event]:
        """Every stage: kill whom the script names, deliver, wait, close."""
        tally, reason = _Tally(), ""
        for index, stage in enumerate(self.settings.stages):
            if index:
                yield from self._kill(kills, stage)
            began = time.perf_counter()
            yield StageStarted(stage)
            for envelope in server.requests:
                self._pool.tell(envelope.to, Deliver(envelope.data))
            for kill in kills:
                if (kill.stage, kill.away) == (stage, 0) and kill.client in self._pool.alive:
                    self._pool.kill(kill.client)
                    yield from self._lost(server, kill.client, stage, killed=True)
            yield from self._collect(number, server, stage, tally)
            try:
                server.close()
            except ProtocolAborted as abort:
                reason = str(abort)
                break
            finally:
                tally.seconds[stage] = time.perf_counter() - began
        self._ended = self._finish(number, server, tally, reason)

    def _collect(
        self, number: int, server: "_Server", stage: str, tally: _Tally
    ) -> Iterator[Event]:
        """Hear the clients until nobody is left who can answer, or the deadline."""
        deadline = time.monotonic() + STAGE_DEADLINE
        sitting_out = set(server.left)
        while (server.machine.waits_for & self._pool.alive) - sitting_out:
            left = deadline - time.monotonic()
            if left < 0:
                yield from self._give_up(server, sitting_out, stage)
                return
            match self._hear(server.machine.unfinished, left):
                case (who, Sent() | Resent() as sent):
                    yield from self._take(number, server, who, sent, tally)
                case (who, Resumed()) if server.revived.get(who) == stage:
                    self._ask_again(server, who)
                case (who, Training()):
                    yield TrainingBegan(who)
                case (who, Refused() as refused):
                    sitting_out.add(who)
                    if refused.code != PeerError.code:
                        server.left.add(who)
                    yield Trouble(who, refused.stage, f"it refused: {refused.code}")
                case (who, Gone()):
                    yield from self._lost(server, who, stage, killed=False)

    def _lost(self, server: "_Server", who: int, stage: str, *, killed: bool) -> Iterator[Event]:
        """A client whose process is gone gets another, once a round, and takes up its session:
        whether in time is for the deadline to say.
        """
        yield Lost(who, stage, killed)
        if not self.settings.rejoin or who in (*server.revived, *self.settings.helpers):
            return
        server.revived[who] = stage
        if not self._pool.ensure([who]):
            return  # killed once more
        pid = self._pool.pid(who)
        if self._observed:
            self._pool.ask_observer(BeginRound(server.start.config.round, {who: pid}), BeginRound)
        self._pool.tell(who, server.start)
        yield Revived(who, stage, pid)

    def _ask_again(self, server: "_Server", who: int) -> None:
        """What a restarted client was asked in this stage, unless it has answered."""
        for envelope in server.requests:
            if envelope.to == who and who in server.machine.waits_for:
                self._pool.tell(who, Deliver(envelope.data))

    def _hear(self, first: frozenset[int], left: float) -> tuple[int, Any] | None:
        """Who is in the middle of an upload is heard first, so that few are at a time."""
        heard = self._pool.hear(min(left, PIECE_PATIENCE), first) if first else None
        return heard or self._pool.hear(left)

    def _give_up(self, server: "_Server", sitting_out: set[int], stage: str) -> Iterator[Event]:
        """Whoever lives and did not answer by the deadline hangs: its process is ended."""
        for who in (server.machine.waits_for & self._pool.alive) - sitting_out:
            self._pool.kill(who)
            yield Lost(who, stage, killed=False)

    def _take(
        self, number: int, server: "_Server", who: int, frame: Sent | Resent, tally: _Tally
    ) -> Iterator[Event]:
        """Hand a client's message to the machine, under the number its pipe stands for."""
        try:
            server.party.handle(Received(who, frame.data))
        except PeerError as error:
            if isinstance(frame, Sent):  # what is resent may have come the first time
                yield Trouble(who, error.stage, error.reason)
            return
        except LocalError as error:  # too many uploads hang: this one is not taken
            yield Trouble(who, server.machine.state.stage, str(error))
            return
        tally.bytes[who] = tally.bytes.get(who, 0) + len(frame.data)
        if number == EVIDENCE_ROUND and frame.stage == "upload":
            self._received = min(self._received or (who, frame.data), (who, frame.data))
        yield Answered(who, frame.stage, len(frame.data))

    def _finish(self, number: int, server: "_Server", tally: _Tally, reason: str) -> RoundEnded:
        result = None if reason else server.machine.result
        if result is not None:
            try:
                mean = decode_sum(result.total, self.settings.encoding).update
                self._vector = self.settings.strategy.next_model(self._vector, mean)
            except LocalError as error:  # a client encoded what no client may
                result, reason = None, f"the sum is not one of encoded updates: {error}"
        self._spent = result is None and self._may_be_known(tally)
        load_vector(self.model, self._vector)
        metrics = evaluate(self.model, *self._test)
        verdict = self._verdict(number, result)
        return RoundEnded(number, result, reason, metrics, verdict, tally.bytes, tally.seconds)

    def _may_be_known(self, tally: _Tally) -> bool:
        """Whether a sum of this round's updates may be out: clients were asked for their last
        word. (Where nothing is hidden, nothing can be known by it.)
        """
        last = self.settings.parameters(1).client_stages[-1]
        return self.settings.hides and last in tally.seconds

    def _verdict(self, number: int, result: Result | None) -> Verdict | None:
        if not self._observed:
            return None
        who = result.contributors if result else ()
        kind = word(self.settings.encoding.modulus_bits)
        total = result.total.astype(kind).tobytes() if result else b""
        verdict: Verdict = self._pool.ask_observer(EndRound(number, who, total), Verdict)
        return verdict

    def _gather(self, number: int) -> Iterator[Event]:
        """Everybody who is not still away gets a process, helpers too."""
        everyone = (*range(1, len(self.settings.roster) + 1), *self.settings.helpers)
        here = [who for who in everyone if self._away.get(who, 0) <= number]
        for who in self._pool.ensure(here):
            yield Rejoined(who, self._pool.pid(who))

    def _kill(self, kills: list[Kill], stage: str) -> Iterator[Event]:
        for kill in kills:
            if kill.stage == stage and kill.away and kill.client in self._pool.alive:
                self._pool.kill(kill.client)
                self._away[kill.client] = kill.round + kill.away
                yield Lost(kill.client, stage, killed=True)

    def _server(self, config: RoundConfig, model: bytes) -> "_Server":
        source = SystemSource()
        session = self.settings.session(source.seed(), self._vector.size, self._members)
        machine = self.settings.machines.server(session, source)
        application = round_digest(self.model, model, config)
        start = Start(session.session_id, config, model)
        return _Server(start, Party(machine, self._journal), application)


@dataclass
class _Server:
    """A round's machine, how the round began, and what a client that comes back needs to know.

    requests: what this stage's clients were asked; revived: who came back already, and when;
    left: who takes no further part.
    """

    start: Start
    party: Party
    application: bytes
    requests: tuple[Envelope, ...] = ()
    revived: dict[int, str] = field(default_factory=dict)
    left: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._begin()

    def close(self) -> None:
        """End the stage. Raises ProtocolAborted."""
        self.requests = self.party.handle(RoundClosed())
        self._begin()

    def _begin(self) -> None:
        if Begin in self.machine.accepts:
            self.party.handle(Begin(self.application))

    @property
    def machine(self) -> Machine:
        return self.party.machine
