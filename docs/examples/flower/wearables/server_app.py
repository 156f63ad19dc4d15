"""Federated averaging. The one line that secure aggregation adds is marked."""

from logging import INFO

from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.common import log
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from fl.data import find, load_test
from fl.flower import secure
from fl.models import build
from fl.training import configure, evaluate
from wearables.protection import PROTECTION

app = ServerApp()

DATA = find("wearables")


@app.main()
def main(grid: Grid, context: Context) -> None:
    """All rounds, scored on a public test set."""
    configure(threads=1)
    nodes = int(context.run_config["min-nodes"])
    strategy = FedAvg(min_available_nodes=nodes, min_train_nodes=nodes, min_evaluate_nodes=nodes)
    grid = secure(strategy, grid, PROTECTION)  # secure aggregation
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(build(DATA.widths, seed=0).state_dict()),
        train_config=ConfigRecord(
            {"lr": context.run_config["lr"], "epochs": context.run_config["epochs"]}
        ),
        num_rounds=int(context.run_config["num-server-rounds"]),
        evaluate_fn=_score,
    )
    last = max(result.evaluate_metrics_serverapp)
    log(INFO, "accuracy %.3f", result.evaluate_metrics_serverapp[last]["accuracy"])
    for each in grid.rounds:
        log(INFO, "report %s", each)


def _score(_round: int, arrays: ArrayRecord) -> MetricRecord:
    model = build(DATA.widths, seed=0)
    model.load_state_dict(arrays.to_torch_state_dict())
    score = evaluate(model, *load_test("wearables", clients=len(DATA.silos)))
    return MetricRecord({"accuracy": score.accuracy, "loss": score.loss})
