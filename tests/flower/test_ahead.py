"""What travels ahead of the next rounds, and what a node remembers of it."""

from typing import Any

import pytest
from flwr.app import Message
from flwr.common.serde import context_from_proto, message_from_proto
from flwr.proto.message_pb2 import Context as ContextProto
from flwr.proto.message_pb2 import Message as MessageProto

from fl.flower import SecureGrid, secure, secure_mod
from fl.flower.cohort import Cohort
from fl.flower.rounds import Rounds
from fl.flower.state import AHEAD, MOST_SESSIONS, Memory
from fl.flower.wire import RECORD, Request, unpack
from secagg.codec import encode
from secagg.errors import ProtocolAborted
from tests.flower.support import (
    IDENTITIES,
    NODES,
    PATIENCE,
    FakeGrid,
    Fault,
    packed,
    protection,
    roster,
    stage_of,
    toy_app,
)
from tests.flower.test_rounds import (
    MASKING,
    STRATEGIES,
    by_node,
    check_round,
    messages,
    moved,
    secure_grid,
)


def memory(inner: FakeGrid, node: int) -> Memory:
    return Memory(context_from_proto(ContextProto.FromString(inner.state(node))))


def record(inner: FakeGrid) -> list[tuple[int, str, bytes]]:
    """Every message from now on, as bytes."""
    seen: list[tuple[int, str, bytes]] = []
    run = inner._run

    def recorded(node: int, message: Message, fault: Fault | None) -> Any:
        seen.append((node, stage_of(message), packed(message)))
        return run(node, message, fault)

    inner._run = recorded  # type: ignore[method-assign]
    return seen


def body(raw: bytes) -> Request:
    return unpack(message_from_proto(MessageProto.FromString(raw)).content, Request)[0]


# --- what a message carries ----------------------------------------------------------------


def carried(seen: list[tuple[int, str, bytes]]) -> list[tuple[str, int, int]]:
    """Of each message: its stage, how many sessions it offers, and how many it has steps of."""
    return [(stage, len(body(raw).offers), len(body(raw).steps)) for _, stage, raw in seen]


def test_sessions_are_made_ready_in_uploads_and_the_unmasking_asks_only_as_many_as_suffice() -> (
    None
):
    inner, grid = secure_grid()
    seen = record(inner)
    check_round(grid, 1, {})
    first, four = seen[10:], 2 * AHEAD
    assert carried(first) == [*[("upload", four, 1)] * 5, *[("unmask", 0, 1 + four)] * 5]
    seen.clear()
    check_round(grid, 2, {})
    check_round(grid, 3, {})
    assert carried(seen) == [
        *[("upload", 1, 1)] * 5,  # the session for round 4
        *[("unmask", 0, 1)] * 3,
        *[("upload", 1, 2)] * 5,  # its shares, and the session for round 5
        *[("unmask", 0, 1)] * 3,
    ]


def test_every_node_that_is_not_asked_in_time_is_asked_in_the_next_round() -> None:
    inner, grid = secure_grid()
    check_round(grid, 1, {})
    inner.faults = {(33, "upload"): Fault.ERROR}
    check_round(grid, 2, {33: "upload"})
    inner.faults = {}
    seen = record(inner)
    check_round(grid, 3, {})
    offers = {node: len(body(raw).offers) for node, stage, raw in seen if stage == "upload"}
    assert offers == {11: 1, 22: 1, 33: 2, 44: 1, 55: 1}
    assert carried(seen)[5:] == [("unmask", 0, 3)] * 5, "all, as the next session lacks shares"
    check_round(grid, 4, {})
    assert [each.exchanges for each in grid.rounds] == [4, 2, 2, 2]


def test_other_nodes_make_a_new_session() -> None:
    _, grid = secure_grid()
    check_round(grid, 1, {})
    fewer = list(grid.send_and_receive(messages(moved(2))[:4]))
    assert not any(reply.has_error() for reply in fewer)
    check_round(grid, 3, {})
    assert [each.exchanges for each in grid.rounds] == [4, 4, 4]


def test_with_a_roster_a_round_of_fewer_members_needs_no_new_session() -> None:
    shared = protection(options={"suite": "X25519", "adversary": "active"}, roster=roster())
    inner = FakeGrid({n: toy_app(secure_mod(shared, identity=IDENTITIES[n])) for n in NODES})
    grid = secure(STRATEGIES["FedAvg"](), inner, shared, patience=PATIENCE, clock=inner.clock)
    check_round(grid, 1, {})
    fewer = list(grid.send_and_receive(messages(moved(2))[:4]))
    assert not any(reply.has_error() for reply in fewer)
    check_round(grid, 3, {})
    check_round(grid, 4, {})
    assert [each.exchanges for each in grid.rounds] == [5, 3, 3, 3]


def test_more_kinds_of_rounds_than_a_node_keeps_sessions() -> None:
    inner, grid = secure_grid()
    for number, kind in enumerate(["train", "train.again", "evaluate"] * 3):
        replies = list(grid.send_and_receive(messages(moved(number), kind, number)))
        assert not any(reply.has_error() for reply in replies), kind
        assert all(len(memory(inner, node)._sessions) < MOST_SESSIONS for node in NODES)


@pytest.mark.parametrize(("what", "exchanges"), [("offer", 4), ("ask", 3)])
def test_what_fails_ahead_loses_nothing_of_this_round(
    what: str, exchanges: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, grid = secure_grid()
    check_round(grid, 1, {})
    honest_offer, honest_ask = Cohort.offer, Cohort.ask

    def offer(self: Cohort, node: int) -> Any:
        mine = honest_offer(self, node)
        return type(mine)(*[b"" if f == "parameters" else getattr(mine, f) for f in FIELDS])

    def ask(self: Cohort, node: int) -> Any:
        data = honest_ask(self, node)
        return [b"nothing"] if self.early and self._at else data

    with monkeypatch.context() as patch:
        patch.setattr(Cohort, what, {"offer": offer, "ask": ask}[what])
        check_round(grid, 2, {})
        check_round(grid, 3, {})
    check_round(grid, 4, {})
    check_round(grid, 5, {})
    assert [each.exchanges for each in grid.rounds] == [4, 2, 2, exchanges, 2]


FIELDS = ("session", "protocol", "parameters", "length", "nodes", "helpers", "number")


def test_a_session_that_aborts_ahead_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    _, grid = secure_grid()
    check_round(grid, 1, {})
    close = Cohort.close

    def abort(self: Cohort) -> None:
        close(self)
        if self.early:
            raise ProtocolAborted("tried", stage="advertise")

    with monkeypatch.context() as patch:
        patch.setattr(Cohort, "close", abort)
        check_round(grid, 2, {})
        check_round(grid, 3, {})
    check_round(grid, 4, {})
    assert [each.exchanges for each in grid.rounds] == [4, 2, 2, 4]
    assert not any(each.aborted for each in grid.rounds)


# --- what a node remembers -----------------------------------------------------------------


def test_of_what_is_over_a_node_keeps_short_digests_only() -> None:
    inner, grid = secure_grid()
    seen = record(inner)
    for number in range(3):
        check_round(grid, number, {})
    for node in (node for node, stage, _ in seen[-5:] if stage == "unmask"):
        kept = memory(inner, node)
        assert set(kept._sessions) <= set(body(seen[-1][2]).open)
        assert body(seen[-1][2]).session not in kept._sessions
        assert len(kept._sessions) == MOST_SESSIONS - 1
        assert not any(each.model for each in kept._sessions.values()), "none has begun"
        assert {len(each) for each in kept._closed} == {16}
        assert all(each.spent and len(each.model) == 16 for each in kept._used.values())


def test_who_was_not_asked_to_unmask_forgets_with_the_next_message_and_counts_as_summed() -> None:
    inner, grid = secure_grid()
    for number in range(2):
        check_round(grid, number, {})
    inner.asked.clear()
    check_round(grid, 2, {})
    (left, *_) = set(NODES) - {node for node, stage in inner.asked if stage == "unmask"}
    (session,) = [key for key, each in memory(inner, left)._sessions.items() if each.model]
    list(grid.send_and_receive(messages(moved(3), "evaluate")))
    kept = memory(inner, left)
    assert session not in kept._sessions
    assert session[:16] in kept._closed
    assert [each.spent for each in kept._used.values()][:3] == [True] * 3


def test_who_is_left_out_of_rounds_still_counts_as_summed() -> None:
    inner, grid = secure_grid()
    for number in range(2):
        check_round(grid, number, {})
    for number in range(2, 4 + MOST_SESSIONS):
        replies = list(grid.send_and_receive(messages(moved(number))[:4]))
        assert not any(reply.has_error() for reply in replies)
    check_round(grid, 9, {})
    assert [each.spent for each in memory(inner, 55)._used.values()][:2] == [True, True]


def test_a_session_that_was_aborted_is_forgotten_with_the_next_message() -> None:
    inner, grid = secure_grid()
    inner.faults = {(node, "upload"): Fault.ERROR for node in NODES[:3]}
    grid.send_and_receive(messages(moved(1)))
    (aborted,) = {key for key, kept in memory(inner, 55)._sessions.items() if kept.model}
    inner.faults = {}
    check_round(grid, 2, {})
    for node in NODES:
        assert aborted not in memory(inner, node)._sessions
        assert aborted[:16] in memory(inner, node)._closed


# --- one upload for a model and an attempt --------------------------------------------------


def uploads_lost() -> tuple[FakeGrid, SecureGrid]:
    """Clients have uploaded, the server has got too little, and nobody was asked to unmask."""
    inner, grid = secure_grid()
    inner.faults = {(node, "upload"): Fault.LOSE_REPLY for node in NODES[:3]}
    grid.send_and_receive(messages(moved(1)))
    assert grid.rounds[0].aborted
    assert not grid.rounds[0].spent
    inner.faults = {}
    inner.now += 1000
    return inner, grid


def test_a_client_uploads_its_update_of_a_model_once_an_attempt() -> None:
    inner, grid = uploads_lost()
    other = SecureGrid(inner, MASKING, patience=PATIENCE, clock=inner.clock)
    other._rounds._failed = grid._rounds._failed
    replies = list(other.send_and_receive(messages(moved(1))))
    assert all("higher number" in reply.error.reason for reply in replies)
    assert other.rounds[0].lost_by_stage == {"upload": NODES}


def test_to_its_clients_an_attempt_of_which_the_server_knows_nothing_was_summed() -> None:
    inner, _ = uploads_lost()
    other = SecureGrid(
        inner, MASKING, patience=PATIENCE, clock=inner.clock, on_abort="retry", retries=2
    )
    replies = list(other.send_and_receive(messages(moved(1))))
    assert all("spent" in reply.error.reason for reply in replies)
    assert other.rounds[0].attempts == 3


def test_a_later_attempt_at_the_same_model_says_so_and_may() -> None:
    inner, grid = uploads_lost()
    seen = record(inner)
    check_round(grid, 1, {})
    assert {body(raw).attempt for _, stage, raw in seen if stage == "upload"} == {2}


def test_after_a_later_attempt_the_session_of_the_earlier_one_cannot_be_unmasked() -> None:
    inner, grid = secure_grid()
    seen = record(inner)
    inner.faults = {(node, "unmask"): Fault.LOSE_REQUEST for node in NODES}
    grid.send_and_receive(messages(moved(1)))
    (asked,) = [raw for node, stage, raw in seen if (node, stage) == (44, "unmask")]
    inner.faults, inner.now = {}, inner.now + 1000
    other = SecureGrid(inner, MASKING, patience=PATIENCE, clock=inner.clock)
    other._attempts = grid._attempts  # a server that goes on all the same
    session = body(asked).session
    other._rounds._failed = (session,)
    list(other.send_and_receive(messages(moved(1))))
    assert not other.rounds[0].aborted
    reply = inner._handle(44, message_from_proto(MessageProto.FromString(asked)))
    assert "does not know the session" in reply.error.reason


def test_a_replayed_upload_request_gets_no_second_upload() -> None:
    inner, grid = secure_grid()
    seen = record(inner)
    again: list[Message] = []

    def replay(node: int, stage: str) -> None:
        if (node, stage) == (44, "unmask"):
            (raw,) = [raw for n, s, raw in seen if (n, s) == (44, "upload")]
            before = inner._nodes[44].context
            again.append(inner._handle(44, message_from_proto(MessageProto.FromString(raw))))
            inner._nodes[44].context = before  # the round goes on for those who look at it

    inner.on_push = replay
    check_round(grid, 1, {})
    assert "secagg:" in again[0].error.reason


def test_another_attempt_than_the_server_bound_the_session_to_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, grid = secure_grid()
    content = Rounds._content

    def later(self: Rounds, task: Any, cohort: Cohort, node: int, waiting: Any) -> Any:
        records = content(self, task, cohort, node, waiting)
        request = unpack(records, Request)[0]
        if request.attempt and node == 33:
            fields = {f: getattr(request, f) for f in request.__struct_fields__}
            lie = Request(**{**fields, "attempt": 7})
            records[RECORD]["body"] = encode(lie)
        return records

    monkeypatch.setattr(Rounds, "_content", later)
    replies = by_node(grid.send_and_receive(messages(moved(1))))
    assert "not what this session was bound to" in replies[33].error.reason
    assert not replies[22].has_error()
