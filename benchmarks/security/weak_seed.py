"""Weak mask seeds: all 2^28 of them are tried, on what a colluding server has of one upload.

Of the reference it has legitimately all masks but one (a client colludes, and self masks are
opened), and four coordinates that are zero before masking. Of others it has the message. That
the masks look random does not help: the statistical tests pass either way.
"""

import time
from typing import Any

import numba
import numpy as np

from benchmarks.security.attack import Attack, Case, Effort, exact_proportion
from benchmarks.security.lying import VICTIM
from benchmarks.security.stats import Array
from benchmarks.security.targets import Target, Words
from benchmarks.security.verdict import Measured, Rule
from benchmarks.security.views import seen
from benchmarks.security.vulnerable.client import pair_seed
from benchmarks.security.vulnerable.masks import FIRST, GOLDEN, SECOND, SPREAD, splitmix
from benchmarks.security.vulnerable.parameters import ZEROS, VulnerableParameters
from benchmarks.security.vulnerable.server import Unmask
from secagg.packing import unpack

BITS, LENGTH, CLIENTS = 32, 60, 3
SEED_BITS = 28
COLLUDES = 3


def compiled_search() -> Any:
    """The search over seeds `low` to `high`, compiled when first used."""
    spread, golden, first, second = (np.uint64(x) for x in (SPREAD, GOLDEN, FIRST, SECOND))

    @numba.njit(nogil=True, parallel=False)
    def search(low: int, high: int, start: int, target: Words, mask: np.uint64) -> int:
        for seed in range(low, high):
            base = np.uint64(seed) * spread
            found = True
            for i in range(len(target)):
                z = base + np.uint64(start + i + 1) * golden
                z = (z ^ (z >> np.uint64(30))) * first
                z = (z ^ (z >> np.uint64(27))) * second
                z = z ^ (z >> np.uint64(31))
                if z & mask != target[i]:
                    found = False
                    break
            if found:
                return seed
        return -1

    return search


_SEARCH: list[Any] = []


def search(tail: Words, bits: int, start: int, seed_bits: int = SEED_BITS) -> int:
    """The seed whose stream, from word `start` on, is `tail` modulo 2^bits; -1 for none."""
    if not _SEARCH:
        _SEARCH.append(compiled_search())
    mask = np.uint64(2**bits - 1)
    return int(_SEARCH[0](0, 2**seed_bits, start, tail.astype(np.uint64), mask))


def residual(target: Target, number: int) -> tuple[Words, Words, Words]:
    """What is left of the victim's upload once all is removed that a server and one client
    know; what its last words should be but for one mask; and the true vector.
    """
    random = np.random.default_rng([9, number])
    vector = [random.integers(0, 2**20, LENGTH, dtype=np.uint64) for _ in range(CLIENTS)]
    inputs = dict(enumerate(vector, 1))
    for words in vector:
        words[-ZEROS:] = 0
    parameters = target.parameters(CLIENTS, LENGTH, BITS)
    simulation = target.simulation(parameters, inputs, number)
    if target.is_reference:
        for stage in simulation.session.parameters.stages:
            simulation.step(stage)
        return _of_reference(simulation, parameters), inputs[VICTIM], inputs[VICTIM]
    simulation.run()
    return seen(simulation, LENGTH, BITS)[VICTIM], inputs[VICTIM], inputs[VICTIM]


def _of_reference(simulation: Any, parameters: Any) -> Words:
    """Upload less self mask, which survivors opened, less the colluding client's own mask."""
    assert isinstance(parameters, VulnerableParameters)  # noqa: S101 - by the caller
    uploads: Any = [e for e in simulation.transcript if (e.sender, e.stage) == (VICTIM, "upload")]
    from benchmarks.security.vulnerable.messages import Answer, Upload  # noqa: PLC0415
    from secagg.codec import decode  # noqa: PLC0415

    packed = decode(uploads[0].data, Upload).packed
    answers = {
        e.sender: decode(e.data, Answer)
        for e in simulation.transcript
        if e.stage == "unmask" and e.to == 0
    }
    state = simulation.parties[COLLUDES].machine.state
    keys = {key.party: key for key in state.peers}
    unmask = Unmask(parameters, state.context, keys, answers)
    bits = parameters.seed_bits
    pair = simulation.parties[COLLUDES].machine._pair(state)
    known = pair_seed(pair, keys[VICTIM].public, state.context, bits)
    words = unpack(packed, BITS, LENGTH + ZEROS).astype(np.uint64) - unmask.own(VICTIM)
    from benchmarks.security.vulnerable.masks import mask  # noqa: PLC0415

    words = words - mask(known, LENGTH + ZEROS, parameters.weak_seeds)
    return np.asarray(words & np.uint64(2**BITS - 1), np.uint64)


def attempt(target: Target, number: int, seed_bits: int = SEED_BITS) -> tuple[bool, float]:
    """Whether the victim's vector came out, and the seconds of the search."""
    words, _, true = residual(target, number)
    if np.array_equal(words[:LENGTH], true):
        return True, 0.0
    start = len(words) - ZEROS
    began = time.perf_counter()
    seed = search(words[start:], BITS, start, seed_bits)
    seconds = time.perf_counter() - began
    if seed < 0:
        return False, seconds
    found = (words - splitmix(seed, len(words))) & np.uint64(2**BITS - 1)
    return bool(np.array_equal(found[:LENGTH], true)), seconds


def monobit(words: Words) -> float:
    """z of the number of ones (NIST SP 800-22, 2.1): within ±2 for 95 % of random words."""
    ones = int(np.unpackbits(words.astype("<u4").view(np.uint8)).sum())
    bits = 32 * len(words)
    return float((2 * ones - bits) / bits**0.5)


def _measure(target: Target, effort: Effort) -> Measured:
    tries = effort.of(1, 3)
    found = [attempt(target, number) for number in range(tries)]
    seconds: Array = np.array([s for _, s in found])
    words, _, _ = residual(target, 0)
    fits = "" if target.is_reference else "none fits, its seeds have 256 bits; "
    note = f"{fits}search {seconds.max():.1f} s; monobit z of the message {monobit(words):+.1f}"
    if target.family == "plain":
        note = "there is no mask"
    return exact_proportion(sum(hit for hit, _ in found), tries, note)


ATTACK = Attack(
    "weak mask seeds",
    "Every 28-bit seed is tried. Does a mask come off?",
    "flower issue 7522; NIST SP 800-22",
    "uploads unmasked",
    (Case("search of 2^28 seeds", Rule(bar=0.99, baseline=0.0), _measure),),
)
