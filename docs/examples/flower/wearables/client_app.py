"""Trains on one person's records. The one line that secure aggregation adds is marked.

On SuperNodes each message has a process of its own, and three of a secure round's four only
speak the protocol: so what is heavy to import (torch) is imported where it is used.
"""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fl.data import find, load_silo
from fl.flower import secure_mod
from wearables.protection import PROTECTION

app = ClientApp(mods=[secure_mod(PROTECTION)])  # secure aggregation: first in the list

DATA = find("wearables")


@app.train()
def train_model(message: Message, context: Context) -> Message:
    """Some epochs of SGD from the model received."""
    from fl.training import evaluate, train

    silo = _silo(context)
    model = _model(message)
    config = message.content["config"]
    train(
        model,
        silo.x,
        silo.y,
        epochs=int(config["epochs"]),
        lr=float(config["lr"]),
        batch_size=DATA.training.batch_size,
        seed=int(config["server-round"]),
    )
    score = evaluate(model, silo.x, silo.y)
    return _reply(message, model, {"train-loss": score.loss, "num-examples": len(silo.y)})


@app.evaluate()
def evaluate_model(message: Message, context: Context) -> Message:
    """How well the model does on this person's records."""
    from fl.training import evaluate

    silo = _silo(context)
    score = evaluate(_model(message), silo.x, silo.y)
    metrics = {"accuracy": score.accuracy, "num-examples": len(silo.y)}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


def _silo(context: Context):
    return load_silo("wearables", int(context.node_config["partition-id"]))


def _model(message: Message):
    from fl.models import build
    from fl.training import configure

    configure(threads=1)
    model = build(DATA.widths, seed=0)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    return model


def _reply(message: Message, model, metrics: dict) -> Message:
    content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord(metrics)}
    return Message(RecordDict(content), reply_to=message)
