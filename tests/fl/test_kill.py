"""SIGKILL at every persist point of a real process, and what the party says after it.

One party runs in a process of its own, over its journal on disk, and is killed at one point
of one transaction, or after it and before it answers. Then a new machine takes up the store.

Whatever either of them says is kept: no stage may ever be said in two ways, and the sum must
be right.
"""

import multiprocessing as mp
import os
import signal
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl.journal import SqliteJournal
from protocols.base import SERVER, Contribute, Envelope, Join, Received, RoundClosed
from protocols.journal import Journal, MemoryJournal, Party
from secagg.errors import PeerError
from secagg.rng import SystemSource
from secagg.seal import SystemSealer
from secagg.warm import warm_up
from tests.protocols.support import ROSTER, VARIANTS, Variant, begin

N = 4
VICTIM = 1
LENGTH = N
POINTS = ("BEGIN", "INSERT INTO claim", "COMMIT", "PRAGMA wal_checkpoint")
"""Before a transaction, in the middle of it, before it is durable, and before it is folded."""
PATIENCE = 60.0


class Killing(SqliteJournal):
    """Ends its process before the `at`-th thing that a restart could notice."""

    def __init__(self, path: Path, party: int, at: int) -> None:
        self.left = at
        super().__init__(path, party, ROSTER)

    def point(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        if statement.startswith(POINTS):
            self.point()
        return super()._run(statement, values)


@dataclass(frozen=True)
class Setting:
    """A session by the name of its variant: what both processes know."""

    variant: str
    session_id: bytes

    @property
    def chosen(self) -> Variant:
        return next(each for each in VARIANTS if each.name == self.variant)

    @property
    def session(self) -> Any:
        variant = self.chosen
        parameters = variant.configure(N, LENGTH, 16)
        return variant.session(parameters, int.from_bytes(self.session_id, "big"))


class Client:
    """One life of a client: it takes up what is stored, and answers what it is asked."""

    def __init__(self, setting: Setting, me: int, journal: Journal) -> None:
        self.me = me
        source = SystemSource()
        machine = setting.chosen.client(setting.session, me, source, SystemSealer())
        self.party = Party(machine, journal)

    def start(self) -> list[Envelope]:
        sent = list(self.party.resume())
        if Join in self.party.machine.accepts:
            sent += self.party.handle(Join())
        return sent + self._contributed()

    def answer(self, request: bytes) -> list[Envelope]:
        try:
            return [*self.party.handle(Received(SERVER, request)), *self._contributed()]
        except PeerError:  # it has answered this, and is past it
            return list(self.party._journal.latest(*self._key).outbox)

    def stage(self) -> str:
        return self.party.machine.state.stage

    def _contributed(self) -> list[Envelope]:
        begin(self.party)
        if Contribute not in self.party.machine.accepts:
            return []
        return list(
            self.party.handle(Contribute((np.arange(1, N + 1) == self.me).astype(np.uint32)))
        )

    @property
    def _key(self) -> tuple[bytes, int]:
        return self.party.machine.session.session_id, self.me


class Server:
    """One life of the server."""

    def __init__(self, setting: Setting, _me: int, journal: Journal) -> None:
        self.machine = setting.chosen.protocol.server(setting.session, SystemSource())
        self.party = Party(self.machine, journal)

    def start(self) -> list[Envelope]:
        sent = list(self.party.resume())
        begin(self.party)
        return sent

    def hear(self, sender: int, data: bytes) -> None:
        try:
            self.party.handle(Received(sender, data))
        except PeerError:
            return  # said before its restart, or by a client that repeats itself

    def close(self) -> list[Envelope]:
        sent = list(self.party.handle(RoundClosed()))
        begin(self.party)
        return sent

    def waits_for(self) -> frozenset[int]:
        return self.machine.waits_for

    def result(self) -> tuple[list[int], tuple[int, ...]] | None:
        if not self.machine.finished:
            return None
        result = self.machine.result
        return result.total.tolist(), result.contributors


LIVES = {"client": (Client, VICTIM), "server": (Server, SERVER)}


Order = tuple[str, Setting, Path, int]


def nursery(pipe: Connection) -> None:
    """Forks one life after the other, which speak over the same pipe; then says how it ended.

    A process of its own, with everything loaded and without threads: a life costs no start.
    """
    for _ in warm_up():
        pass
    for order in iter(pipe.recv, None):
        child = os.fork()
        if child == 0:
            live(*order, pipe)
            os._exit(0)
        pipe.send((ENDED, os.waitpid(child, 0)[1]))


ENDED = "ended"


def live(role: str, setting: Setting, path: Path, at: int, pipe: Connection) -> None:
    """A life, which obeys until it is killed or dismissed."""
    kind, me = LIVES[role]
    journal = Killing(path, me, at)
    party = kind(setting, me, journal)
    pipe.send(("born", 0))
    for name, arguments in iter(pipe.recv, None):
        said = getattr(party, name)(*arguments)
        if said:
            journal.point()  # stored, and not said
        pipe.send((said, at - journal.left))


class Remote:
    """A party in its process until that is killed; from then on, its second life, here.

    `resent` is what that begins with.
    """

    def __init__(self, pipe: Connection, order: Order) -> None:
        self._pipe = pipe
        self._order = order
        self._second: Any = None
        self.resent: list[Envelope] = []
        self.points = 0
        pipe.send(order)
        self._listen()

    @property
    def killed(self) -> bool:
        return self._second is not None

    def call(self, name: str, *arguments: object) -> Any:
        """What the party says; None where it was killed instead, and lives again."""
        if self._second:
            return getattr(self._second, name)(*arguments)
        self._pipe.send((name, arguments))
        return self._listen()

    def _listen(self) -> Any:
        said, self.points = self._receive()
        if said != ENDED:
            return said
        assert self.points == signal.SIGKILL
        role, setting, path, _ = self._order
        kind, me = LIVES[role]
        self._second = kind(setting, me, SqliteJournal(path, me, ROSTER))
        self.resent = self._second.start()
        return None

    def end(self) -> None:
        if not self._second:
            self._pipe.send(None)
            assert self._receive() == (ENDED, 0)

    def _receive(self) -> Any:
        assert self._pipe.poll(PATIENCE), "it hangs"
        return self._pipe.recv()


@pytest.fixture(scope="module")
def lives() -> Iterator[Connection]:
    context = mp.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=nursery, args=(theirs,))
    process.start()
    theirs.close()
    yield pipe
    pipe.send(None)
    process.join(PATIENCE)


class Heard:
    """Every message of one party, by stage and recipient."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, int], set[bytes]] = defaultdict(set)

    def __call__(self, envelopes: Iterable[Envelope]) -> list[Envelope]:
        envelopes = list(envelopes)
        for each in envelopes:
            self._said[each.stage, each.to].add(each.data)
        return envelopes

    def check(self) -> None:
        assert self._said
        assert {len(ways) for ways in self._said.values()} == {1}, "something was said in two ways"


def with_a_killed_client(setting: Setting, victim: Remote) -> Any:
    """A whole session; returns the sum and over whom."""
    heard = Heard()
    server = Server(setting, SERVER, MemoryJournal())
    clients = {me: Client(setting, me, MemoryJournal()) for me in range(2, N + 1)}
    server.start()
    requests: dict[int, bytes] = {}
    for stage in setting.session.parameters.stages:
        for me, client in clients.items():
            for envelope in client.answer(requests[me]) if requests else client.start():
                server.hear(me, envelope.data)
        replies = victim.call("answer", requests[VICTIM]) if requests else opening(victim)
        if replies is None:  # as the runner does it: resend, and ask again what is open
            replies = victim.resent
            if requests and victim.call("stage") == stage:
                replies += victim.call("answer", requests[VICTIM])
        for envelope in heard(replies):
            server.hear(VICTIM, envelope.data)
        requests = {e.to: e.data for e in server.close()}
    heard.check()
    return server.result()


def with_a_killed_server(setting: Setting, server: Remote) -> Any:
    """The same, where it is the server that dies: the clients repeat what it has forgotten."""
    heard = Heard()
    clients = {me: Client(setting, me, MemoryJournal()) for me in range(1, N + 1)}
    requests = opening(server)
    while (result := server.call("result") or server.call("result")) is None:
        lived = not server.killed
        asked = {e.to: e.data for e in heard(requests)}
        for me, client in clients.items():
            for envelope in client.answer(asked[me]) if asked else client.start():
                server.call("hear", me, envelope.data)
        if lived and server.killed:
            requests = server.resent
            continue
        requests = server.call("close")
        if requests is None:
            requests = server.resent
    heard.check()
    return result


def opening(party: Remote) -> list[Envelope]:
    """What it says of itself, in its first life or in its second."""
    if not party.killed:
        party.resent = party.call("start") or party.resent
    return party.resent


SCENES = {"client": with_a_killed_client, "server": with_a_killed_server}


@pytest.mark.parametrize(
    ("role", "variant"),
    [
        ("client", "masking, X25519"),
        ("client", "masking, active"),
        ("server", "masking, active"),
    ],
)
def test_killed_at_every_persist_point_it_never_says_anything_in_two_ways(
    role: str, variant: str, tmp_path: Path, lives: Connection
) -> None:
    number = iter(range(1, 10_000))

    def session(at: int) -> Remote:
        setting = Setting(variant, next(number).to_bytes(32, "big"))
        party = Remote(lives, (role, setting, tmp_path / f"{at}.sqlite", at))
        assert SCENES[role](setting, party) == ([1] * N, tuple(range(1, N + 1)))
        party.end()
        return party

    whole = session(10_000)
    assert not whole.killed
    assert whole.points > 15
    for at in range(1, whole.points + 1):
        assert session(at).killed, f"point {at} of {whole.points}"
