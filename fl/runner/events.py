"""What a federation reports as it runs, for the live view and the result."""

from collections.abc import Mapping
from dataclasses import dataclass

from fl.runner.frames import ClearUpdate, Verdict
from fl.training import Metrics
from protocols.base import Result


@dataclass(frozen=True)
class Event:
    """Base of all that follow."""


@dataclass(frozen=True)
class Rejoined(Event):
    """A client or helper has a process again (or for the first time), under this number."""

    client: int
    pid: int


@dataclass(frozen=True)
class Revived(Event):
    """A client that was killed in this round has a process again, in time to finish it."""

    client: int
    stage: str
    pid: int


@dataclass(frozen=True)
class RoundStarted(Event):
    """The model goes out."""

    round: int
    clients: tuple[int, ...]


@dataclass(frozen=True)
class StageStarted(Event):
    """The server waits for this stage's messages."""

    stage: str


@dataclass(frozen=True)
class Answered(Event):
    """The server accepted a client's or helper's message of this stage."""

    client: int
    stage: str
    bytes: int


@dataclass(frozen=True)
class TrainingBegan(Event):
    """A client trains."""

    client: int


@dataclass(frozen=True)
class Lost(Event):
    """A client or helper is gone: killed by the script, or ended otherwise."""

    client: int
    stage: str
    killed: bool


@dataclass(frozen=True)
class Trouble(Event):
    """The server refused a client's message, or the client one of the server's."""

    client: int
    stage: str
    what: str


@dataclass(frozen=True)
class RoundEnded(Event):
    """How a round came out; `result` is None where it was aborted, and `reason` says why."""

    round: int
    result: Result | None
    reason: str
    metrics: Metrics
    verdict: Verdict | None
    sent_bytes: Mapping[int, int]
    stage_seconds: Mapping[str, float]


@dataclass(frozen=True)
class AloneEnded(Event):
    """A client's score without the others."""

    client: int
    accuracy: float
    auc: float | None


@dataclass(frozen=True)
class Seen:
    """One client's update twice: as it was, and as the server received it (packed)."""

    clear: ClearUpdate
    received: bytes
