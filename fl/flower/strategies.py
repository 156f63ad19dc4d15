"""The checked front door: which of Flower's strategies a sum can serve, and which it cannot."""

from typing import Any

from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fl.flower.grid import SecureGrid
from fl.flower.protection import Protection
from secagg.errors import ParameterError

MEAN_OR_CLIENT = "FedAvg, with clipping in the clients (fixedclipping_mod)"
REFUSED = {
    "MultiKrum": ("compares single updates to leave outliers out", MEAN_OR_CLIENT),
    "Krum": ("picks one client's update", MEAN_OR_CLIENT),
    "Bulyan": ("compares single updates, and trims each coordinate", MEAN_OR_CLIENT),
    "FedMedian": ("takes the median of single updates", MEAN_OR_CLIENT),
    "FedTrimmedAvg": ("trims the extremes of single updates", MEAN_OR_CLIENT),
    "QFedAvg": ("weighs each update by its own client's loss", "FedAvg or FedProx"),
    "FedXgbBagging": ("collects each client's trees", "a model with a fixed number of parameters"),
    "FedXgbCyclic": ("hands one client's model on", "a model with a fixed number of parameters"),
    "DifferentialPrivacyServerSideFixedClipping": (
        "clips single updates on the server",
        "DifferentialPrivacyClientSideFixedClipping with fixedclipping_mod",
    ),
    "DifferentialPrivacyServerSideAdaptiveClipping": (
        "clips single updates on the server",
        "DifferentialPrivacyClientSideFixedClipping with fixedclipping_mod",
    ),
    "DifferentialPrivacyClientSideAdaptiveClipping": (
        "counts which clients clipped, by the bits in single replies",
        "DifferentialPrivacyClientSideFixedClipping with fixedclipping_mod",
    ),
}
MEANS_ONLY = frozenset(
    {
        "FedAvg",
        "FedProx",
        "FedAvgM",
        "FedOpt",
        "FedAdam",
        "FedYogi",
        "FedAdagrad",
        "DifferentialPrivacyFixedClippingBase",
        "DifferentialPrivacyClientSideFixedClipping",
    }
)
"""Flower's classes whose code was read: it needs nothing of replies but their mean."""
_OWN = "flwr.serverapp.strategy."


def secure(
    strategy: Strategy,
    grid: Grid,
    protection: Protection,
    *,
    needs_only_means: bool = False,
    **options: Any,
) -> SecureGrid:
    """The grid to start `strategy` with; `options` are those of `SecureGrid`.

    Raises ParameterError for a strategy that needs what a sum does not give. One that this
    module does not know, or that has functions of its own for metrics, is refused as well,
    unless you say that it `needs_only_means` of its clients' replies.
    """
    for each in _layers(strategy):
        _check(each, protection, needs_only_means=needs_only_means)
    return SecureGrid(grid, protection, **options)


def _layers(strategy: Any) -> list[Any]:
    """The strategy, and those that it wraps."""
    found = [strategy]
    while (inner := getattr(found[-1], "strategy", None)) is not None and len(found) < 10:
        found.append(inner)
    return found


def _check(strategy: Any, protection: Protection, *, needs_only_means: bool) -> None:
    name = type(strategy).__name__
    for kind in type(strategy).__mro__:
        if kind.__module__.startswith(_OWN) and kind.__name__ in REFUSED:
            why, instead = REFUSED[kind.__name__]
            raise ParameterError(
                f"{name} {why}, and here every reply is the mean of all; use {instead}"
            )
    key = getattr(strategy, "weighted_by_key", protection.weight_key)
    if key != protection.weight_key:
        raise ParameterError(
            f"{name} weighs by {key!r}, and the protection by {protection.weight_key!r}; make "
            "them the same"
        )
    if getattr(strategy, "accountant", None) is not None and protection.weighted:
        raise ParameterError(
            f"the accountant of {name} needs equal weights, which it cannot check in a mean; set "
            "Protection.max_weight=1"
        )
    if not needs_only_means:
        _check_known(strategy, name)


def _check_known(strategy: Any, name: str) -> None:
    """All that looks at replies must be code that is known to need their mean only."""
    for method in ("aggregate_train", "aggregate_evaluate"):
        owner = next(k for k in type(strategy).__mro__ if method in vars(k))
        if not owner.__module__.startswith(_OWN) or owner.__name__ not in MEANS_ONLY:
            raise ParameterError(
                f"{name}.{method} is unknown to this check; if it needs nothing but means of the "
                "replies, say needs_only_means=True"
            )
    for option in ("train_metrics_aggr_fn", "evaluate_metrics_aggr_fn"):
        function = getattr(strategy, option, None)
        if function is not None and not getattr(function, "__module__", "").startswith(_OWN):
            raise ParameterError(
                f"{name} has a {option} of its own, and every reply holds the mean metrics; if "
                "that is all it needs, say needs_only_means=True"
            )
