"""Optimisation inversion: images whose gradient points where the observed one does.

Geiping et al. (NeurIPS 2020): minimise 1 − cosine between gradients, here on a small CNN with
smooth activations and known labels, which favours the attacker. L-BFGS in float64.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.security.attack import Attack, Case, Effort
from benchmarks.security.inversion import CLIP, SIGMA, records
from benchmarks.security.learning import noisy
from benchmarks.security.stats import bootstrap
from benchmarks.security.targets import Target
from benchmarks.security.verdict import Measured, Rule
from benchmarks.security.views import Floats, observe
from fl.inversion import psnr

CHANNELS = 12


@lru_cache(maxsize=1)
def network() -> nn.Module:
    """Convolution, sigmoid, linear: (n, 1, 8, 8) to 10 classes."""
    generator = torch.Generator().manual_seed(11)
    model = nn.Sequential(
        nn.Conv2d(1, CHANNELS, 3, padding=1),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(64 * CHANNELS, 10),
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.5, 0.5, generator=generator)
    return model


def gradient(x: Tensor, y: Tensor, graph: bool = False) -> Tensor:
    """The gradient of the summed loss, as one vector."""
    model = network()
    loss = cross_entropy(model(x.reshape(-1, 1, 8, 8)), y, reduction="sum")
    parts = torch.autograd.grad(loss, tuple(model.parameters()), create_graph=graph)
    return torch.cat([part.flatten() for part in parts])


def invert(observed: Floats, labels: Tensor, steps: int) -> Floats:
    """Images (n, 64) for an observed gradient (d,)."""
    return _invert(observed.tobytes(), tuple(labels.tolist()), steps)


@lru_cache(maxsize=64)
def _invert(raw: bytes, labels: tuple[int, ...], steps: int) -> Floats:
    """Remembered by what was observed: protocols that give the same sum give the same images."""
    aim = torch.tensor(np.frombuffer(raw, np.float64).copy())
    y = torch.tensor(labels)
    generator = torch.Generator().manual_seed(3)
    x = 0.1 * torch.randn(len(labels), 64, generator=generator, dtype=torch.float64)
    x.requires_grad = True
    optimiser = torch.optim.LBFGS(
        [x],
        max_iter=steps,
        history_size=50,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-14,
        tolerance_change=1e-18,
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        found = gradient(x, y, graph=True)
        loss = 1 - torch.dot(found, aim) / (found.norm() * aim.norm() + 1e-30)
        loss.backward()
        return loss

    optimiser.step(closure)
    return np.nan_to_num(x.detach().numpy())


def observed(
    target: Target, n: int, message: bool, sigma: float = 0.0
) -> tuple[list[Floats], Floats, Tensor]:
    """What the server has of n clients with one image each: their messages one by one, or the
    sum; the images and their labels. With `sigma` each clips its gradient and adds noise.
    """
    images, labels = records(n)
    each = [
        gradient(torch.tensor(x[None], dtype=torch.float64), torch.tensor([y])).numpy()
        for x, y in zip(images, labels, strict=True)
    ]
    if sigma:
        each = [noisy(one, CLIP, sigma, u) for u, one in enumerate(each)]
    clip = max(float(np.abs(one).max()) for one in each)
    view = observe(target, dict(enumerate(each, 1)), clip, bits=32, individuals=message)
    found = [view.updates[u] for u in sorted(view.updates)] if message else [view.mean * n]
    return found, images.astype(np.float64), torch.tensor(labels)


def reconstructed(
    target: Target, n: int, steps: int, message: bool, sigma: float = 0.0
) -> tuple[Floats, Floats]:
    """The images (n, 64) that come back, and the PSNR of the best for each original."""
    found, images, labels = observed(target, n, message, sigma)
    groups = labels.reshape(len(found), -1)
    guesses = [invert(one, group, steps) for one, group in zip(found, groups, strict=True)]
    of = images.reshape(len(found), -1, 64)
    scores = [max(psnr(x, g) for g in gs) for gs, xs in zip(guesses, of, strict=True) for x in xs]
    return np.concatenate(guesses), np.array(scores)


def _message(target: Target, effort: Effort) -> Measured:
    return _measured(target, effort.of(2, 4), effort.of(60, 200), message=True)


def _sum(n: int, sigma: float = 0.0):  # type: ignore[no-untyped-def]
    return lambda target, effort: _measured(target, n, effort.of(150, 600), sigma=sigma)


def _measured(
    target: Target, n: int, steps: int, *, message: bool = False, sigma: float = 0.0
) -> Measured:
    _, scores = reconstructed(target, n, steps, message, sigma)
    low, high = bootstrap(scores)
    return Measured(float(scores.mean()), low, high, "bootstrap", f"{steps} steps")


_BEYOND = Rule(bar=20.0, baseline=12.0, scope="beyond")
ATTACK = Attack(
    "optimisation inversion",
    "Images are searched whose gradient on a small CNN is the observed one. How close do they "
    "come?",
    "Geiping et al., NeurIPS 2020",
    "PSNR in dB",
    (
        Case("one client's message", Rule(bar=20.0, baseline=12.0), _message),
        Case("the sum of 8", _BEYOND, _sum(8)),
        Case("the sum of 16", _BEYOND, _sum(16)),
        Case(
            "the sum of 8, clip + noise",
            _BEYOND,
            _sum(8, SIGMA),
            control="the sum of 8",
        ),
    ),
)
