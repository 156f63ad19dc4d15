"""What security adds to training: the demo's federation, and a large model."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.masks import streams_of
from benchmarks.measure import DifferentResultsError, Line, close, timed
from benchmarks.staged import ClientUnderTest, ServerUnderTest
from fl.round import RoundConfig
from fl.runner.events import RoundEnded, RoundStarted
from fl.runner.federation import Federation
from fl.runner.pool import Pool
from fl.schedule import Kill
from fl.settings import Settings
from protocols.masking import configure
from secagg.encoding import FixedPoint

ROUNDS = 200
"""More than any benchmark asks for: the rounds run one at a time."""

FIRST_MASK = (
    "import numpy as np; from secagg.prg import StreamKey, add_masks; "
    "v = np.zeros(1000, np.uint32); add_masks(v, [StreamKey(bytes(16), bytes(12))], [1]); "
    "print(v.tobytes().hex())"
)
IMPORTS = "import numpy, numba, cryptography.hazmat.primitives.ciphers"


@dataclass(frozen=True)
class Undisturbed(Settings):
    """Settings under which nobody is killed. Only the server sees them.

    epochs: of local training a round, 0 for the data set's default.
    """

    epochs: int = 0

    @cached_property
    def kills(self) -> tuple[Kill, ...]:
        """Nobody."""
        return ()

    def round_config(self, number: int) -> RoundConfig:
        """With as many epochs."""
        config = super().round_config(number)
        return replace(config, epochs=self.epochs or config.epochs)


def demo_round(data: str, clients: int = 0, epochs: int = 0) -> Line:
    """A round of the demo in real processes, training included, and the same in clear.

    epochs: of local training, 0 for the demo's own.
    """
    stack = ExitStack()
    secure = _Rounds(data, clients, "masking", epochs, stack)
    plain = _Rounds(data, clients, "plain", epochs, stack)

    def check() -> None:
        secure.next()
        plain.next()
        close(secure.model, plain.model, 1e-3, "model after a round")

    return Line(
        f"demo, one round, {epochs} epochs" if epochs else "demo, one round",
        {"data": data, "clients": secure.clients, "d": secure.model.size},
        secure.next,
        check,
        peers={"in clear": plain.next},
        close=stack.close,
    )


class _Rounds:
    """One federation in processes of its own, advanced round by round."""

    def __init__(
        self, data: str, clients: int, protocol: str, epochs: int, stack: ExitStack
    ) -> None:
        options: dict[str, Any] = {"data": data, "clients": clients, "protocol": protocol}
        pool = stack.enter_context(Pool(Settings(rounds=ROUNDS, **options), observed=False))
        settings = Undisturbed(rounds=ROUNDS, epochs=epochs, **options)
        self._federation = Federation(settings, pool)
        self._events: Iterator[object] = self._federation.rounds()
        self.clients = len(self._federation.settings.roster)

    @property
    def model(self) -> np.ndarray:
        return self._federation._vector

    def next(self) -> float:
        """Seconds from the model going out to the next model."""
        began = 0.0
        for event in self._events:
            match event:
                case RoundStarted():
                    began = time.perf_counter()
                case RoundEnded(result=None, reason=reason):
                    raise DifferentResultsError(f"a round was aborted: {reason}")
                case RoundEnded():
                    return time.perf_counter() - began
        raise DifferentResultsError("no rounds are left")


def large_model(clients: int, samples: int, hidden: int) -> Line:
    """The secure part of a round beside one epoch of local training of a small CNN.

    Ours: everything one client does, and everything the server does for all clients. The
    peer: one epoch over `samples` 28 x 28 images on all cores, batches of 32.
    """
    model = _cnn(hidden)
    d = sum(p.numel() for p in model.parameters())
    parameters = configure(clients, d + 1, 32)
    client, server = ClientUnderTest(parameters), ServerUnderTest(parameters)
    encoding = FixedPoint.filling(32, clip=1.0, max_weight=1, max_clients=clients)
    update = np.random.default_rng(0).uniform(-1, 1, d).astype(np.float32)
    coins, (x, y) = streams_of(1)[0], _images(samples)

    def one_client(party: object) -> list[bytes]:
        words = encoding.encode_words(update, 1, coins, clip=True).words
        return client.round(party, words)  # type: ignore[arg-type]

    client_work = timed(one_client, client.fresh)

    def check() -> None:
        expected = client.expected_upload(encoding.encode(update, 1, coins))
        if one_client(client.fresh()) != expected:
            raise DifferentResultsError("the upload is not the masked vector")
        server.after_uploads(0).check()

    return Line(
        f"{d / 1e6:.0f} million parameters, {clients} clients",
        {"d": d, "clients": clients, "samples": samples, "batch": 32},
        lambda: client_work() + server.seconds_of_round(),
        check,
        peers={"one epoch of training": timed(lambda: _epoch(model, x, y))},
        bytes_per_param=4.0,
    )


def cold_start() -> Line:
    """From starting Python to the end of a process that made one mask, the cache being warm."""

    def check() -> None:
        found = np.frombuffer(bytes.fromhex(_python(FIRST_MASK)), np.uint32)
        from secagg import prg  # noqa: PLC0415

        reference = prg.stream(prg.StreamKey(bytes(16), bytes(12)), 1000, np.uint32)
        if not np.array_equal(found, reference):
            raise DifferentResultsError("the first mask of a fresh process is wrong")

    return Line(
        "cold start",
        {"until": "first mask, process ended", "limit": IMPORTS},
        timed(lambda: _python(FIRST_MASK)),
        check,
        limit=timed(lambda: _python(IMPORTS)),
    )


def _python(code: str) -> str:
    root = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603 - our own code
    return done.stdout.strip()


def _cnn(hidden: int) -> nn.Module:
    """Two convolutions and two dense layers; 1084 hidden units make ten million parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 12 * 12, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 10),
    )


def _images(samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(samples, 1, 28, 28, generator=generator)
    return pixels, torch.randint(0, 10, (samples,), generator=generator)


def _epoch(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    for low in range(0, len(y), 32):
        optimiser.zero_grad(set_to_none=True)
        cross_entropy(model(x[low : low + 32]), y[low : low + 32]).backward()
        optimiser.step()
