"""`secagg bench scale`: thousands of real machines in memory, and what each stage costs them.

Every client and the server run as they would in processes of their own, one after the other;
the figures are the seconds that each party worked while all others waited, and the bytes of
the very messages that were sent.
"""

import json
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.measure import DifferentResultsError
from benchmarks.targets import seconds
from protocols.base import SERVER, Session
from protocols.driver import Fault, Options, Outcome, run
from protocols.journal import Claim, Stored, already_claimed
from protocols.masking import PROTOCOL, MaskingParameters, sparse
from secagg.rng import SystemSource

CORRUPT, SUITE, MODULUS_BITS = 0.05, "X25519", 32
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Case:
    """n clients, vectors of d values, and how many of them vanish before they upload."""

    n: int
    d: int
    dropout: float

    @property
    def parameters(self) -> MaskingParameters:
        """The smallest graph that is safe and completes with 5 % corrupt and these dropouts."""
        return sparse(
            self.n, self.d, MODULUS_BITS, corrupt=CORRUPT, dropout=self.dropout, suite=SUITE
        )


@dataclass(frozen=True)
class Cost:
    """One party in one stage: seconds of work, bytes sent and received."""

    seconds: float
    sent: int
    received: int


@dataclass(frozen=True)
class Report:
    """What a case cost. client: the median over the clients that stayed to the end.

    peak_bytes: the most memory that the process had so far, so the first case's own only.
    """

    n: int
    d: int
    dropped: int
    degree: int
    threshold: int
    client: Mapping[str, Cost]
    server: Mapping[str, Cost]
    elapsed_s: float
    peak_bytes: int


HEADLINES = (Case(10_000, 1_000, 0.1), Case(1_000, 100_000, 0.1))
GRID = (
    *(Case(n, 1_000, 0.1) for n in (250, 500, 1_000, 2_000)),
    *(Case(500, d, 0.1) for d in (10_000, 100_000)),
    *(Case(500, 1_000, dropout) for dropout in (0.0, 0.3)),
)


def measure(case: Case, progress: Progress | None = None) -> Report:
    """Run one session. Raises DifferentResultsError unless the sum is that of who stayed."""
    parameters, source = case.parameters, SystemSource()
    session = Session("masking", parameters, source.seed(), bytes(32))
    gone = range(1, round(case.n * case.dropout) + 1)
    faults = {(u, "upload"): Fault.VANISH for u in gone}
    options = Options(
        record=False, progress=progress, clock=time.perf_counter, journal=_ClaimsOnly()
    )
    began = time.perf_counter()
    inputs = _Inputs(case.n, case.d)
    outcome = run(PROTOCOL, session, inputs, source, faults=faults, options=options)
    elapsed = time.perf_counter() - began
    _check(case, outcome, len(gone))
    stayed = range(len(gone) + 1, case.n + 1)
    client, server = _costs(outcome, stayed, parameters.stages)
    return Report(
        case.n,
        case.d,
        len(gone),
        parameters.degree,
        parameters.threshold,
        client,
        server,
        elapsed,
        _peak_bytes(),
    )


def show(reports: Sequence[Report], console: Console) -> None:
    """Each stage of the first reports in full, and how the totals of all of them grow."""
    for report in reports[: len(HEADLINES)]:
        console.print(_stages(report))
    table = Table(*_GROWTH, title="a whole round", box=None)
    for report in reports:
        table.add_row(*_totals(report))
    console.print(table)


def to_json(reports: Sequence[Report]) -> str:
    """For a file."""
    return json.dumps([asdict(report) for report in reports], indent=1) + "\n"


_GROWTH = ("n", "d", "dropped", "degree", "client", "sent", "received", "server", "sent", "all")


def _stages(report: Report) -> Table:
    title = (
        f"n={report.n}, d={report.d}, {report.dropped} dropouts, degree {report.degree}, "
        f"{report.elapsed_s:.0f} s in all"
    )
    columns = ("stage", "one client", "sent", "received", "server", "sent", "received")
    table = Table(*columns, title=title, box=None)
    for stage, client in report.client.items():
        table.add_row(stage, *_cells(client), *_cells(report.server[stage]))
    return table


def _cells(cost: Cost) -> tuple[str, str, str]:
    return seconds(cost.seconds), size(cost.sent), size(cost.received)


def _totals(report: Report) -> tuple[str, ...]:
    client, server = _sum(report.client.values()), _sum(report.server.values())
    return (
        str(report.n),
        str(report.d),
        str(report.dropped),
        str(report.degree),
        *_cells(client),
        seconds(server.seconds),
        size(server.sent),
        f"{report.elapsed_s:.0f} s",
    )


def _sum(costs: Iterator[Cost] | Sequence[Cost]) -> Cost:
    each = list(costs)
    return Cost(
        sum(c.seconds for c in each), sum(c.sent for c in each), sum(c.received for c in each)
    )


def size(count: float) -> str:
    """Bytes, with a decimal prefix."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _costs(
    outcome: Outcome, stayed: range, stages: Sequence[str]
) -> tuple[dict[str, Cost], dict[str, Cost]]:
    """By stage: the median of the clients that stayed, and the server."""
    sent: dict[tuple[int, str], int] = defaultdict(int)
    received: dict[tuple[int, str], int] = defaultdict(int)
    for (sender, to, stage), count in outcome.sizes.items():
        sent[sender, stage] += count
        received[to, stage] += count

    def cost(party: int, stage: str) -> Cost:
        key = party, stage
        return Cost(outcome.seconds[key], sent[key], received[key])

    def median(stage: str) -> Cost:
        each = [cost(u, stage) for u in stayed]
        return Cost(
            statistics.median(c.seconds for c in each),
            round(statistics.median(c.sent for c in each)),
            round(statistics.median(c.received for c in each)),
        )

    return {s: median(s) for s in stages}, {s: cost(SERVER, s) for s in stages}


def _check(case: Case, outcome: Outcome, dropped: int) -> None:
    if outcome.result is None or outcome.errors:
        raise DifferentResultsError(f"{case} did not complete: {outcome.abort or outcome.errors}")
    total = sum(range(dropped + 1, case.n + 1)) % 2**MODULUS_BITS
    if not np.all(outcome.result.total == total):
        raise DifferentResultsError(f"{case}: the sum is not that of the inputs")


def _peak_bytes() -> int:
    """The most memory that this process ever had, all parties together."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class _Inputs(Mapping[int, NDArray[np.uint32]]):
    """Client u adds u everywhere; made when asked for, so that they need no memory."""

    def __init__(self, n: int, d: int) -> None:
        self._n, self._d = n, d

    def __getitem__(self, client: int) -> NDArray[np.uint32]:
        return np.full(self._d, client, np.uint32)

    def __iter__(self) -> Iterator[int]:
        return iter(range(1, self._n + 1))

    def __len__(self) -> int:
        return self._n


class _ClaimsOnly:
    """A journal that refuses a second claim and keeps nothing else: nobody restarts here."""

    def __init__(self) -> None:
        self._claims: set[tuple[bytes, int, str]] = set()

    def commit(self, claim: Claim, _stored: Stored) -> None:
        """See `protocols.journal.Journal`."""
        if claim[:3] in self._claims:
            raise already_claimed(claim)
        self._claims.add(claim[:3])

    def close(self, session: bytes, party: int, last: Stored) -> None:
        """Nothing is kept."""

    def latest(self, _session: bytes, _party: int) -> Stored | None:
        """Nothing is kept."""
        return None
