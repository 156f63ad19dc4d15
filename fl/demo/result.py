"""What a demo keeps: `result.json`, one struct a level, written and read strictly."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import msgspec
from cryptography.hazmat.backends.openssl import backend as openssl

from fl.runner.events import AloneEnded, Event, Revived, RoundEnded
from fl.settings import Settings

LIBRARIES = ("secagg", "numpy", "numba", "cryptography", "torch", "tenseal", "msgspec")


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base: nothing but the declared fields."""


class Dataset(Struct, frozen=True):
    """Where the records come from; `sha256` is of the file that was read."""

    name: str
    source: str
    licence: str
    rows: int
    silos: tuple[str, ...]
    sha256: str


class Dropped(Struct, frozen=True):
    """A client, and the first stage in which it was missing."""

    client: int
    stage: str


class Round(Struct, frozen=True):
    """One round.

    uploaded: who is in the sum; max_abs_error: the sum against that of the same encoded
    updates, in integer steps, None without a sum; quantisation_error: the mean against that
    of the clipped updates; clipped: coordinates; upload_bytes: protocol bytes that a client
    in the sum sent, mean; aborted: why there is no sum, or empty; revived: whose process was
    killed in this round, at which stage, and started again to finish it.
    """

    round: int
    uploaded: tuple[int, ...]
    dropped: tuple[Dropped, ...]
    max_abs_error: int | None
    quantisation_error: float | None
    clipped: int
    upload_bytes: float
    stage_seconds: Mapping[str, float]
    aborted: str
    revived: tuple[Dropped, ...] = ()


class Curves(Struct, frozen=True):
    """On the public test set: one value a round, and one a client for `alone`."""

    secure: tuple[float, ...]
    plain: tuple[float, ...]
    alone: tuple[float, ...]


class DemoResult(Struct, frozen=True):
    """Everything in `result.json`. `auc` has null where the test set lacks a class; `helpers` are
    the parties beside clients and server; `engine` is `local` or `flower`, where no sum is compared
    bit for bit.
    """

    protocol: str
    suite: str
    clients: int
    seed: int
    model_parameters: int
    modulus_bits: int
    threshold: int
    dataset: Dataset
    accuracy: Curves
    auc: Mapping[str, tuple[float | None, ...]]
    rounds: tuple[Round, ...]
    seconds: float
    versions: Mapping[str, str]
    helpers: tuple[str, ...] = ()
    adversary: str = "semi-honest"
    engine: str = "local"

    @property
    def exact(self) -> bool:
        """Whether every sum was exact; a round without a sum has none to be wrong."""
        return all(not each.max_abs_error for each in self.rounds)

    @property
    def compared(self) -> bool:
        """Whether each sum was compared bit for bit, and not its mean within rounding."""
        return self.engine == "local"

    def write(self, path: Path) -> None:
        """As indented JSON."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


def read_result(path: Path) -> DemoResult:
    """The inverse of `DemoResult.write`. Raises msgspec.ValidationError."""
    return msgspec.json.decode(path.read_bytes(), type=DemoResult)


@dataclass
class Collector:
    """Gathers the events of an observed federation."""

    settings: Settings
    model_parameters: int
    ended: list[RoundEnded] = field(default_factory=list)
    alone: dict[int, AloneEnded] = field(default_factory=dict)
    revived: list[list[Revived]] = field(default_factory=lambda: [[]])

    def add(self, event: Event) -> None:
        """Keep what ends up in the result."""
        match event:
            case Revived():
                self.revived[-1].append(event)
            case RoundEnded():
                self.ended.append(event)
                self.revived.append([])
            case AloneEnded():
                self.alone[event.client] = event

    def result(self, seconds: float) -> DemoResult:
        """The result, once all rounds and baselines are in."""
        settings, verdicts = self.settings, [e.verdict for e in self.ended if e.verdict]
        scores = [self.alone[who] for who in sorted(self.alone)]
        parameters = settings.parameters(self.model_parameters)
        return DemoResult(
            protocol=settings.protocol,
            suite=settings.used_suite,
            clients=len(settings.roster),
            seed=settings.seed,
            model_parameters=self.model_parameters,
            modulus_bits=parameters.modulus_bits,
            threshold=parameters.floor,
            dataset=_dataset(settings),
            accuracy=Curves(
                secure=tuple(e.metrics.accuracy for e in self.ended),
                plain=tuple(v.plain_accuracy for v in verdicts),
                alone=tuple(score.accuracy for score in scores),
            ),
            auc={
                "secure": tuple(e.metrics.auc for e in self.ended),
                "plain": tuple(v.plain_auc for v in verdicts),
                "alone": tuple(score.auc for score in scores),
            },
            rounds=tuple(map(_round, self.ended, self.revived)),
            seconds=seconds,
            versions=_versions(),
            helpers=tuple(settings.helpers.values()),
            adversary=settings.adversary,
        )


def _round(ended: RoundEnded, revived: Sequence[Revived]) -> Round:
    result, verdict = ended.result, ended.verdict
    uploaded = result.contributors if result else ()
    dropped = result.dropped if result else {}
    sent = [ended.sent_bytes.get(who, 0) for who in uploaded]
    return Round(
        round=ended.round,
        uploaded=uploaded,
        dropped=tuple(Dropped(who, stage) for who, stage in sorted(dropped.items())),
        max_abs_error=verdict.max_abs_error if verdict and result else None,
        quantisation_error=verdict.quantisation_error if verdict and result else None,
        clipped=verdict.clipped if verdict else 0,
        upload_bytes=sum(sent) / len(sent) if sent else 0.0,
        stage_seconds=ended.stage_seconds,
        aborted=ended.reason,
        revived=tuple(Dropped(each.client, each.stage) for each in revived),
    )


def _dataset(settings: Settings) -> Dataset:
    about = settings.dataset
    return Dataset(
        about.name, about.source, about.licence, about.rows, settings.roster, about.sha256
    )


def _versions() -> dict[str, str]:
    libraries = {name: version(name) for name in LIBRARIES}
    system = {"python": platform.python_version(), "platform": platform.platform()}
    return libraries | system | {"openssl": openssl.openssl_version_text()}
