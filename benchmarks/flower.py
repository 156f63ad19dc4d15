"""Flower's own SecAgg+: its workflow and its client mod, from the installed package.

In a `Round` messages are handed over as objects: what Flower would spend on serialising, sending
and polling is not counted; benchmarks/superlink.py has it all. `available()` says whether the
package is there.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Update = NDArray[np.float32]
CLIP = 8.0
RANGE = 1 << 22


def available() -> bool:
    """Whether flwr is installed."""
    return find_spec("flwr") is not None


class Round:
    """One round over `updates` (client -> vector), all neighbours of all, each of weight 1."""

    def __init__(
        self, updates: Mapping[int, Update], dropped: Collection[int], threshold: int
    ) -> None:
        self._updates, self._dropped, self._threshold = updates, set(dropped), threshold

    def run(self) -> NDArray[np.float64]:
        """The mean of those who upload, as Flower's server computes it."""
        _quiet()
        _identify()
        grid = _Grid(self._updates, self._dropped)
        model = np.zeros_like(next(iter(self._updates.values())))
        return secure_mean(grid, tuple(self._updates), model, self._threshold)


def secure_mean(
    grid: Any, nodes: Sequence[int], model: Update, threshold: int
) -> NDArray[np.float64]:
    """The workflow over a grid of Flower's: what its server gets for `model`, of weight 1 each."""
    from flwr.app import ConfigRecord, Context, RecordDict  # noqa: PLC0415
    from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays  # noqa: PLC0415
    from flwr.compat.common import recorddict_compat  # noqa: PLC0415
    from flwr.server import workflow  # noqa: PLC0415
    from flwr.server.compat.legacy_context import LegacyContext  # noqa: PLC0415
    from flwr.server.workflow import constant  # noqa: PLC0415

    strategy = _Strategy(nodes)
    context = LegacyContext(
        Context(1, 0, {}, RecordDict(), {}),
        strategy=strategy,  # type: ignore[arg-type]
        client_manager=SimpleNamespace(num_available=lambda: len(nodes)),
    )
    config = ConfigRecord({constant.Key.CURRENT_ROUND: 1})
    context.state.config_records[constant.MAIN_CONFIGS_RECORD] = config
    record = recorddict_compat.parameters_to_arrayrecord(
        ndarrays_to_parameters([model]), keep_input=True
    )
    context.state.array_records[constant.MAIN_PARAMS_RECORD] = record
    workflow.SecAggPlusWorkflow(len(nodes), threshold, max_weight=1.0, clipping_range=CLIP)(
        grid, context
    )
    return parameters_to_ndarrays(strategy.outcome)[-1]


def trained(message: Any, update: Update) -> Any:
    """A client's reply to the workflow: `update`, of weight 1."""
    from flwr.app import Message  # noqa: PLC0415
    from flwr.common import Code, FitRes, Status, ndarrays_to_parameters  # noqa: PLC0415
    from flwr.compat.common import recorddict_compat  # noqa: PLC0415

    result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([update]), 1, {})
    content = recorddict_compat.fitres_to_recorddict(result, keep_input=False)
    return Message(content, reply_to=message)


class _Grid:
    """Delivers each message to the client's mod at once, on a copy of its configuration."""

    def __init__(self, updates: Mapping[int, Update], dropped: Collection[int]) -> None:
        from flwr.app import Context, RecordDict  # noqa: PLC0415

        self._updates, self._dropped = updates, dropped
        self._contexts = {u: Context(1, u, {}, RecordDict(), {}) for u in updates}

    def send_and_receive(
        self, messages: Sequence[Any], *, timeout: float | None = None
    ) -> list[Any]:
        """The replies of the clients that are still there; `timeout` is not needed."""
        return [reply for each in messages if (reply := self._reply(each)) is not None]

    def _reply(self, message: Any) -> Any:
        from flwr.app import ConfigRecord, Message, RecordDict  # noqa: PLC0415
        from flwr.client.mod.secure_aggregation import secaggplus_mod  # noqa: PLC0415
        from flwr.common.secure_aggregation import secaggplus_constants as names  # noqa: PLC0415

        client = message.metadata.dst_node_id
        config = message.content.config_records[names.RECORD_KEY_CONFIGS]
        stage = config[names.Key.STAGE]
        if client in self._dropped and stage == names.Stage.COLLECT_MASKED_VECTORS:
            return None
        content = RecordDict(dict(message.content.items()))
        content[names.RECORD_KEY_CONFIGS] = ConfigRecord(dict(config))
        own = Message(content=content, metadata=message.metadata)
        return secaggplus_mod(own, self._contexts[client], self._train)

    def _train(self, message: Any, context: Any) -> Any:
        return trained(message, self._updates[context.node_id])


class _Strategy:
    """Takes everybody, and keeps what comes out."""

    def __init__(self, clients: Sequence[int]) -> None:
        self._clients = clients
        self.outcome: Any = None

    def configure_fit(self, _round: int, parameters: Any, _manager: object) -> list[Any]:
        """Everybody fits the same model."""
        from flwr.common import FitIns  # noqa: PLC0415

        return [(SimpleNamespace(node_id=u), FitIns(parameters, {})) for u in self._clients]

    def aggregate_fit(self, _round: int, results: Sequence[Any], _failures: object) -> Any:
        """The workflow has put the mean into every result."""
        self.outcome = results[0][1].parameters
        return self.outcome, {}


def _quiet() -> None:
    logging.getLogger("flwr").setLevel(logging.ERROR)


def _identify() -> None:
    """Messages of Flower need to know the task that makes them, since 1.41."""
    try:
        from flwr.supercore.task_identity import TaskIdentity  # noqa: PLC0415
    except ImportError:
        return
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
