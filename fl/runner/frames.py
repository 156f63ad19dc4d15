"""What crosses the pipes between the processes: typed frames in the strict codec.

Protocol messages travel as opaque bytes inside `Deliver` and `Sent`.
"""

from multiprocessing.connection import Connection
from typing import Any, TypeVar

from fl.round import RoundConfig
from secagg.codec import Bytes32, Value, decode, encode

T = TypeVar("T")

# Server to client


class Start(Value, frozen=True, tag="start"):
    """A round begins: here is the global model, take part."""

    session_id: Bytes32
    config: RoundConfig
    model: bytes


class Summon(Value, frozen=True, tag="summon"):
    """A round begins: a helper takes part in this session, and needs to know no more."""

    session_id: Bytes32


class Deliver(Value, frozen=True, tag="deliver"):
    """A protocol message from the server's machine."""

    data: bytes


class TrainAlone(Value, frozen=True, tag="train-alone"):
    """The baseline: train on your own records only, as long as the federation does."""

    rounds: int
    config: RoundConfig


class Stop(Value, frozen=True, tag="stop"):
    """The federation is over."""


# Client to server


class Ready(Value, frozen=True, tag="ready"):
    """The process is up and has its data."""


class Failed(Value, frozen=True, tag="failed"):
    """The process cannot take part, and why: its own machine's operator reads this."""

    reason: str


class Sent(Value, frozen=True, tag="sent"):
    """A protocol message to the server's machine."""

    stage: str
    data: bytes


class Resent(Value, frozen=True, tag="resent"):
    """A protocol message that the process before this one may have sent: it was stored."""

    stage: str
    data: bytes


class Resumed(Value, frozen=True, tag="resumed"):
    """The client stands in the session where it was stored, or at its beginning. If it was asked
    something before it was there, it needs to be asked again.
    """


class Training(Value, frozen=True, tag="training"):
    """Local training has begun: for the live view."""


class Refused(Value, frozen=True, tag="refused"):
    """The client's machine refused something. A code, the stage and the peer, nothing else."""

    code: str
    stage: str
    peer: int


class AloneScore(Value, frozen=True, tag="alone-score"):
    """How well the client does without the others, on the public test set."""

    accuracy: float
    auc: float | None


# Between client, server and the observer, which only a demo has


class Hello(Value, frozen=True, tag="hello"):
    """Which client this is, and which of its processes."""

    client: int
    pid: int


class PlainModel(Value, frozen=True, tag="plain-model"):
    """The model of the same federation in clear, as this round begins."""

    round: int
    model: bytes


class Observed(Value, frozen=True, tag="observed"):
    """What a client put into the protocol: its update, what it encoded, and its weight."""

    round: int
    update: bytes
    encoded: bytes
    weight: int
    clipped: int


class PlainUpdate(Value, frozen=True, tag="plain-update"):
    """The client's update of the model in clear."""

    round: int
    update: bytes


class Evidence(Value, frozen=True, tag="evidence"):
    """A client's records, for the report's picture of what its first update gives away."""

    records: bytes


class BeginRound(Value, frozen=True, tag="begin-round"):
    """Server to observer: who is asked to take part, with their process numbers."""

    round: int
    clients: dict[int, int]


class EndRound(Value, frozen=True, tag="end-round"):
    """Server to observer: the sum, and over whom. No contributors: the round gave none."""

    round: int
    contributors: tuple[int, ...]
    total: bytes


class Verdict(Value, frozen=True, tag="verdict"):
    """Observer to server: is the sum exact (None: not compared), what did encoding cost, how is the
    baseline.
    """

    round: int
    max_abs_error: int | None
    quantisation_error: float
    clipped: int
    plain_accuracy: float
    plain_auc: float | None


class AskEvidence(Value, frozen=True, tag="ask-evidence"):
    """Server to observer, when the federation is over: what did this client give away?"""

    client: int


class ClearUpdate(Value, frozen=True, tag="clear-update"):
    """One client's first update and records, which the server has never had."""

    client: int
    update: bytes
    records: bytes


ToHelper = Summon | Deliver | Stop
ToClient = Start | Deliver | TrainAlone | Stop
FromClient = Ready | Sent | Resent | Resumed | Training | Refused | AloneScore
ToObserver = Hello | Observed | PlainUpdate | Evidence
ServerToObserver = BeginRound | EndRound | AskEvidence | Stop


def send(pipe: Connection, frame: Value) -> None:
    """Write one frame. Raises OSError where nobody reads any more."""
    pipe.send_bytes(encode(frame))


def receive(pipe: Connection, kind: Any) -> Any:
    """Read one frame. Raises EOFError where nobody writes any more, DecodeError for others."""
    return decode(pipe.recv_bytes(), kind)
