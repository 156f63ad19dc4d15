"""Rounds over an in-process grid: the exact mean of who is left, and every fault."""

from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import strategy as strategies
from msgspec.structs import replace

from fl.flower import Patience, Protection, SecureGrid, secure, secure_mod
from fl.flower.cohort import Cohort
from fl.flower.wire import BYTES
from protocols.lattice.states import Relay
from protocols.masking.messages import UnmaskAnswer
from protocols.masking.parameters import sparse
from secagg.codec import decode, encode
from secagg.errors import ProtocolAborted
from secagg.rng import SystemSource
from tests.flower.support import (
    IDENTITIES,
    NODES,
    PATIENCE,
    FakeGrid,
    Fault,
    model,
    protection,
    roster,
    toy_app,
)

EVERYBODY = {"min_available_nodes": 5, "min_train_nodes": 5, "min_evaluate_nodes": 5}
STAGES = ("advertise", "share", "upload", "unmask")
PLAIN = protection(protocol="plain", options={})
MASKING = protection()
STRATEGIES = {
    "FedAvg": lambda: strategies.FedAvg(**EVERYBODY),
    "FedProx": lambda: strategies.FedProx(proximal_mu=0.1, **EVERYBODY),
    "FedAdam": lambda: strategies.FedAdam(**EVERYBODY),
    "FedYogi": lambda: strategies.FedYogi(**EVERYBODY),
    "FedAdagrad": lambda: strategies.FedAdagrad(**EVERYBODY),
    "FedAvgM": lambda: strategies.FedAvgM(**EVERYBODY),
}


def secure_grid(shared: Protection = MASKING, **options: Any) -> tuple[FakeGrid, SecureGrid]:
    grid = FakeGrid({node: toy_app(secure_mod(shared)) for node in NODES})
    chosen = {"patience": PATIENCE, "clock": grid.clock, **options}
    return grid, secure(STRATEGIES["FedAvg"](), grid, shared, **chosen)


def messages(
    arrays: ArrayRecord | None = None, kind: str = "train", number: int = 1
) -> list[Message]:
    content = RecordDict(
        {"arrays": arrays or model(), "config": ConfigRecord({"server-round": number})}
    )
    return [Message(content, dst_node_id=node, message_type=kind) for node in NODES]


def moved(number: int) -> ArrayRecord:
    """A model of its own for each round."""
    arrays = model()
    arrays["w"] = type(arrays["w"])(arrays["w"].numpy() + np.float32(number) / 64)
    return arrays


def plain_mean(number: int, nodes: tuple[int, ...]) -> dict[str, np.ndarray]:
    grid = FakeGrid({node: toy_app() for node in nodes})
    strategy = strategies.FedAvg(min_available_nodes=1, min_train_nodes=1)
    asked = [m for m in messages(moved(number)) if m.metadata.dst_node_id in nodes]
    arrays, _ = strategy.aggregate_train(1, grid.send_and_receive(asked))
    return {name: array.numpy() for name, array in arrays.items()}


def by_node(replies: Any) -> dict[int, Message]:
    return {reply.metadata.src_node_id: reply for reply in replies}


def check_round(grid: SecureGrid, number: int, lost: dict[int, str]) -> None:
    """One round: one reply a node, the exact mean of the survivors, the stage of the others."""
    replies = by_node(grid.send_and_receive(messages(moved(number), number=number)))
    assert sorted(replies) == list(NODES)
    survivors = tuple(node for node in NODES if node not in lost)
    for node, stage in lost.items():
        assert replies[node].has_error(), node
        assert f"stage {stage}" in replies[node].error.reason
    mean = plain_mean(number, survivors)
    for node in survivors:
        arrays = replies[node].content["arrays"]
        for name, array in arrays.items():
            step = 200 / 2**20 if name == "steps" else 2 / 2**20
            np.testing.assert_allclose(array.numpy(), mean[name], atol=step)
        weight = replies[node].content["metrics"]["num-examples"]
        assert weight == pytest.approx(np.mean(survivors))


# --- the exact mean, and nothing else ------------------------------------------------------


def test_a_masking_round_after_the_first_has_two_exchanges_and_one_message_is_open() -> None:
    inner, grid = secure_grid()
    for number in range(3):
        check_round(grid, number, {})
        replies = grid.send_and_receive(messages(moved(number), "evaluate", number))
        assert not any(reply.has_error() for reply in replies)
    assert [each.exchanges for each in grid.rounds] == [4, 2, 2, 2, 2, 2]
    assert [list(each.seconds) for each in grid.rounds[1:]] == [["upload", "unmask"]] * 5
    assert inner.most_open == 1
    assert inner.largest_state < 8192


def test_a_model_of_another_shape_needs_a_new_session_and_nothing_else() -> None:
    _, grid = secure_grid()
    check_round(grid, 1, {})
    longer = ArrayRecord({**moved(2), "more": type(model()["w"])(np.zeros(5, np.float32))})
    replies = list(grid.send_and_receive(messages(longer, number=2)))
    assert not any(reply.has_error() for reply in replies)
    assert grid.rounds[-1].exchanges == 4


def test_no_single_value_is_in_the_replies_and_nothing_secret_stays_on_the_node() -> None:
    inner, grid = secure_grid()
    replies = list(grid.send_and_receive(messages(moved(0))))
    contents = [reply.content for reply in replies]
    assert all(c["metrics"] == contents[0]["metrics"] for c in contents)
    before = {node: len(inner.state(node)) for node in NODES}
    inner.asked.clear()
    list(grid.send_and_receive(messages(moved(1))))
    asked = [node for node, stage in inner.asked if stage == "unmask"]
    assert all(len(inner.state(n)) <= before[n] + 64 for n in asked), "only short digests remain"


@pytest.mark.parametrize("stage", ["upload", "consistency"])
def test_active_mode_with_a_roster_of_identities(stage: str) -> None:
    shared = protection(options={"suite": "X25519", "adversary": "active"}, roster=roster())
    apps = {n: toy_app(secure_mod(shared, identity=IDENTITIES[n])) for n in NODES}
    inner = FakeGrid(apps)
    grid = secure(STRATEGIES["FedAvg"](), inner, shared, patience=PATIENCE, clock=inner.clock)
    check_round(grid, 1, {})
    inner.faults = {(33, stage): Fault.ERROR}
    check_round(grid, 2, {} if stage == "consistency" else {33: stage})
    inner.faults = {}
    check_round(grid, 3, {})
    assert [each.exchanges for each in grid.rounds][:2] == [5, 3]


def test_a_stranger_to_the_roster_is_refused() -> None:
    shared = protection(options={"suite": "X25519", "adversary": "active"}, roster=roster())
    keys = {**IDENTITIES, 33: type(IDENTITIES[33]).draw("Ed25519", SystemSource())}
    inner = FakeGrid({n: toy_app(secure_mod(shared, identity=keys[n])) for n in NODES})
    grid = secure(STRATEGIES["FedAvg"](), inner, shared, patience=PATIENCE, clock=inner.clock)
    check_round(grid, 1, {33: "advertise"})
    assert "nobody in the roster" in grid.rounds[0].lost[33].reason


@pytest.mark.parametrize("stage", STAGES[1:3])
def test_lattice_needs_nothing_of_its_own(stage: str) -> None:
    inner, grid = secure_grid(protection(protocol="lattice", options={}))
    inner.faults = {(33, stage): Fault.ERROR}
    check_round(grid, 1, {33: stage})
    inner.faults = {}
    check_round(grid, 2, {})
    check_round(grid, 3, {})
    assert [each.exchanges for each in grid.rounds] == [4, 4, 2]


# --- faults --------------------------------------------------------------------------------

LOSING = [f for f in Fault if f not in (Fault.TWICE, Fault.RESTART_AFTER, Fault.ROLLED_BACK)]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("fault", LOSING, ids=lambda f: f.name)
def test_a_node_lost_at_any_stage_is_named_and_the_rest_is_exact(fault: Fault, stage: str) -> None:
    inner, grid = secure_grid()
    inner.faults = {(33, stage): fault}
    restart_is_harmless = fault is Fault.RESTART and stage == "advertise"
    late_is_in_the_sum = stage == "unmask"
    lost = {} if restart_is_harmless or late_is_in_the_sum else {33: stage}
    check_round(grid, 1, lost)
    inner.faults = {}
    inner.now += 1000
    check_round(grid, 2, {})


@pytest.mark.parametrize("stage", ["upload", "unmask"])
@pytest.mark.parametrize("fault", LOSING, ids=lambda f: f.name)
def test_two_nodes_lost_in_a_later_round_and_back_in_the_next(fault: Fault, stage: str) -> None:
    """At unmask their updates are in the sum, and it is the next session that lacks them."""
    inner, grid = secure_grid()
    check_round(grid, 1, {})
    inner.faults = {(11, stage): fault, (55, stage): fault}
    check_round(grid, 2, {11: stage, 55: stage} if stage == "upload" else {})
    inner.faults = {}
    inner.now += 1000
    check_round(grid, 3, {})
    check_round(grid, 4, {})
    refusing = fault in (Fault.RESTART, Fault.GARBAGE)  # may have lost what it joined
    unread = fault is Fault.GARBAGE and stage == "unmask"  # the spared are asked once all is over
    expected = [4, 3 if unread else 2, 4 if refusing else 2, 2]
    assert [each.exchanges for each in grid.rounds] == expected


@pytest.mark.parametrize("name", ["masking", "lattice"])
def test_only_as_many_as_suffice_are_asked_to_unmask_and_first_who_answered_first(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, grid = ready(protection(protocol=name, options={}))
    pull = inner.pull_messages
    monkeypatch.setattr(inner, "pull_messages", lambda keys: reversed([*pull(keys)]))
    check_round(grid, 2, {})
    assert unmasking(inner) == [55, 44, 33]
    assert grid.rounds[-1].exchanges == 2


def test_where_one_who_was_asked_to_unmask_fails_another_is_asked_at_once() -> None:
    inner, grid = ready()
    inner.faults = {(22, "unmask"): Fault.ERROR}
    check_round(grid, 2, {})
    assert unmasking(inner) == [11, 22, 33, 44]
    assert grid.rounds[-1].exchanges == 2
    assert inner.now < PATIENCE.grace


def test_where_one_who_was_asked_to_unmask_is_slow_all_others_are_asked() -> None:
    inner, grid = ready()
    inner.faults = {(22, "unmask"): Fault.LOSE_REPLY}
    check_round(grid, 2, {})
    assert unmasking(inner) == [11, 22, 33, 44, 55]
    assert PATIENCE.grace <= inner.now <= 3 * PATIENCE.grace


@pytest.mark.parametrize("name", ["masking", "lattice"])
def test_where_one_who_unmasks_returns_a_wrong_share_the_others_are_asked(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, grid = ready(protection(protocol=name, options={}))
    take = Cohort.take

    def spoilt(self: Cohort, node: int, stage: str, parcel: Any, data: Any) -> None:
        if (node, stage) == (22, "unmask"):
            relay = decode(bytes(data[0]), UnmaskAnswer | Relay)
            inside = relay.data if isinstance(relay, Relay) else data[0]
            answer = decode(bytes(inside), UnmaskAnswer)
            shares = bytes([answer.self_shares[0] ^ 1]) + answer.self_shares[1:]
            wrong = encode(replace(answer, self_shares=shares))
            data = [encode(replace(relay, data=wrong)) if isinstance(relay, Relay) else wrong]
        take(self, node, stage, parcel, data)

    monkeypatch.setattr(Cohort, "take", spoilt)
    check_round(grid, 2, {})
    assert unmasking(inner) == [11, 22, 33, 44, 55]
    assert grid.rounds[-1].exchanges == 3
    assert grid.rounds[-1].troubles == [
        "bad answer: BadAnswer(dealer=1, holder=2, what='self share')"
    ]


@pytest.mark.parametrize("options", [{"threshold": 2, "floor": 2}, {"corrupt": 1, "threshold": 3}])
def test_below_a_majority_everybody_is_asked_to_unmask(options: dict[str, int]) -> None:
    inner, grid = ready(protection(options={"suite": "X25519", **options}))
    check_round(grid, 2, {})
    assert unmasking(inner) == list(NODES)


def test_on_a_sparse_graph_not_just_any_clients_suffice() -> None:
    chosen = sparse(200, 8, 32, corrupt=0.1, dropout=0.1)
    assert chosen.degree < 199
    assert not chosen.any_suffice


@pytest.mark.parametrize("nodes", [NODES, (11, 44, 55)])
def test_no_second_sum_comes_of_those_who_were_not_asked(nodes: tuple[int, ...]) -> None:
    """Even by a server that has forgotten the first, and so tries again."""
    inner, grid = ready()
    check_round(grid, 2, {})
    assert unmasking(inner) == [11, 22, 33]
    options = {"patience": PATIENCE, "clock": inner.clock, "on_abort": "retry", "retries": 3}
    other = secure(STRATEGIES["FedAvg"](), inner, MASKING, **options)
    list(other.send_and_receive([m for m in messages(moved(2)) if m.metadata.dst_node_id in nodes]))
    assert other.rounds[-1].attempts == 4
    assert all("spent" in each.reason for each in other.rounds[-1].lost.values())


def test_a_grid_that_fails_while_it_unmasks_makes_no_second_sum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inner, grid = ready()
    pull = inner.pull_messages

    def broken(keys: Any) -> Any:
        if unmasking(inner):
            raise OSError("the channel")
        return pull(keys)

    monkeypatch.setattr(inner, "pull_messages", broken)
    with pytest.raises(OSError, match="the channel"):
        grid.send_and_receive(messages(moved(2)))
    monkeypatch.undo()
    with pytest.raises(ProtocolAborted, match="difference"):
        grid.send_and_receive(messages(moved(2)))


@pytest.mark.parametrize("fault", [None, Fault.ERROR, Fault.GARBAGE, Fault.LOSE_REPLY])
def test_what_is_reported_as_sent_was_sent(fault: Fault | None) -> None:
    inner, grid = ready()
    sent, run = [0], inner._run

    def counted(node: int, message: Message, fault: Fault | None) -> Any:
        arrays = message.content.array_records.get(BYTES, {})
        sent[0] += sum(len(array.data) for array in arrays.values())
        return run(node, message, fault)

    inner._run = counted  # type: ignore[method-assign]
    inner.faults = {(22, "unmask"): fault} if fault else {}
    check_round(grid, 2, {})
    assert grid.rounds[-1].sent == sent[0]


def test_a_stage_ends_at_its_deadline_and_nobody_is_asked_after_it() -> None:
    patience = Patience(deadline=8.0, grace=10.0, slack=1.0, poll=0.25)
    inner, grid = secure_grid(patience=patience)
    check_round(grid, 1, {})
    inner.faults = {(node, "unmask"): Fault.LOSE_REPLY for node in NODES}
    asked: list[float] = []
    began = inner.now
    inner.on_push = lambda _, stage: asked.append(inner.now) if stage == "unmask" else None
    grid.send_and_receive(messages(moved(2)))
    assert grid.rounds[-1].seconds["unmask"] <= 8.5
    assert [round(at - began) for at in asked] == [0, 0, 0, 4, 4]


def ready(shared: Protection = MASKING) -> tuple[FakeGrid, SecureGrid]:
    """After a first round, with nothing noted yet."""
    inner, grid = secure_grid(shared)
    check_round(grid, 1, {})
    inner.asked.clear()
    return inner, grid


def unmasking(inner: FakeGrid) -> list[int]:
    """Who was asked to, in this order."""
    return [node for node, stage in inner.asked if stage == "unmask"]


def test_a_node_that_lost_its_state_after_joining_ahead_is_back_one_round_later() -> None:
    inner, grid = secure_grid()
    check_round(grid, 1, {})
    inner.restart(22)
    check_round(grid, 2, {22: "upload"})
    assert "restarted" in grid.rounds[-1].lost[22].reason
    check_round(grid, 3, {})


def test_a_second_answer_is_ignored_and_named() -> None:
    inner, grid = secure_grid()
    inner.faults = {(44, stage): Fault.TWICE for stage in STAGES}
    check_round(grid, 1, {})
    assert [t for t in grid.rounds[0].troubles if "node 44 answered twice at stage upload" in t]


def test_a_stage_does_not_wait_for_the_slowest() -> None:
    inner, grid = secure_grid(patience=Patience(deadline=100, grace=3, slack=0, poll=1))
    inner.faults = {(33, "upload"): Fault.LOSE_REPLY}
    check_round(grid, 1, {33: "upload"})
    assert inner.now <= 5


def test_a_node_that_owes_an_answer_gets_no_other_message() -> None:
    inner, grid = secure_grid()
    inner.faults = {(33, "upload"): Fault.LATE}
    check_round(grid, 1, {33: "upload"})
    inner.asked.clear()
    check_round(grid, 2, {33: "advertise"})
    assert "still has a message of stage upload" in grid.rounds[-1].lost[33].reason
    assert 33 not in {node for node, _ in inner.asked}
    inner.now += 100
    inner.faults = {}
    check_round(grid, 3, {})
    assert inner.most_open == 1


# --- below the threshold -------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["advertise", "share", "upload"])
def test_a_round_below_the_threshold_is_skipped_and_the_model_can_be_trained_again(
    stage: str,
) -> None:
    inner, grid = secure_grid()
    inner.faults = {(node, stage): Fault.ERROR for node in NODES[:3]}
    replies = by_node(grid.send_and_receive(messages(moved(1))))
    assert all(reply.has_error() for reply in replies.values())
    assert "no sum" in replies[11].error.reason
    assert grid.rounds[0].aborted
    assert not grid.rounds[0].spent
    inner.faults = {}
    check_round(grid, 1, {})


@pytest.mark.parametrize(("heals_at", "attempts"), [(2, 2), (3, 3), (9, 3)])
def test_a_round_below_the_threshold_is_tried_again_as_often_as_configured(
    heals_at: int, attempts: int
) -> None:
    inner, grid = secure_grid(on_abort="retry", retries=2)
    inner.faults = {(node, "share"): Fault.ERROR for node in NODES[:3]}
    begun: list[int] = []

    def heal(node: int, stage: str) -> None:
        begun.extend([node] if (node, stage) == (11, "advertise") else [])
        if len(begun) == heals_at:
            inner.faults = {}

    inner.on_push = heal
    replies = list(grid.send_and_receive(messages(moved(1))))
    assert grid.rounds[0].attempts == attempts
    assert all(reply.has_error() for reply in replies) == (heals_at > attempts)
    assert bool(grid.rounds[0].aborted) == (heals_at > attempts)


def test_a_round_below_the_threshold_raises_where_that_is_configured() -> None:
    inner, grid = secure_grid(on_abort="raise")
    inner.faults = {(node, "upload"): Fault.ERROR for node in NODES[:3]}
    with pytest.raises(ProtocolAborted, match="upload"):
        grid.send_and_receive(messages(moved(1)))


@pytest.mark.parametrize("on_abort", ["skip", "retry"])
def test_a_round_that_fails_at_unmask_is_never_repeated_with_its_model(on_abort: Any) -> None:
    inner, grid = secure_grid(on_abort=on_abort)
    inner.faults = {(node, "unmask"): Fault.LOSE_REPLY for node in NODES[:3]}
    replies = list(grid.send_and_receive(messages(moved(1))))
    assert all(reply.has_error() for reply in replies)
    assert grid.rounds[0].attempts == 1
    inner.faults = {}
    with pytest.raises(ProtocolAborted, match="difference"):
        grid.send_and_receive(messages(moved(1), number=2))
    inner.now += 1000
    check_round(grid, 2, {})


def test_clients_too_refuse_a_second_sum_over_their_model() -> None:
    inner, grid = secure_grid()
    check_round(grid, 1, {})
    other = SecureGrid(inner, MASKING, patience=PATIENCE, clock=inner.clock)
    replies = list(other.send_and_receive(messages(moved(1), number=2)))
    assert all("spent" in reply.error.reason for reply in replies)


def test_the_same_model_is_evaluated_once() -> None:
    inner, grid = secure_grid()
    assert not any(r.has_error() for r in grid.send_and_receive(messages(kind="evaluate")))
    again = list(grid.send_and_receive(messages(kind="evaluate", number=2)))
    assert all("difference" in reply.error.reason for reply in again)
    assert inner.asked
