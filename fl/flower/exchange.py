"""One message to each node and its reply, with a deadline: what the stages are made of.

`Grid.send_and_receive` looks every three seconds and waits for the slowest. Here the grid is
asked at short intervals, and once enough nodes have answered the rest get a grace period. Where
some of the nodes suffice, the others are spared until one of the first fails or lets the server
wait. A node that owes a reply gets no other message before that reply, or its message's end of
life: two messages at once would overwrite each other's state on the node.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

from secagg.errors import ParameterError

UNAVAILABLE = 5
"""Flower's code for a node that cannot be reached."""


@dataclass(frozen=True)
class Patience:
    """How long the server waits, in seconds.

    deadline: for a stage, at most; grace: for the others once enough have answered, and at
    least `slack` times as long as that took; and for the first, at most half of the deadline,
    before those who were spared are asked as well; poll: longest pause between two looks.
    """

    deadline: float = 600.0
    grace: float = 10.0
    slack: float = 1.0
    poll: float = 0.25

    def __post_init__(self) -> None:
        if min(self.deadline, self.poll) <= 0 or min(self.grace, self.slack) < 0:
            raise ParameterError("deadline and poll must be positive, grace and slack not negative")


@dataclass(frozen=True)
class Clock:
    """Time, so that tests can have their own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Pattern:
    """What all messages of an exchange have in common."""

    kind: str
    group: str
    stage: str
    deadline: float


@dataclass(frozen=True)
class _Open:
    node: int
    stage: str
    expires: float


class Exchange:
    """The messages on their way over one grid."""

    def __init__(self, grid: Grid, patience: Patience, clock: Clock) -> None:
        self._grid, self._patience, self._clock = grid, patience, clock
        self._open: dict[str, _Open] = {}
        self._answered: dict[str, int] = {}
        self.twice: list[int] = []

    def ask(
        self,
        contents: Mapping[int, RecordDict],
        pattern: Pattern,
        enough: int,
        spared: dict[int, RecordDict] | None = None,
    ) -> Iterator[tuple[int, Message | Error]]:
        """Each node's reply as it comes, or the error that stands for it.

        spared: who is asked, in this order, only where one of the others fails, and all of them
        where enough have not answered within `grace`. Who is asked is taken out of it.
        """
        for _ in self._pull():
            pass  # late answers of earlier stages: their nodes are free again
        self._answered.clear()
        spared, expected = spared if spared is not None else {}, dict[str, int]()
        began, pause, good = self._clock.now(), min(0.02, self._patience.poll), 0
        end, due = began + pattern.deadline, dict(contents)
        while True:
            failed = 0
            sent = self._send(due, pattern, end, expected)
            for node, reply in (*sent, *self._answers(expected)):
                lost = isinstance(reply, Error) or reply.has_error()
                good, failed = good + (not lost), failed + lost
                yield node, reply
            now = self._clock.now()
            slow = good < enough and now >= began + min(self._patience.grace, pattern.deadline / 2)
            due = _taken(spared, len(spared) if slow else failed) if now < end else {}
            if due:
                continue
            if good >= enough:
                grace = max(self._patience.grace, self._patience.slack * (now - began))
                end, enough = min(end, now + grace), len(expected) + 1
            missing = expected.keys() & self._open.keys()
            if not missing or now >= end:
                break
            self._clock.sleep(min(pause, end - now))
            pause = min(pause * 1.5, self._patience.poll)
        for key in missing:
            reason = f"no answer within {self._clock.now() - began:.0f} s"
            yield expected[key], Error(UNAVAILABLE, reason)

    def _send(
        self,
        contents: Mapping[int, RecordDict],
        pattern: Pattern,
        end: float,
        expected: dict[str, int],
    ) -> list[tuple[int, Error]]:
        """Send to each node, noted in `expected`; those who cannot be asked, and why."""
        busy = {each.node: each for each in self._open.values()}
        failed = []
        for node, content in contents.items():
            if node in busy:
                failed.append((node, _busy(busy[node])))
            elif key := self._push(node, content, pattern, end):
                expected[key] = node
            else:
                reason = "the grid did not take the message; is the node connected?"
                failed.append((node, Error(UNAVAILABLE, reason)))
        return failed

    def _answers(self, expected: Mapping[str, int]) -> list[tuple[int, Message]]:
        return [(expected[key], reply) for key, reply in self._pull() if key in expected]

    def _push(self, node: int, content: RecordDict, pattern: Pattern, end: float) -> str:
        """Send, and return the message's id, or nothing. It lives a little longer than anybody
        waits for it.
        """
        life = end - self._clock.now() + 1.0
        message = Message(
            content,
            dst_node_id=node,
            message_type=pattern.kind,
            ttl=life,
            group_id=pattern.group,
        )
        keys = list(self._grid.push_messages([message]))
        if len(keys) != 1 or not keys[0]:
            return ""
        self._open[keys[0]] = _Open(node, pattern.stage, self._clock.now() + life)
        return str(keys[0])

    def _pull(self) -> Iterable[tuple[str, Message]]:
        """What has come since the last look, by the message that it answers."""
        found = []
        keys = list(self._open)
        for reply in self._grid.pull_messages(keys) if keys else ():
            key = reply.metadata.reply_to_message_id
            if key in self._open:
                self._answered[key] = self._open.pop(key).node
                found.append((key, reply))
            elif key in self._answered:
                self.twice.append(self._answered[key])
        now = self._clock.now()
        self._open = {k: v for k, v in self._open.items() if v.expires > now}
        return found


def _taken(spared: dict[int, RecordDict], count: int) -> dict[int, RecordDict]:
    """The first so many, which are spared no longer."""
    return {node: spared.pop(node) for node in list(spared)[:count]}


def _busy(earlier: _Open) -> Error:
    return Error(
        UNAVAILABLE, f"it still has a message of stage {earlier.stage}, and gets no other before"
    )
