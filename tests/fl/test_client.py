"""A client's process against a server that says what it likes: real pipes, a real journal."""

import sqlite3
import threading
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl.models import build, to_vector
from fl.round import model_bytes, round_digest
from fl.runner.client import ClientConfig, _Client
from fl.runner.frames import Deliver, FromClient, Ready, Refused, Resumed, Sent, Start, Stop, send
from fl.runner.frames import receive as read
from fl.settings import Settings
from protocols.base import SERVER, Begin, Received, Result, RoundClosed
from protocols.journal import MemoryJournal, Party
from secagg.errors import LocalError
from secagg.rng import SystemSource

SETTINGS = Settings(data="opt", rounds=3, suite="X25519")
NET = build(SETTINGS.dataset.widths, SETTINGS.seed)
MODEL = to_vector(NET)
OTHER = MODEL + np.float32(0.01)
EVERYONE = (1, 2, 3, 4)


class World:
    """Four real clients, each in a thread, and a server's machine that a test drives."""

    def __init__(self, folder: Path) -> None:
        self.pipes: dict[int, Connection] = {}
        for me in EVERYONE:
            ours, theirs = Pipe()
            config = ClientConfig(me, SETTINGS, folder / f"{me}.sqlite")
            threading.Thread(target=_serve, args=(config, theirs), daemon=True).start()
            self.pipes[me] = ours
            assert self.hear(me) == Ready()

    def hear(self, who: int) -> Any:
        assert self.pipes[who].poll(60), f"client {who} says nothing"
        return read(self.pipes[who], FromClient)

    def tell(self, clients: tuple[int, ...], frame: Any) -> None:
        for who in clients:
            send(self.pipes[who], frame)

    def round(self, number: int, clients: tuple[int, ...], lie: bool) -> Result | set[int]:
        """The sum, or who refused. A lie: once all have uploaded, the model was another."""
        source = SystemSource()
        session = SETTINGS.session(source.seed(), MODEL.size, None)
        server = Party(SETTINGS.machines.server(session, source), MemoryJournal())
        config, raw = SETTINGS.round_config(number), model_bytes(MODEL)
        self.tell(clients, Start(session.session_id, config, raw))
        for stage in SETTINGS.stages:
            if refused := self._gather(server, clients):
                return refused
            requests = server.handle(RoundClosed())
            if Begin in server.machine.accepts:
                server.handle(Begin(round_digest(NET, raw, config)))
            if lie and stage == "upload":
                self.tell(clients, Start(session.session_id, config, model_bytes(OTHER)))
                return {who for who in clients if self._answers_the_start(who) is not None}
            for each in requests:
                self.tell((each.to,), Deliver(each.data))
        return server.machine.result

    def _gather(self, server: Party, clients: tuple[int, ...]) -> set[int]:
        refused: set[int] = set()
        while waiting := (server.machine.waits_for & set(clients)) - refused:
            who = min(waiting)
            match self.hear(who):
                case Sent(data=data):
                    server.handle(Received(who, data))
                case Refused():
                    refused.add(who)
        return refused

    def _answers_the_start(self, who: int) -> Refused | None:
        while True:
            match self.hear(who):
                case Refused() as refused:
                    return refused
                case Resumed():
                    return None


def _serve(config: ClientConfig, pipe: Connection) -> None:
    try:
        _Client(config, pipe).serve()
    except (EOFError, OSError):
        return


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.tell(EVERYONE, Stop())


def test_an_honest_round_and_no_second_sum_over_the_same_model(world: World) -> None:
    first = world.round(1, EVERYONE, lie=False)
    assert isinstance(first, Result)
    assert first.contributors == EVERYONE
    assert world.round(2, EVERYONE[:-1], lie=False) == {1, 2, 3}


def test_another_model_for_a_session_in_which_one_was_uploaded_is_refused(world: World) -> None:
    """Else its answer would spend that model, and not the one whose update is in the sum."""
    assert world.round(1, EVERYONE, lie=True) == set(EVERYONE)


def test_after_a_failed_commit_the_client_sits_out(tmp_path: Path) -> None:
    """The machine has gone on, the disk has not: nothing that follows may be said."""
    pipe, theirs = Pipe()
    client = _Client(ClientConfig(1, SETTINGS, tmp_path / "1.sqlite"), theirs)
    run = client._journal._run

    def failing(statement: str, values: tuple[Any, ...] = ()) -> Any:
        if statement == "COMMIT":
            raise sqlite3.OperationalError("disk full")
        return run(statement, values)

    client._journal._run = failing  # type: ignore[method-assign]
    start = Start(bytes(32), SETTINGS.round_config(1), model_bytes(MODEL))
    client._guarded(client._begin, start)
    assert read(pipe, FromClient) == Refused(LocalError.code, "", SERVER)
    client._guarded(client._deliver, Deliver(b"a cohort"))
    assert not pipe.poll(0.1)
    assert client._journal.latest(bytes(32), 1) is None
