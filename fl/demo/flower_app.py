"""The demo as a Flower app: what its SuperLink and SuperNodes run, and what they tell about it.

Clients train as in the local demo. Beside that, clients and server write lines for the command
that watches (`fl.demo.flower_engine`) into a file of a private folder; no line of a client holds
anything of its update, but for one client's first upload as it was sent.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from fl.flower import Patience, Protection, SecureGrid, find_helpers, secure, secure_mod
from fl.flower.protection import UPLOAD
from fl.flower.wire import Reply, Request, is_ours, unpack
from fl.identity_files import load_roster
from fl.runner.membership import Membership
from secagg.signing import Identity

if TYPE_CHECKING:
    from fl.settings import Settings

LINES = "lines"
EVIDENCE_CLIENT = 1
JOINING = 120.0
"""Seconds in which all nodes must have joined."""
KILLED_WITHIN = 30.0
"""Seconds that the scripted victim waits in the middle of its training for the signal."""


class Line(msgspec.Struct, frozen=True, tag=True):
    """Base of what the processes tell."""


class Asked(Line, frozen=True):
    """A client's process has a message."""

    node: int
    client: int
    stage: str


class Said(Line, frozen=True):
    """It has answered, with so many protocol bytes."""

    client: int
    stage: str
    bytes: int


class Trains(Line, frozen=True):
    """It trains."""

    client: int
    round: int


class Evidence(Line, frozen=True):
    """What one client uploaded in the first round, as it was sent."""

    client: int
    upload: bytes


class Ended(Line, frozen=True):
    """From the server: a round is over, and this is the model (float32) now."""

    round: int
    model: bytes
    survivors: tuple[int, ...] = ()
    lost: dict[int, str] = {}
    seconds: dict[str, float] = {}
    aborted: str = ""


AnyLine = Asked | Said | Trains | Evidence | Ended


@dataclass(frozen=True)
class Plan:
    """What is run; the same in all processes. clip, max_weight: the local demo's, so that who does
    not train need not load the settings, and torch with them; victims: who is killed as it trains
    in round `killing`.
    """

    folder: str
    data: str
    protocol: str
    suite: str
    adversary: str
    clients: int
    rounds: int
    seed: int
    clip: float
    max_weight: int
    victims: tuple[int, ...]
    killing: int

    @cached_property
    def settings(self) -> "Settings":
        """As the command's own."""
        from fl.settings import Settings  # noqa: PLC0415 - torch

        names = ("data", "protocol", "suite", "adversary", "clients", "rounds", "seed")
        return Settings(**{name: getattr(self, name) for name in names})

    @property
    def protection(self) -> Protection:
        """The local demo's protocol, encoding and threshold."""
        options = {"suite": self.suite} if self.suite else {}
        if self.signed:
            options["adversary"] = self.adversary
        return Protection(
            protocol=self.protocol,
            options=options,
            clip=self.clip,
            max_weight=self.max_weight,
            min_clients=max(2, min(3, self.clients)),
            roster=load_roster(self.roster_file) if self.signed else None,
        )

    @property
    def signed(self) -> bool:
        """Whether the clients have identities, and sign."""
        return self.adversary != "semi-honest"

    @property
    def roster_file(self) -> Path:
        """Who the members are, in active mode."""
        return Path(self.folder) / "roster.json"

    def identity_file(self, client: int) -> Path:
        """A member's private key, in active mode."""
        return Path(self.folder) / f"client-{client}.pem"

    def identity(self, context: Context) -> Identity:
        """That of the client whose process this is."""
        return Membership(self.identity_file(_client(context)), self.roster_file).load()[0]

    def tell(self, line: Line) -> None:
        """Append a line, whole."""
        data = msgspec.json.encode(line) + b"\n"
        file = os.open(Path(self.folder) / LINES, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, data)
        finally:
            os.close(file)


def client_app(plan: Plan) -> ClientApp:
    """What each SuperNode runs."""
    identity = plan.identity if plan.signed else None
    app = ClientApp(mods=[_watched(plan), secure_mod(plan.protection, identity=identity)])

    def train(message: Message, context: Context) -> Message:
        return _train(plan, message, context)

    app.train()(train)
    return app


def server_app(plan: Plan) -> ServerApp:
    """What the SuperLink runs."""
    app = ServerApp()

    def main(grid: Grid, context: Context) -> None:
        del context
        _serve(plan, grid)

    app.main()(main)
    return app


def _client(context: Context) -> int:
    return int(context.node_config["partition-id"]) + 1


def _watched(plan: Plan) -> Callable[..., Message]:
    """A mod that tells when a message comes and when it is answered."""

    def mod(message: Message, context: Context, call_next: Callable[..., Message]) -> Message:
        client, content = _client(context), message.content
        stage = unpack(content, Request)[0].stage if is_ours(content) else ""
        first = stage == UPLOAD and _round(message) == 1
        plan.tell(Asked(context.node_id, client, stage))
        reply = call_next(message, context)
        if not reply.has_error():
            data = unpack(reply.content, Reply)[1]
            plan.tell(Said(client, stage, sum(map(len, data))))
            if first and client == EVIDENCE_CLIENT:
                plan.tell(Evidence(client, max(data, key=len)))
        return reply

    return mod


def _round(message: Message) -> int:
    return int(message.content.config_records["config"]["server-round"])  # type: ignore[arg-type,unused-ignore]


def _train(plan: Plan, message: Message, context: Context) -> Message:
    from fl.data import load_silo  # noqa: PLC0415 - torch, which only this message needs
    from fl.demo.clear import trained  # noqa: PLC0415
    from fl.models import build, load_vector, to_vector  # noqa: PLC0415
    from fl.training import configure  # noqa: PLC0415

    configure(threads=1)
    settings, client, number = plan.settings, _client(context), _round(message)
    plan.tell(Trains(client, number))
    if client in plan.victims and number == plan.killing:
        time.sleep(KILLED_WITHIN)
    model = build(settings.dataset.widths, settings.seed)
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    load_vector(model, trained(settings, client, number, to_vector(model)))
    silo = load_silo(settings.data, client - 1, seed=settings.seed, clients=plan.clients)
    metrics = MetricRecord({"num-examples": len(silo.y)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)


def _serve(plan: Plan, inner: Grid) -> None:
    from fl.models import build, to_vector  # noqa: PLC0415
    from fl.round import model_bytes  # noqa: PLC0415

    settings = plan.settings
    _wait_for(plan.clients + len(settings.helpers), inner)
    least = settings.parameters(1).floor
    strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=least, min_train_nodes=least)
    patience, helpers = Patience(deadline=120.0), find_helpers(inner, plan.protection)
    grid = secure(strategy, inner, plan.protection, helpers=helpers, patience=patience)
    model = build(settings.dataset.widths, settings.seed)

    def tell(number: int, arrays: ArrayRecord) -> MetricRecord:
        model.load_state_dict(arrays.to_torch_state_dict())
        if number:
            plan.tell(_ended(number, model_bytes(to_vector(model)), grid))
        return MetricRecord({"round": number})

    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(model.state_dict()),
        num_rounds=plan.rounds,
        evaluate_fn=tell,
    )


def _wait_for(nodes: int, grid: Grid) -> None:
    """Until all are there: the first round is with everybody."""
    end = time.monotonic() + JOINING
    while len(list(grid.get_node_ids())) < nodes and time.monotonic() < end:
        time.sleep(0.5)


def _ended(number: int, model: bytes, grid: SecureGrid) -> Ended:
    report = grid.rounds[-1]
    lost = {node: each.stage for node, each in report.lost.items()}
    return Ended(number, model, report.survivors, lost, report.seconds, report.aborted)
