"""What is refused, on either side: by name, with the stage and the way out, and never silently."""

import re
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as strategies
from flwr.serverapp.strategy import Strategy
from msgspec.structs import replace

from fl.flower import Lost, SecureGrid, secure, secure_mod
from fl.flower.state import Memory
from fl.flower.wire import RECORD, Reply, Request, pack, unpack
from secagg.errors import LocalError, ParameterError
from tests.flower.support import NODES, PATIENCE, FakeGrid, Fault, model, protection, toy_app
from tests.flower.test_rounds import (
    MASKING,
    PLAIN,
    by_node,
    check_round,
    messages,
    moved,
    secure_grid,
)
from tests.flower.test_strategies import STRATEGIES as SERVED

REFUSED = {
    "Krum": lambda s: s.Krum(num_malicious_nodes=1),
    "MultiKrum": lambda s: s.MultiKrum(num_malicious_nodes=1, num_nodes_to_select=2),
    "Bulyan": lambda s: s.Bulyan(num_malicious_nodes=1),
    "FedMedian": lambda s: s.FedMedian(),
    "FedTrimmedAvg": lambda s: s.FedTrimmedAvg(),
    "QFedAvg": lambda s: s.QFedAvg(client_learning_rate=0.1),
    "FedXgbBagging": lambda s: s.FedXgbBagging(),
    "FedXgbCyclic": lambda s: s.FedXgbCyclic(),
    "server clipping": lambda s: s.DifferentialPrivacyServerSideFixedClipping(
        s.FedAvg(), 1.0, 1.0, 5
    ),
    "server adaptive": lambda s: s.DifferentialPrivacyServerSideAdaptiveClipping(
        s.FedAvg(), 0.1, 5
    ),
    "client adaptive": lambda s: s.DifferentialPrivacyClientSideAdaptiveClipping(
        s.FedAvg(), 0.1, 5
    ),
    "Krum, wrapped": lambda s: s.DifferentialPrivacyClientSideFixedClipping(
        s.Krum(num_malicious_nodes=1), 1.0, 1.0, 5
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_strategies_that_need_single_updates_are_refused_with_a_way_out(name: str) -> None:
    grid = FakeGrid({})
    with pytest.raises(ParameterError, match=r"use |make"):
        secure(REFUSED[name](strategies), grid, PLAIN)


def test_unknown_code_that_looks_at_replies_has_to_be_vouched_for() -> None:
    class Own(strategies.FedAvg):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            return super().aggregate_train(server_round, replies)

    with pytest.raises(ParameterError, match="needs_only_means=True"):
        secure(Own(), FakeGrid({}), MASKING)
    with pytest.raises(ParameterError, match="train_metrics_aggr_fn"):
        secure(strategies.FedAvg(train_metrics_aggr_fn=max), FakeGrid({}), MASKING)
    with pytest.raises(ParameterError, match="weighs by 'n'"):
        secure(strategies.FedAvg(weighted_by_key="n"), FakeGrid({}), MASKING)
    assert secure(Own(), FakeGrid({}), MASKING, needs_only_means=True)


def test_a_strategy_that_flower_adds_later_has_to_be_vouched_for_too() -> None:
    def aggregate_train(self: Any, server_round: int, replies: Any) -> Any:
        return None, None

    members = {"__module__": "flwr.serverapp.strategy.fednew", "aggregate_train": aggregate_train}
    new = type("FedNew", (strategies.FedAvg,), members)
    with pytest.raises(ParameterError, match=r"FedNew\.aggregate_train is unknown"):
        secure(new(), FakeGrid({}), MASKING)


def test_every_strategy_of_this_flower_is_either_known_to_need_means_or_refused() -> None:
    every = [getattr(strategies, name) for name in strategies.__all__]
    kinds = {each for each in every if issubclass(each, Strategy)} - {Strategy}
    refused = {type(make(strategies)) for name, make in REFUSED.items() if "wrapped" not in name}
    assert kinds == refused | {type(make()) for make in SERVED.values()}


def test_what_differs_between_nodes_is_no_sum() -> None:
    _, grid = secure_grid()
    asked = messages()
    other = RecordDict({"arrays": model(), "config": ConfigRecord({"server-round": 9})})
    asked[2] = Message(other, dst_node_id=33, message_type="train")
    with pytest.raises(LocalError, match="node 33 differs"):
        grid.send_and_receive(asked)
    with pytest.raises(LocalError, match="one by one"):
        grid.push_messages(asked)
    with pytest.raises(LocalError, match="one by one"):
        grid.pull_messages(["x"])


def test_queries_pass_as_they_are() -> None:
    inner, grid = secure_grid()
    asked = [Message(RecordDict(), dst_node_id=n, message_type="query") for n in NODES]
    replies = list(grid.send_and_receive(asked))
    assert [r.content["q"]["id"] for r in replies] == list(NODES)
    assert list(grid.get_node_ids()) == list(inner.get_node_ids())


def mixed(odd: Any) -> tuple[FakeGrid, SecureGrid]:
    """Node 33 has another app than the rest."""
    apps = {node: toy_app(secure_mod(MASKING)) for node in NODES}
    grid = FakeGrid({**apps, 33: odd})
    return grid, SecureGrid(grid, MASKING, patience=PATIENCE, clock=grid.clock)


def set_metrics(**changes: Any) -> Any:
    def spoil(content: RecordDict) -> None:
        content["metrics"] = MetricRecord({**content["metrics"], **changes})

    return spoil


def change_arrays(content: RecordDict) -> None:
    arrays = dict(content["arrays"])
    arrays["w"] = type(arrays["w"])(np.zeros((2, 2), np.float32))
    content["arrays"] = ArrayRecord(arrays)


def not_a_number(content: RecordDict) -> None:
    arrays = dict(content["arrays"])
    arrays["w"] = type(arrays["w"])(np.full((4, 3), np.nan, np.float32))
    content["arrays"] = ArrayRecord(arrays)


def spoilt(spoil: Any) -> Any:
    return toy_app(secure_mod(MASKING), spoil=spoil)


def as_version(number: int, content: RecordDict, kind: Any) -> None:
    """As the adapter of another version would have sent it."""
    body, data = unpack(content, kind)
    content.update(pack(replace(body, version=number), data))


def older_client(message: Message, context: Context, call_next: Any) -> Message:
    reply = call_next(message, context)
    as_version(1, reply.content, Reply)
    return reply


def newer_server(message: Message, context: Context, call_next: Any) -> Message:
    as_version(9, message.content, Request)
    return call_next(message, context)


def echo(message: Message, context: Context, call_next: Any) -> Message:
    return Message(RecordDict(), reply_to=message)


THRESHOLD = protection(options={"suite": "X25519", "threshold": 4})
FIRST = r"put fl\.flower\.secure_mod\(PROTECTION\) first"
SAME = "import the same Protection in both apps"
ODD = {
    "no mod": (toy_app(), "advertise", "raised an exception", FIRST),
    "no mod, and an app that answers": (toy_app(echo), "advertise", "does not speak", FIRST),
    "another protocol": (toy_app(secure_mod(PLAIN)), "advertise", "'masking'.*'plain'", SAME),
    "an older version": (
        toy_app(older_client, secure_mod(MASKING)),
        "advertise",
        "version 1 of",
        "install the same at both ends",
    ),
    "a newer server": (
        toy_app(newer_server, secure_mod(MASKING)),
        "advertise",
        "version 9 of",
        "install the same at both ends",
    ),
    "other parameters": (toy_app(secure_mod(THRESHOLD)), "advertise", "parameters", SAME),
    "another clip": (
        toy_app(secure_mod(protection(clip=2.0))),
        "upload",
        "model or its configuration",
        SAME,
    ),
    "wants more clients": (
        toy_app(secure_mod(protection(min_clients=6))),
        "advertise",
        "5 clients.*wants 6",
        "sample more nodes",
    ),
    "other shapes": (
        spoilt(change_arrays),
        "upload",
        r"'w' has shape \(4, 3\).*\(2, 2\)",
        "return the arrays that were received",
    ),
    "NaN": (spoilt(not_a_number), "upload", "NaN", "lower the learning rate"),
    "weight too large": (
        spoilt(set_metrics(**{"num-examples": 257})),
        "upload",
        "from 1 to 256",
        "raise Protection.max_weight",
    ),
    "metric out of range": (
        spoilt(set_metrics(loss=1e9)),
        "upload",
        "a metric is not within",
        "raise Protection.metric_range",
    ),
    "metric not a number": (
        spoilt(set_metrics(loss=float("nan"))),
        "upload",
        "a metric is not within",
        "or leave it out",
    ),
    "other metrics": (
        spoilt(set_metrics(extra=1.0)),
        "upload",
        "extra.*others have",
        "return the same from all clients",
    ),
    "a configuration in the reply": (
        spoilt(lambda content: content.update({"c": ConfigRecord({"mine": 1})})),
        "upload",
        "ConfigRecord",
        "return numbers in the MetricRecord",
    ),
}


def check_named(lost: Lost, reply: Message, stage: str, what: str, way_out: str) -> None:
    """In the report, and in the Error that the strategy gets."""
    assert lost.stage == stage
    for reason in (lost.reason, reply.error.reason):
        assert re.search(f"{what}.*{way_out}", reason), reason
    assert f"stage {stage}" in reply.error.reason


@pytest.mark.parametrize("name", ODD)
def test_a_client_that_does_not_fit_is_named_with_stage_and_way_out(name: str) -> None:
    app, *expected = ODD[name]
    _, grid = mixed(app)
    replies = by_node(grid.send_and_receive(messages(moved(1))))
    assert [node for node, reply in replies.items() if reply.has_error()] == [33]
    check_named(grid.rounds[0].lost[33], replies[33], *expected)


def test_a_client_whose_arrays_change_shape_between_rounds_is_named() -> None:
    spoils: list[Any] = []
    _, grid = mixed(spoilt(lambda content: [spoil(content) for spoil in spoils]))
    check_round(grid, 1, {})
    spoils.append(change_arrays)
    replies = by_node(grid.send_and_receive(messages(moved(2), number=2)))
    assert [node for node, reply in replies.items() if reply.has_error()] == [33]
    check_named(grid.rounds[1].lost[33], replies[33], *ODD["other shapes"][1:])
    spoils.clear()
    check_round(grid, 3, {})


@pytest.mark.parametrize("stage", ["advertise", "upload", "unmask"])
def test_no_loss_and_no_round_without_a_sum_is_silent(
    stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who was lost is in the log, by name, stage and reason, and so is why there is no sum."""
    inner, grid = secure_grid()
    inner.faults = {(node, stage): Fault.ERROR for node in NODES[:3]}
    with caplog.at_level("WARNING", logger="flwr"):
        replies = list(grid.send_and_receive(messages(moved(1))))
    assert all(reply.has_error() for reply in replies)
    for node in NODES[:3]:
        assert f"node {node} lost at stage {stage}: the app crashed" in caplog.text
    assert "train round without a sum: " in caplog.text
    assert grid.rounds[0].aborted in caplog.text


def test_a_memory_of_another_version_is_named_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = Context(1, 11, {}, RecordDict({RECORD: ConfigRecord({"memory": b"old"})}), {})
    with caplog.at_level("WARNING", logger="flwr"):
        Memory(context)
    assert "of another version, as lost" in caplog.text


def test_a_client_refuses_a_server_without_protection() -> None:
    inner, _ = secure_grid()
    for kind in ("train", "evaluate"):
        replies = list(inner.send_and_receive(messages(kind=kind)))
        assert all("secure aggregation only" in reply.error.reason for reply in replies)
