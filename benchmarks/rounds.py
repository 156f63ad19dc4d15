"""Whole parties and whole rounds of `masking`, on the real machines."""

import time
from collections.abc import Mapping
from functools import cache
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks import flower
from benchmarks.masks import streams_of
from benchmarks.measure import DifferentResultsError, Line, close, timed
from benchmarks.staged import ClientUnderTest, ServerUnderTest
from protocols.base import Session
from protocols.driver import Fault, Options, Outcome, run
from protocols.masking import PROTOCOL, configure
from secagg.encoding import FixedPoint
from secagg.identity import Member, Roster
from secagg.rng import SystemSource
from secagg.signing import ED25519, ML_DSA_65, Identity

HYBRID, CLASSIC = "MLKEM768-X25519", "X25519"
SIGNATURES = (ED25519, ML_DSA_65)
OFTEN, SHORT = 10, 10**5
"""Rounds of at most so many values in a row: a machine whose speed changes is seen in all its
moods."""


def client_round(d: int, neighbours: int, suite: str = HYBRID) -> Line:
    """A client from its keys to its answer, encoding included: all but training and disk.

    With d = 1 it is the part that does not grow with the vector.
    """
    parameters = configure(neighbours + 1, d + 1, 32, suite=suite)
    staged = ClientUnderTest(parameters)
    encoding = FixedPoint.filling(32, clip=1.0, max_weight=1, max_clients=neighbours + 1)
    update = np.random.default_rng(0).uniform(-1, 1, d).astype(np.float32)
    coins, size = streams_of(1)[0], 4 * parameters.masked_length

    def work(party: object) -> list[bytes]:
        words = encoding.encode_words(update, 1, coins, clip=True).words
        return staged.round(party, words)  # type: ignore[arg-type]

    def check() -> None:
        words = encoding.encode(update, 1, coins)
        if work(staged.fresh()) != staged.expected_upload(words):
            raise DifferentResultsError("the upload is not the masked vector")

    return Line(
        "client, whole round" if d > 1 else "client, what d does not change",
        {"d": d, "neighbours": neighbours, "suite": suite},
        timed(work, staged.fresh),
        check,
        bytes_per_param=size / d if d > 1 else None,
    )


def complete_client(d: int, n: int) -> Line:
    """A client on the complete graph, of a vector that is encoded already; nobody drops out.

    stages_s: the medians of five rounds before.
    """
    staged = ClientUnderTest(configure(n, d, 32, suite=CLASSIC))
    values = np.random.default_rng(0).integers(0, 2**32, d, np.uint32)

    def check() -> None:
        if staged.round(staged.fresh(), values) != staged.expected_upload(values):
            raise DifferentResultsError("the upload is not the masked vector")

    check()  # warm, before its stages are timed
    rounds = [staged.seconds_of(values) for _ in range(5)]
    stages = {name: float(f"{median(r[name] for r in rounds):.3g}") for name in rounds[0]}
    return Line(
        f"complete graph, client, n={n}",
        {"d": d, "clients": n, "dropped": 0, "suite": CLASSIC, "stages_s": stages},
        timed(lambda party: staged.round(party, values), staged.fresh),
        check,
    )


def recovery(d: int, n: int, dropout: float) -> Line:
    """The server's last stage on the complete graph: answers in, seeds back, masks off."""
    dropped = round(n * dropout)
    before = _server(n, d).after_uploads(dropped)
    return Line(
        f"server recovery, n={n}, {dropout:.0%} dropouts",
        {
            "d": d,
            "clients": n,
            "dropped": dropped,
            "threshold": before.made_by.federation.parameters.threshold,
            "suite": CLASSIC,
            "other_stages_s": {k: float(f"{v:.3g}") for k, v in before.seconds.items()},
        },
        timed(before.recover, before.fresh),
        before.check,
    )


def whole_round(d: int, clients: int, dropped: int, suite: str) -> Line:
    """All parties' processor time, from floats to the mean, every stage and every byte.

    With X25519 both sides have classical key agreement; Flower has no other.
    """
    updates, gone, mean = _updates(d, clients, dropped)
    peers = {}
    if flower.available():
        theirs = flower.Round(updates, gone, clients // 2 + 1)
        peers = {"Flower SecAgg+": timed(theirs.run, clock=time.process_time)}

    def ours() -> NDArray[np.float64]:
        return _round(updates, gone, suite)

    def check() -> None:
        close(ours(), mean, 1e-5, "mean")
        if peers:
            close(theirs.run(), mean, 1e-5, "Flower's mean")

    return Line(
        f"whole round, {clients} clients, {suite}",
        {"d": d, "clients": clients, "dropped": dropped, "suite": suite, "clock": "CPU"},
        timed(ours, times=OFTEN, clock=time.process_time),
        check,
        peers=peers,
        bytes_per_param=4.0,
    )


def active_round(d: int, clients: int, dropped: int, suite: str) -> Line:
    """The same in active mode, beside semi-honest mode: all parties' processor time."""
    updates, gone, mean = _updates(d, clients, dropped)
    source, often = SystemSource(), OFTEN // 2 if d <= SHORT else 1
    signers = {u: Identity.draw(ED25519, source) for u in updates}

    def active() -> NDArray[np.float64]:
        return _round(updates, gone, suite, signers)

    def check() -> None:
        close(active(), mean, 1e-5, "mean")

    return Line(
        f"active mode, d={d}, {suite}",
        {"d": d, "clients": clients, "dropped": dropped, "suite": suite, "clock": "CPU"},
        timed(active, times=often, clock=time.process_time),
        check,
        peers={
            "semi-honest mode": timed(
                lambda: _round(updates, gone, suite), times=often, clock=time.process_time
            )
        },
    )


def active_bytes(clients: int, suite: str, scheme: str) -> Line:
    """Active mode with a roster of this scheme beside semi-honest mode: one value, so that
    time and bytes are what does not depend on d.

    bytes, semi_honest_bytes: a client's, sent and received, of messages that really went.
    """
    updates, gone, mean = _updates(1, clients, 0)
    source = SystemSource()
    signers = {u: Identity.draw(scheme, source) for u in updates}
    sizes = {}
    for name, own in (("bytes", signers), ("semi_honest_bytes", None)):
        sizes[name] = round(sum(_outcome(updates, gone, suite, own).sizes.values()) / clients)

    def check() -> None:
        close(_round(updates, gone, suite, signers), mean, 1e-5, "mean")

    return Line(
        f"active mode, d=1, {scheme}, {suite}",
        {"d": 1, "clients": clients, "scheme": scheme, "suite": suite, "clock": "CPU", **sizes},
        timed(lambda: _round(updates, gone, suite, signers), clock=time.process_time),
        check,
        peers={
            "semi-honest mode": timed(lambda: _round(updates, gone, suite), clock=time.process_time)
        },
    )


def _updates(
    d: int, clients: int, dropped: int
) -> tuple[dict[int, NDArray[np.float32]], list[int], NDArray[np.float64]]:
    """One for each client, who drops, and the mean of the others."""
    rng = np.random.default_rng(0)
    updates = {u: rng.uniform(-1, 1, d).astype(np.float32) for u in range(1, clients + 1)}
    gone = list(updates)[:dropped]
    mean = np.mean([updates[u] for u in updates if u not in gone], axis=0, dtype=np.float64)
    return updates, gone, mean


def _round(
    updates: Mapping[int, NDArray[np.float32]],
    gone: list[int],
    suite: str,
    signers: Mapping[int, Identity] | None = None,
) -> NDArray[np.float64]:
    outcome = _outcome(updates, gone, suite, signers)
    if outcome.result is None:
        raise DifferentResultsError("the round was aborted")
    return _encoding(updates).decode(outcome.result.total)[0]


def _encoding(updates: Mapping[int, NDArray[np.float32]]) -> FixedPoint:
    return FixedPoint.filling(32, clip=1.0, max_weight=1, max_clients=len(updates))


def _outcome(
    updates: Mapping[int, NDArray[np.float32]],
    gone: list[int],
    suite: str,
    signers: Mapping[int, Identity] | None = None,
) -> Outcome:
    """A round of all parties; active where there are signers."""
    d, source = next(iter(updates.values())).size, SystemSource()
    encoding = _encoding(updates)
    adversary = "active" if signers else "semi-honest"
    parameters = configure(len(updates), d + 1, 32, suite=suite, adversary=adversary)
    roster = Roster(Member(f"{u}", signers[u].public) for u in signers) if signers else None
    digest = roster.digest() if roster else bytes(32)
    session = Session("masking", parameters, source.seed(), digest, roster)
    inputs = {
        u: encoding.encode_words(update, 1, streams_of(1)[0], clip=True).words
        for u, update in updates.items()
    }
    faults = {(u, "upload"): Fault.VANISH for u in gone}
    options = Options(record=False, signers=signers or {})
    return run(PROTOCOL, session, inputs, source, faults=faults, options=options)


@cache
def _server(n: int, d: int) -> ServerUnderTest:
    """Kept for the next dropout rate: dealing for a thousand clients takes half a minute."""
    return ServerUnderTest(configure(n, d, 32, suite=CLASSIC))


def forget() -> None:
    """Give back the memory that the server lines hold."""
    _server.cache_clear()
