"""What runs on the SuperLink and its SuperNodes in benchmarks/superlink.py.

All three kinds of training answer from one app. None does any training, and none loads what
another needs: a process that answers one message pays for its own libraries only.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from benchmarks import flower

ENGINE, SECURE = "train.engine", "train.secure"
STEP = 0.5
"""How far each client moves each value."""
JOINING = 120.0
Handler = Callable[[Message, Context], Message]


@dataclass(frozen=True)
class Plan:
    """lines: where each figure is written as it is known; length: of our model, and theirs:
    SecAgg+'s; repeats: of everything; later: secure rounds after the first, in each.
    """

    lines: str
    nodes: int
    length: int
    theirs: int
    repeats: int
    later: int


def client_app() -> ClientApp:
    """Answers with the model that it got, moved by STEP."""
    app = ClientApp()
    app.train("engine")(_moved)
    app.train("secure", mods=[_protected])(_moved)
    app.train(mods=[_secaggplus])(_moved_theirs)
    return app


def _protected(message: Message, context: Context, call_next: Handler) -> Message:
    from fl.flower import secure_mod  # noqa: PLC0415

    return secure_mod(_protection())(message, context, call_next)


def _secaggplus(message: Message, context: Context, call_next: Handler) -> Message:
    from flwr.client.mod.secure_aggregation import secaggplus_mod  # noqa: PLC0415

    return secaggplus_mod(message, context, call_next)


def _protection() -> Any:
    from fl.flower import Protection  # noqa: PLC0415

    return Protection(clip=1.0, max_weight=1024)


def _moved(message: Message, _context: Context) -> Message:
    model = message.content["arrays"]["model"].numpy()
    arrays = ArrayRecord({"model": Array(model + np.float32(STEP))})
    content = {"arrays": arrays, "metrics": MetricRecord({"num-examples": 10})}
    return Message(RecordDict(content), reply_to=message)


def _moved_theirs(message: Message, _context: Context) -> Message:
    from flwr.common import parameters_to_ndarrays  # noqa: PLC0415
    from flwr.compat.common import recorddict_compat  # noqa: PLC0415

    fit = recorddict_compat.recorddict_to_fitins(message.content, keep_input=True)
    (model,) = parameters_to_ndarrays(fit.parameters)
    return flower.trained(message, model + np.float32(STEP))


def server_app(plan: Plan) -> ServerApp:
    """Measures everything in turn, again and again."""
    app = ServerApp()

    def main(grid: Grid, context: Context) -> None:
        del context
        nodes = _nodes(grid, plan.nodes)
        _tell(plan, {"what": "warm-up", "seconds": _engine(grid, nodes, plan.length)})
        for repeat in range(plan.repeats):
            for what, figures in _everything(grid, nodes, plan):
                _tell(plan, {"what": what, "repeat": repeat, **figures})

    app.main()(main)
    return app


def _everything(grid: Grid, nodes: list[int], plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "engine", {"seconds": _engine(grid, nodes, plan.length)}
    yield "polled", {"seconds": _polled(grid, nodes, plan.length)}
    yield from _secure(grid, nodes, plan)
    yield "SecAgg+", {"seconds": _theirs(grid, nodes, plan.theirs)}


def _engine(grid: Grid, nodes: list[int], length: int) -> float:
    """One exchange as Flower's own strategies make it."""
    messages = _messages(nodes, length, ENGINE, 0)
    began = time.perf_counter()
    replies = list(grid.send_and_receive(messages))
    seconds = time.perf_counter() - began
    _check([reply.content for reply in replies if not reply.has_error()], len(nodes), 0)
    return seconds


def _polled(grid: Grid, nodes: list[int], length: int) -> float:
    """The same exchange, looked for as often as the adapter looks."""
    from fl.flower.exchange import Clock, Exchange, Patience, Pattern  # noqa: PLC0415

    exchange = Exchange(grid, Patience(), Clock())
    contents = {m.metadata.dst_node_id: m.content for m in _messages(nodes, length, ENGINE, 0)}
    began = time.perf_counter()
    found = list(exchange.ask(contents, Pattern(ENGINE, "", "engine", 600.0), len(nodes)))
    seconds = time.perf_counter() - began
    _check([r.content for _, r in found if isinstance(r, Message)], len(nodes), 0)
    return seconds


def _secure(grid: Grid, nodes: list[int], plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    """A first round and later ones, over other models."""
    from fl.flower import SecureGrid  # noqa: PLC0415

    ours = SecureGrid(grid, _protection())
    start = np.random.default_rng().integers(1, 1 << 20)  # no model twice: it would be refused
    for number in range(1 + plan.later):
        value = int(start + number)
        messages = _messages(nodes, plan.length, SECURE, value)
        began = time.perf_counter()
        replies = list(ours.send_and_receive(messages))
        seconds = time.perf_counter() - began
        _check([reply.content for reply in replies if not reply.has_error()], len(nodes), value)
        report = ours.rounds[-1]
        figures = {"seconds": seconds, "exchanges": report.exchanges, "stages": report.seconds}
        bytes_ = {"sent": report.sent, "received": report.received}
        yield "later" if number else "first", {**figures, **bytes_}


def _theirs(grid: Grid, nodes: list[int], length: int) -> float:
    began = time.perf_counter()
    mean = flower.secure_mean(grid, nodes, np.zeros(length, np.float32), len(nodes) // 2 + 1)
    seconds = time.perf_counter() - began
    np.testing.assert_allclose(mean, STEP, atol=1e-5)
    return seconds


def _messages(nodes: list[int], length: int, kind: str, value: int) -> list[Message]:
    model = Array(np.full(length, np.float32(value) / 2**20))
    content = RecordDict({"arrays": ArrayRecord({"model": model})})
    return [Message(content, dst_node_id=node, message_type=kind) for node in nodes]


def _check(contents: list[RecordDict], nodes: int, value: int) -> None:
    """A figure counts only if what came back is right."""
    if len(contents) != nodes:
        raise RuntimeError(f"{len(contents)} of {nodes} nodes answered")
    for content in contents:
        model = content["arrays"]["model"].numpy()
        np.testing.assert_allclose(model, value / 2**20 + STEP, atol=1e-5)


def _nodes(grid: Grid, count: int) -> list[int]:
    end = time.monotonic() + JOINING
    while len(nodes := sorted(grid.get_node_ids())) < count and time.monotonic() < end:
        time.sleep(0.5)
    return nodes


def _tell(plan: Plan, figures: dict[str, Any]) -> None:
    with Path(plan.lines).open("a", encoding="utf-8") as file:
        file.write(json.dumps(figures) + "\n")
