"""Protocols with helpers: decryptors and key holders as nodes of their own."""

import subprocess
import sys
from typing import Any

import pytest
from flwr.app import Message, RecordDict

from fl.flower import Patience, Protection, SecureGrid, find_helpers, secure, secure_mod
from secagg.errors import LocalError, ParameterError
from tests.flower.support import (
    NODES,
    PATIENCE,
    FakeGrid,
    Fault,
    protection,
    roster,
    toy_app,
)
from tests.flower.test_rounds import STRATEGIES, by_node, check_round, messages, moved

SHARED = {
    "committee": protection(protocol="committee", options={"decryptors": 3}),
    "ckks": protection(protocol="ckks", options={}),
    "bfv": protection(protocol="bfv", options={}),
}
HELPERS = {"committee": (66, 77, 88), "ckks": (66,), "bfv": (66,)}
NAMES = tuple(SHARED)


def helped_grid(
    name: str, helpers: tuple[int, ...] | None = None, **options: Any
) -> tuple[FakeGrid, SecureGrid]:
    shared = SHARED[name]
    nodes = (*NODES, *HELPERS[name])
    grid = FakeGrid({n: toy_app(secure_mod(shared)) for n in nodes}, HELPERS[name])
    chosen = {"patience": PATIENCE, "clock": grid.clock, **options}
    named = HELPERS[name] if helpers is None else helpers
    return grid, secure(STRATEGIES["FedAvg"](), grid, shared, helpers=named, **chosen)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_mean_and_as_few_exchanges_as_the_protocol_has_after_the_first_round(
    name: str,
) -> None:
    inner, grid = helped_grid(name)
    for number in range(2):
        check_round(grid, number, {})
        replies = grid.send_and_receive(messages(moved(number), "evaluate", number))
        assert not any(reply.has_error() for reply in replies)
    first = {"committee": ["keys"], "ckks": ["join"], "bfv": ["join"]}[name]
    then = {"committee": ["upload", "report", "open"]}.get(name, ["upload", "open"])
    assert [each.exchanges for each in grid.rounds] == [len(first) + len(then)] + [len(then)] * 3
    asked: dict[str, set[int]] = {}
    for node, stage in inner.asked:
        asked.setdefault(stage, set()).add(node)
    assert asked["upload"] == set(NODES)
    assert asked["open"] == set(HELPERS[name])
    assert inner.most_open == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_client_is_done_when_it_has_uploaded(name: str) -> None:
    inner, grid = helped_grid(name)
    inner.on_push = lambda _, stage: stage == "open" and [inner.restart(n) for n in NODES] and None
    inner.faults = {(33, "upload"): Fault.ERROR}
    check_round(grid, 1, {33: "upload"})


@pytest.mark.parametrize("stage", ["keys", "report", "open"])
@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.LOSE_REPLY, Fault.RESTART, Fault.GARBAGE])
def test_a_decryptor_may_be_lost_at_any_stage(fault: Fault, stage: str) -> None:
    inner, grid = helped_grid("committee")
    inner.faults = {(77, stage): fault}
    check_round(grid, 1, {})
    harmless = fault is Fault.RESTART and stage == "keys"
    assert list(grid.rounds[0].lost_helpers) == ([] if harmless else [77])
    inner.faults = {}
    inner.now += 1000
    check_round(grid, 2, {})
    check_round(grid, 3, {})
    check_round(grid, 4, {})
    assert not grid.rounds[-1].lost_helpers
    assert grid.rounds[-1].exchanges == 3


@pytest.mark.parametrize(
    ("name", "stage", "why"),
    [
        ("committee", "keys", "decryptors have keys"),
        ("committee", "report", "decryptors reported"),
        ("committee", "open", "decryptors answered"),
        ("ckks", "join", "the key holder sent no key"),
        ("ckks", "open", "the key holder opened no sum"),
    ],
)
def test_without_its_helpers_a_round_is_aborted_with_the_reason(
    name: str, stage: str, why: str
) -> None:
    inner, grid = helped_grid(name, on_abort="retry")
    inner.faults = {(node, stage): Fault.ERROR for node in HELPERS[name][:2]}
    replies = by_node(grid.send_and_receive(messages(moved(1))))
    assert all("no sum" in reply.error.reason for reply in replies.values())
    report = grid.rounds[0]
    assert why in report.aborted
    assert {each.stage for each in report.lost_helpers.values()} == {stage}
    assert report.attempts == (1 if report.spent else 3)
    assert report.spent == (stage not in ("keys", "join")), "clients have said their last word"
    inner.faults = {}
    check_round(grid, 2, {})


def test_helpers_are_no_clients_of_the_strategy() -> None:
    inner, grid = helped_grid("ckks")
    assert sorted(grid.get_node_ids()) == list(NODES)
    assert sorted(each.node_id for each in grid.get_nodes()) == list(NODES)
    result = STRATEGIES["FedAvg"]().start(
        grid=grid, initial_arrays=messages(moved(0))[0].content["arrays"], num_rounds=1
    )
    assert set(result.arrays) == {"w", "bias", "steps"}
    assert not [n for n, stage in inner.asked if n == 66 and stage not in ("join", "open")]
    asked = [Message(RecordDict(), dst_node_id=66, message_type="train")]
    with pytest.raises(LocalError, match="node 66 is a helper"):
        grid.send_and_receive([*messages(moved(1)), *asked])


def test_helpers_are_found_by_asking_once_all_are_there() -> None:
    inner, _ = helped_grid("committee")
    late = inner.apps.pop(88)
    inner.apps[99] = toy_app()
    inner._nodes[99] = inner._nodes[11]
    pause = inner.clock.sleep

    def sleep(seconds: float) -> None:
        pause(seconds)
        if inner.now > 3:
            inner.apps[88] = late

    clock = type(inner.clock)(inner.clock.now, sleep)
    assert find_helpers(inner, SHARED["committee"], patience=PATIENCE, clock=clock) == (66, 77, 88)
    with pytest.raises(ParameterError, match="3 nodes say that they are helpers, and 'ckks' needs"):
        find_helpers(inner, SHARED["ckks"], clock=clock)
    del inner.apps[88]
    short = Patience(deadline=5)
    with pytest.raises(ParameterError, match="2 nodes say"):
        find_helpers(inner, SHARED["committee"], patience=short, clock=inner.clock)


@pytest.mark.parametrize(
    ("shared", "helpers"),
    [(SHARED["committee"], ()), (SHARED["ckks"], (66, 77)), (protection(), (66,))],
)
def test_another_number_of_helpers_is_refused_with_a_way_out(
    shared: Protection, helpers: tuple[int, ...]
) -> None:
    with pytest.raises(ParameterError, match="helpers="):
        SecureGrid(FakeGrid({}), shared, helpers)


def test_a_client_named_as_helper_refuses_and_so_does_a_helper_named_as_client() -> None:
    inner, _ = helped_grid("ckks")
    nodes = (11, 22, 33, 66)
    grid = SecureGrid(inner, SHARED["ckks"], (55,), patience=PATIENCE, clock=inner.clock)
    asked = [
        Message(messages(moved(1))[0].content, dst_node_id=n, message_type="train") for n in nodes
    ]
    replies = by_node(grid.send_and_receive(asked))
    assert all(reply.has_error() for reply in replies.values())
    assert "configured as the other" in grid.rounds[0].lost[66].reason
    assert "configured as the other" in grid.rounds[0].lost_helpers[55].reason


def test_a_helper_never_trains() -> None:
    inner, _ = helped_grid("ckks")
    asked = Message(messages(moved(1))[0].content, dst_node_id=66, message_type="train")
    (reply,) = inner.send_and_receive([asked])
    assert "this helper takes part in secure aggregation only" in reply.error.reason


def test_a_role_that_there_is_not_is_refused_by_name() -> None:
    app = toy_app(secure_mod(SHARED["ckks"], role=lambda _: "boss"))
    inner = FakeGrid(dict.fromkeys((*NODES, 66), app))
    grid = SecureGrid(inner, SHARED["ckks"], (66,), patience=PATIENCE, clock=inner.clock)
    assert grid.send_and_receive(messages())
    assert "secagg-role is 'boss'" in grid.rounds[0].lost[11].reason


def test_helpers_have_no_active_mode() -> None:
    with pytest.raises(ParameterError, match="leave the roster out"):
        protection(protocol="committee", options={}, roster=roster())


WITHOUT = """
import sys
sys.modules["tenseal"] = None
from fl.flower import Protection, SecureGrid, secure_mod
secure_mod(Protection(protocol="committee"))
assert not [name for name in sys.modules if name.startswith("tenseal")][1:]
try:
    Protection(protocol="ckks")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_tenseal_is_needed_by_those_who_use_it_and_the_error_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("ParameterError protocol 'ckks' needs tenseal"), done.stdout
    assert "pip install tenseal" in done.stdout
