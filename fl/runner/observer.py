"""The demo's auditor: a process beside the server that sees everything in clear.

A deployment has none. It exists so that the demo can prove its claims: that the secure sum
is exactly the sum of what was encoded, what encoding cost, and how the same federation does
in clear. It hears the clients over its own socket, so nothing in clear passes the server.
"""

import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl.data import find, load_test
from fl.models import build, load_vector, to_vector
from fl.round import model_bytes, model_vector
from fl.runner.frames import (
    AskEvidence,
    BeginRound,
    ClearUpdate,
    EndRound,
    Evidence,
    Hello,
    Observed,
    PlainModel,
    PlainUpdate,
    ServerToObserver,
    Stop,
    ToObserver,
    Verdict,
    receive,
    send,
)
from fl.settings import Settings
from fl.training import configure, evaluate
from fl.updates import decode_sum
from secagg.ring import word

EVIDENCE_ROUND = 1
PATIENCE = 30.0
"""Seconds to wait for what a contributor sent before its upload."""


def connect(address: Path) -> Connection:
    """A client's connection to the observer."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    channel.connect(str(address))
    return Connection(channel.detach())


def main(settings: Settings, address: Path, server: Connection) -> None:
    """Observe until told to stop or the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure(threads=1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(address))
        listener.listen()
        send(server, Stop())  # the address can be connected to
        try:
            _Observer(settings, listener, server).serve()
        except (EOFError, OSError):
            return


@dataclass
class _Seen:
    """What the clients of one round sent."""

    observed: dict[int, Observed] = field(default_factory=dict)
    plain: dict[int, PlainUpdate] = field(default_factory=dict)


class _Observer:
    def __init__(self, settings: Settings, listener: socket.socket, server: Connection) -> None:
        self._settings = settings
        self._listener = listener
        self._server = server
        self._clients: dict[int, Connection] = {}
        self._pids: dict[int, int] = {}
        self._unnamed: list[Connection] = []
        self._seen: dict[int, _Seen] = {}
        self._model = build(find(settings.data).widths, settings.seed)
        self._plain = to_vector(self._model).astype(np.float64)
        self._test = load_test(settings.data, clients=len(settings.roster))
        self._evidence: dict[int, Evidence] = {}

    def serve(self) -> None:
        while True:
            if self._listen(None) and not self._obey():
                return

    def _listen(self, timeout: float | None) -> bool:
        """Hear all clients that have something to say; whether the server has, too."""
        sources = [self._server, self._listener, *self._unnamed, *self._clients.values()]
        ready = wait(sources, timeout)  # type: ignore[arg-type]
        for source in ready:
            if source is self._listener:
                channel, _ = self._listener.accept()
                self._unnamed.append(Connection(channel.detach()))
            elif source is not self._server:
                self._hear(source)  # type: ignore[arg-type]
        return self._server in ready

    def _hear(self, client: Connection) -> None:
        try:
            frame = receive(client, ToObserver)
        except (EOFError, OSError):
            self._forget(client)
            return
        if isinstance(frame, Hello):
            self._unnamed.remove(client)
            self._hear_out(frame.client)
            self._clients[frame.client] = client
            self._pids[frame.client] = frame.pid
            return
        who = next(number for number, each in self._clients.items() if each is client)
        match frame:
            case Observed():
                self._round(frame.round).observed[who] = frame
            case PlainUpdate():
                self._round(frame.round).plain[who] = frame
            case Evidence():
                self._evidence[who] = frame

    def _hear_out(self, who: int) -> None:
        """What the process before this one had sent: it has ended, so this does, too."""
        while (before := self._clients.get(who)) is not None:
            self._hear(before)

    def _forget(self, client: Connection) -> None:
        self._unnamed = [each for each in self._unnamed if each is not client]
        self._clients = {n: each for n, each in self._clients.items() if each is not client}

    def _obey(self) -> bool:
        match receive(self._server, ServerToObserver):
            case BeginRound(clients=clients, round=number):
                self._begin(number, clients)
            case EndRound() as end:
                send(self._server, self._verdict(end))
            case AskEvidence(client=who):
                send(self._server, self._clear_update(who))
            case Stop():
                return False
        return True

    def _begin(self, number: int, clients: dict[int, int]) -> None:
        """Hand out the model in clear, before the server starts the round."""
        self._wait_until(lambda: clients.items() <= self._pids.items())
        model = model_bytes(self._plain)
        for who in clients.keys() & self._clients.keys():
            with suppress(OSError):  # it was killed since, and will be missing
                send(self._clients[who], PlainModel(number, model))
        send(self._server, BeginRound(number, clients))

    def _verdict(self, end: EndRound) -> Verdict:
        """Compare the secure sum with the sum of what its contributors encoded."""
        seen = self._round(end.round)
        there = set(end.contributors)
        self._wait_until(lambda: seen.observed.keys() >= there and seen.plain.keys() >= there)
        error, quantisation, clipped = 0, 0.0, 0
        if end.contributors:
            chosen = {who: seen.observed[who] for who in end.contributors}
            error, quantisation = self._compare(chosen, end.total)
            clipped = sum(each.clipped for each in chosen.values())
            self._advance(seen, end.contributors)
        self._seen = {n: s for n, s in self._seen.items() if n == EVIDENCE_ROUND}
        load_vector(self._model, self._plain)
        score = evaluate(self._model, *self._test)
        return Verdict(end.round, error, quantisation, clipped, score.accuracy, score.auc)

    def _compare(self, chosen: Mapping[int, Observed], total: bytes) -> tuple[int, float]:
        encoding = self._settings.encoding
        kind = word(encoding.modulus_bits)
        secure = np.frombuffer(total, kind).astype(np.uint64)
        exact = sum(np.frombuffer(each.encoded, kind).astype(np.uint64) for each in chosen.values())
        exact = np.asarray(exact, np.uint64)
        error = np.where(secure > exact, secure - exact, exact - secure).max()
        weights = [each.weight for each in chosen.values()]
        updates = [
            np.clip(model_vector(each.update), -encoding.clip, encoding.clip)
            for each in chosen.values()
        ]
        mean = np.average(np.stack(updates).astype(np.float64), axis=0, weights=weights)
        quantisation = np.abs(decode_sum(secure, encoding).update - mean).max()
        return int(error), float(quantisation)

    def _advance(self, seen: _Seen, contributors: tuple[int, ...]) -> None:
        """The round in clear: the same clients, floats, no encoding."""
        updates = [model_vector(seen.plain[who].update) for who in contributors]
        weights = [seen.observed[who].weight for who in contributors]
        mean: NDArray[np.float64] = np.average(
            np.stack(updates).astype(np.float64), axis=0, weights=weights
        )
        self._plain = self._settings.strategy.next_model(self._plain, mean)

    def _clear_update(self, who: int) -> ClearUpdate:
        update = self._seen[EVIDENCE_ROUND].observed[who].update
        return ClearUpdate(who, update, self._evidence[who].records)

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        """Hear the clients until `condition` holds. Raises TimeoutError, an OSError."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            left = deadline - time.monotonic()
            if left < 0 or self._listen(left):
                raise TimeoutError("the clients did not tell the observer what they sent")

    def _round(self, number: int) -> _Seen:
        return self._seen.setdefault(number, _Seen())
