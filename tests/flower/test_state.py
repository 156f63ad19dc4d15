"""What a node must never say twice, whatever becomes of Flower's Context: attacks on its memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.common.serde import message_from_proto
from flwr.proto.message_pb2 import Message as MessageProto

from fl.flower import Protection, SecureGrid, secure, secure_mod
from fl.flower.digests import application_of, attempted, model_of
from fl.flower.rounds import Rounds
from fl.flower.wire import BYTES, RECORD, Reply, Request, unpack
from protocols.masking.messages import Upload
from secagg.codec import decode, encode
from secagg.errors import DecodeError, LocalError
from secagg.identity import Member, Roster
from tests.flower.support import (
    IDENTITIES,
    NODES,
    PATIENCE,
    FakeGrid,
    Fault,
    model,
    packed,
    protection,
    roster,
    stage_of,
    toy_app,
    wire,
)
from tests.flower.test_rounds import MASKING, STAGES, STRATEGIES, check_round, messages, moved

ACTIVE = protection(
    options={"suite": "X25519", "adversary": "active"}, roster=roster(), min_clients=2
)
SHARED = {
    "masking": MASKING,
    "active": ACTIVE,
    "lattice": protection(protocol="lattice", options={}),
    "committee": protection(protocol="committee", options={"decryptors": 3}),
    "bfv": protection(protocol="bfv", options={}),
}
HELPERS = {"committee": (66, 77, 88), "bfv": (66,)}
VICTIM, REST = NODES[4], NODES[:4]


def federation(
    shared: Protection = MASKING, folder: Path | None = None, helpers: tuple[int, ...] = ()
) -> tuple[FakeGrid, SecureGrid]:
    """Nodes whose stores are in this folder, or which have none."""

    def store(context: Context) -> Path | None:
        return folder / str(context.node_id) if folder else None

    apps = {
        node: toy_app(secure_mod(shared, identity=IDENTITIES.get(node), store=store))
        for node in (*NODES, *helpers)
    }
    inner = FakeGrid(apps, helpers)
    return inner, served(inner, shared, helpers)


def served(
    inner: FakeGrid, shared: Protection = MASKING, helpers: tuple[int, ...] = ()
) -> SecureGrid:
    """A server that remembers nothing."""
    options = {"patience": PATIENCE, "clock": inner.clock, "helpers": helpers}
    return secure(STRATEGIES["FedAvg"](), inner, shared, **options)


def rewind(
    inner: FakeGrid, node: int, stage: str, change: Callable[[Message], Message] = lambda m: m
) -> list[Message]:
    """Have what the node stores at this stage undone, and ask it again: both answers."""
    answers: list[Message] = []
    handle = inner._handle

    def twice(who: int, message: Message) -> Message:
        before = inner.state(who)
        reply = handle(who, wire(message))
        if (who, stage_of(message)) == (node, stage) and not answers:
            inner.set_state(who, before)
            answers.extend([reply, handle(who, change(wire(message)))])
            inner.set_state(who, before)
        return reply

    inner._handle = twice  # type: ignore[method-assign]
    return answers


def said(reply: Message) -> tuple[bytes, ...]:
    """The machines' bytes in an answer."""
    return () if reply.has_error() else unpack(reply.content, Reply)[1]


def mean(replies: list[Message], record: str, key: str) -> Any:
    content = next(reply.content for reply in replies if not reply.has_error())
    found = content[record][key]
    return np.asarray(found.numpy() if isinstance(found, Array) else found, float)


def refusals(replies: list[Message]) -> list[str]:
    return [reply.error.reason for reply in replies if reply.has_error()]


# --- the reply is sent, and the Context is not stored ---------------------------------------

PLACES = [
    (name, stage) for name, shared in SHARED.items() for stage in shared.parameters(5, 40).stages
]


def rewound(name: str, stage: str, folder: Path | None) -> list[Message]:
    shared, helpers = SHARED[name], HELPERS.get(name, ())
    inner, grid = federation(shared, folder, helpers)
    clients = shared.parameters(5, 40).client_stages
    node = 33 if stage in clients or stage == "join" else helpers[0]
    answers = rewind(inner, node, stage)
    list(grid.send_and_receive(messages(moved(1))))
    return answers


@pytest.mark.parametrize(("name", "stage"), PLACES)
def test_with_a_store_nothing_is_said_twice_at_any_stage(
    name: str, stage: str, tmp_path: Path
) -> None:
    first, second = rewound(name, stage, tmp_path)
    assert said(first)
    assert "secagg:" in second.error.reason
    assert not said(second)


@pytest.mark.parametrize(("name", "stage"), PLACES)
def test_without_a_store_a_node_that_is_rolled_back_says_it_again(name: str, stage: str) -> None:
    """Why such a node counts as corrupt."""
    first, second = rewound(name, stage, None)
    assert said(first)
    assert said(second)


def uploaded(reply: Message) -> np.ndarray:
    for raw in said(reply):
        try:
            return np.frombuffer(decode(raw, Upload).packed, "<u4").astype(np.int64)
        except DecodeError:
            continue
    return np.zeros(0, np.int64)


@pytest.mark.parametrize("stored", [True, False])
def test_two_uploads_under_the_same_masks(stored: bool, tmp_path: Path) -> None:
    inner, grid = federation(ACTIVE, tmp_path if stored else None)
    answers = rewind(inner, 11, "upload")
    list(grid.send_and_receive(messages(moved(1))))
    first, second = map(uploaded, answers)
    assert first.size
    if stored:
        assert not second.size
    else:
        difference = (first - second + 2**31) % 2**32 - 2**31
        assert np.abs(difference).max() == 1, "only the roundings differ: the masks are gone"


@pytest.mark.parametrize("shared", [MASKING, SHARED["lattice"]], ids=["masking", "lattice"])
def test_a_session_takes_no_second_model_after_a_rollback(
    shared: Protection, tmp_path: Path
) -> None:
    def other(message: Message) -> Message:
        body = unpack(message.content, Request)[0]
        message.content["arrays"] = moved(2)
        own = RecordDict({k: v for k, v in message.content.items() if k not in (RECORD, BYTES)})
        application = attempted(application_of("train", own, shared.terms), body.attempt)
        fields = {f: getattr(body, f) for f in body.__struct_fields__}
        lie = Request(**{**fields, "application": application})
        message.content[RECORD]["body"] = encode(lie)
        return message

    inner, grid = federation(shared, tmp_path)
    answers = rewind(inner, 33, "upload", other)
    list(grid.send_and_receive(messages(moved(1))))
    first, second = answers
    assert said(first)
    assert "stage upload" in second.error.reason


LOST = {
    "advertise": ({33: "share"}, {}),
    "share": ({33: "upload"}, {}),
    "upload": ({}, {}),
    "unmask": ({}, {33: "upload"}),
}
"""Where the node is lost in this round and in the next."""


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("stage", STAGES)
def test_a_node_that_is_rolled_back_is_lost_by_name_and_comes_back(
    stage: str, stored: bool, tmp_path: Path
) -> None:
    inner, grid = federation(folder=tmp_path if stored else None)
    inner.faults = {(33, stage): Fault.ROLLED_BACK}
    check_round(grid, 1, LOST[stage][0])
    inner.faults = {}
    check_round(grid, 2, LOST[stage][1])
    check_round(grid, 3, {})
    check_round(grid, 4, {})


def test_a_node_that_is_rolled_back_at_every_message_never_speaks_twice(tmp_path: Path) -> None:
    inner, grid = federation(folder=tmp_path)
    inner.faults = {(33, stage): Fault.ROLLED_BACK for stage in STAGES}
    for number in range(3):
        check_round(grid, number, {33: "share"})


# --- two sums over one update ----------------------------------------------------------------


def reveal(first: list[Message], second: list[Message], record: str, key: str) -> Any:
    """What the one who is missing in the second sum said."""
    all_of_them, some = sum(NODES), sum(REST)
    before, after = mean(first, record, key), mean(second, record, key)
    return (before * all_of_them - after * some) / (all_of_them - some)


@pytest.mark.parametrize("stored", [True, False])
def test_a_new_run_from_the_same_model_with_other_nodes(stored: bool, tmp_path: Path) -> None:
    inner, grid = federation(protection(min_clients=2), tmp_path if stored else None)
    first = list(grid.send_and_receive(messages()))
    for node in NODES:
        inner.restart(node)  # a run series of its own has a Context of its own
    second = list(served(inner, protection(min_clients=2)).send_and_receive(messages()[:4]))
    if stored:
        assert len(refusals(second)) == 4
        assert all("spent" in reason for reason in refusals(second))
    else:
        found = reveal(first, second, "metrics", "loss")
        assert found == pytest.approx(1 / VICTIM, abs=1e-6), "the fifth client's own loss"


def renamed() -> RecordDict:
    return RecordDict({"arrays2": model()})


def reordered() -> RecordDict:
    return RecordDict({"arrays": ArrayRecord({k: v for k, v in reversed(model().items())})})


def wider() -> RecordDict:
    arrays = {k: Array(v.numpy().astype(np.float64)) for k, v in model().items()}
    return RecordDict({"arrays": ArrayRecord(arrays)})


def beside() -> RecordDict:
    return RecordDict({"arrays": model(), "zz": ArrayRecord({"x": Array(np.zeros(1))})})


@pytest.mark.parametrize("kind", ["train", "train.default", "evaluate", "evaluate.default"])
@pytest.mark.parametrize("disguise", [renamed, reordered, wider, beside])
def test_the_same_model_in_another_guise_gives_no_second_sum(
    disguise: Callable[[], RecordDict], kind: str
) -> None:
    inner, grid = federation(ACTIVE)
    assert not refusals(list(grid.send_and_receive(messages(kind=kind.split(".", maxsplit=1)[0]))))
    content = disguise()
    content["config"] = ConfigRecord({"server-round": 1})
    asked = [Message(content, dst_node_id=node, message_type=kind) for node in REST]
    other = served(inner, ACTIVE)
    if len(content.array_records) == 1:
        assert all("spent" in reason for reason in refusals(list(other.send_and_receive(asked))))
        assert len(other.rounds[0].lost) == 4
    else:
        with pytest.raises(LocalError, match="2 ArrayRecords"):
            other.send_and_receive(asked)


def test_a_client_refuses_a_second_record_that_a_lying_server_puts_beside_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fl.flower.grid.model_of", lambda kind, content: b"anything")
    _, grid = federation(ACTIVE)
    asked = [Message(beside(), dst_node_id=node, message_type="evaluate") for node in NODES]
    reasons = refusals(list(grid.send_and_receive(asked)))
    assert len(reasons) == 5
    assert all("exactly one" in reason for reason in reasons)


def test_a_session_of_an_earlier_attempt_is_closed_in_other_runs_too(tmp_path: Path) -> None:
    """Its secrets are in the other run's Context, out of reach of this one."""
    inner, grid = federation(folder=tmp_path)
    asked: dict[int, bytes] = {}
    run = inner._run

    def note(node: int, message: Message, fault: Fault | None) -> Any:
        if stage_of(message) == "unmask":
            asked.setdefault(node, packed(message))
        return run(node, message, fault)

    inner._run = note  # type: ignore[method-assign]
    inner.faults = {(node, "unmask"): Fault.LOSE_REQUEST for node in NODES}
    list(grid.send_and_receive(messages(moved(1))))
    inner.faults, inner.now = {}, inner.now + 1000
    first_run = {node: inner.state(node) for node in NODES}
    for node in NODES:
        inner.restart(node)
    other = served(inner)
    goes_on_all_the_same(other, grid, asked[11])
    assert not refusals(list(other.send_and_receive(messages(moved(1)))))
    for node in NODES:
        inner.set_state(node, first_run[node])
        reply = inner._handle(node, message_from_proto(MessageProto.FromString(asked[node])))
        assert "stage unmask" in reply.error.reason
        assert not said(reply)


def goes_on_all_the_same(other: SecureGrid, grid: SecureGrid, asked: bytes) -> None:
    """A server that has asked for a last word in a session, and says that this failed before."""
    message = message_from_proto(MessageProto.FromString(asked))
    other._attempts = grid._attempts
    other._rounds._failed = (unpack(message.content, Request)[0].session,)


def test_an_attempt_has_a_higher_number_in_other_runs_too(tmp_path: Path) -> None:
    inner, grid = federation(folder=tmp_path)
    inner.faults = {(node, "unmask"): Fault.LOSE_REQUEST for node in NODES}
    list(grid.send_and_receive(messages(moved(1))))
    inner.faults, inner.now = {}, inner.now + 1000
    for node in NODES:
        inner.restart(node)
    replies = list(served(inner).send_and_receive(messages(moved(1))))
    assert all("higher number" in reason for reason in refusals(replies))
    assert len(refusals(replies)) == 5


# --- identities ------------------------------------------------------------------------------


def test_an_expired_identity_is_refused_by_name() -> None:
    members = [Member(f"node {n}", IDENTITIES[n].public) for n in NODES]
    members[2] = Member("node 33", IDENTITIES[33].public, "2020-02-29")
    shared = protection(
        options={"suite": "X25519", "adversary": "active"}, roster=Roster(members), min_clients=2
    )
    _, grid = federation(shared)
    list(grid.send_and_receive(messages()))
    assert sorted(grid.rounds[0].lost) == list(NODES)
    assert "'node 33' on 2020-02-29" in grid.rounds[0].lost[11].reason


def test_an_identity_is_good_until_its_last_day() -> None:
    members = [Member(f"node {n}", IDENTITIES[n].public, "9999-12-31") for n in NODES]
    shared = protection(
        options={"suite": "X25519", "adversary": "active"}, roster=Roster(members), min_clients=2
    )
    _, grid = federation(shared)
    check_round(grid, 1, {})


def test_what_a_lying_server_says_of_attempts_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts on, and the clients know that their update is spent."""
    inner, grid = federation(folder=tmp_path)
    check_round(grid, 1, {})
    other = served(inner)
    other._attempts = {model_of("train", messages(moved(1))[0].content): 6}
    seen: list[int] = []
    content = Rounds._content

    def note(self: Rounds, task: Any, *rest: Any) -> Any:
        seen.append(task.attempt)
        return content(self, task, *rest)

    monkeypatch.setattr(Rounds, "_content", note)
    replies = list(other.send_and_receive(messages(moved(1))))
    assert set(seen) == {7}
    assert all("spent" in reason for reason in refusals(replies))
