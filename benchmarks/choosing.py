"""The protocols side by side: one session of each in memory, what it costs each party.

`python -m benchmarks.choosing docs/choosing.md` measures and renews the tables of that page.
Time is processor time of the real machines, the journal in memory; encoding and training are
the same for all and not counted. Bytes are those of the messages.
"""

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import describe
from benchmarks.measure import DifferentResultsError
from protocols.base import SERVER, Parameters, Session
from protocols.driver import Fault, Options, Outcome, Simulation
from protocols.registry import PROTOCOLS, load
from secagg.encoding import FixedPoint
from secagg.errors import ProtocolAborted
from secagg.identity import Member, Roster
from secagg.rng import SystemSource
from secagg.signing import ED25519, Identity
from secagg.warm import warm_up

BITS, CLIENTS = 32, 10
LENGTHS = (10**4, 10**6)
REPEATS = 3
START, END = "<!-- measured -->\n", "<!-- end -->"

Vector = NDArray[np.uint32]


@dataclass(frozen=True)
class Cost:
    """Of one session without dropouts: medians over the repeats.

    client_s, server_s, helper_s: processor seconds of a client (median), of the server and of
    all helpers; up, down: bytes a client sends and receives; exchanges: how often a client
    speaks; error: largest difference to the exact sum, in units of the encoding.
    """

    name: str
    length: int
    client_s: float
    server_s: float
    helper_s: float
    up: float
    down: float
    exchanges: int
    error: int


@dataclass(frozen=True)
class Contender:
    """A protocol with the parameters in which it is compared."""

    name: str
    protocol: str
    options: Mapping[str, Any]

    def parameters(self, length: int, encoding: FixedPoint) -> Parameters:
        """For vectors that `encoding` made."""
        protocol = load(self.protocol)
        return protocol.configure_for(encoding, CLIENTS, length, BITS, **self.options)


CONTENDERS = (
    *(Contender(name, name, {}) for name in PROTOCOLS if name != "masking"),
    Contender("masking", "masking", {}),
    Contender("masking, active", "masking", {"adversary": "active"}),
)


def measure(length: int) -> Iterator[Cost]:
    """Every contender on the same vectors, one after the other."""
    encoding = FixedPoint.filling(BITS, clip=1.0, max_weight=1, max_clients=CLIENTS)
    rng = np.random.default_rng(0)
    inputs = {
        u: rng.integers(0, 2**encoding.bits, length, np.uint32) for u in range(1, CLIENTS + 1)
    }
    for each in sorted(CONTENDERS, key=lambda c: (c.name != "plain", c.name)):
        runs = [_run(each, length, encoding, inputs) for _ in range(REPEATS)]
        yield Cost(
            each.name,
            length,
            *(statistics.median(getattr(r, field) for r in runs) for field in _MEASURED),
            up=runs[0].up,
            down=runs[0].down,
            exchanges=runs[0].exchanges,
            error=max(r.error for r in runs),
        )


_MEASURED = ("client_s", "server_s", "helper_s")


def _run(each: Contender, length: int, encoding: FixedPoint, inputs: Mapping[int, Vector]) -> Cost:
    simulation = _simulation(each, length, encoding, inputs)
    outcome = simulation.run()
    if outcome.result is None:
        raise DifferentResultsError(f"{each.name}: {outcome.abort}")
    exact = sum(v.astype(np.uint64) for v in inputs.values()) % 2**BITS
    apart = outcome.result.total.astype(np.int64) - exact.astype(np.int64)
    return Cost(each.name, length, *_spent(outcome), error=int(np.abs(apart).max()))


def _simulation(
    each: Contender,
    length: int,
    encoding: FixedPoint,
    inputs: Mapping[int, Vector],
    faults: Mapping[tuple[int, str], Fault] | None = None,
) -> Simulation:
    source, parameters = SystemSource(), each.parameters(length, encoding)
    signers = {u: Identity.draw(ED25519, source) for u in inputs} if parameters.signed else {}
    roster = Roster(Member(f"{u}", key.public) for u, key in signers.items()) if signers else None
    digest = roster.digest() if roster else bytes(32)
    session = Session(each.protocol, parameters, source.seed(), digest, roster)
    options = Options(record=False, clock=time.process_time, signers=signers)
    return Simulation(load(each.protocol), session, inputs, source, faults=faults, options=options)


def _spent(outcome: Outcome) -> tuple[float, float, float, float, float, int]:
    """Seconds by role, and what a client sends, receives, and how often it speaks."""
    clients = range(1, CLIENTS + 1)
    by_party: dict[int, float] = defaultdict(float)
    for (party, _), spent in outcome.seconds.items():
        by_party[party] += spent
    client = statistics.median(by_party[u] for u in clients)
    helpers = sum(spent for party, spent in by_party.items() if party > CLIENTS)
    up = statistics.median(
        sum(b for (sender, _, _), b in outcome.sizes.items() if sender == u) for u in clients
    )
    down = statistics.median(
        sum(b for (_, to, _), b in outcome.sizes.items() if to == u) for u in clients
    )
    exchanges = len({stage for sender, _, stage in outcome.sizes if sender == 1})
    return client, by_party[SERVER], helpers, up, down, exchanges


def survives(each: Contender) -> dict[str, bool]:
    """By stage in which clients speak: whether the sum is exact although two vanish there."""
    length, found = 1000, {}
    encoding = FixedPoint.filling(BITS, clip=1.0, max_weight=1, max_clients=CLIENTS)
    inputs = {u: np.full(length, u, np.uint32) for u in range(1, CLIENTS + 1)}
    for stage in each.parameters(length, encoding).client_stages:
        faults = {(u, stage): Fault.VANISH for u in (3, 7)}
        try:
            result = _simulation(each, length, encoding, inputs, faults).run().result
        except ProtocolAborted:
            result = None
        found[stage] = result is not None and int(result.total[0]) == sum(result.contributors)
    return found


def tables(costs: Sequence[Cost]) -> str:
    """The measured part of the page."""
    machine = describe()
    where = f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}"
    lines = [
        f"{CLIENTS} clients, {BITS}-bit sums, one run, medians of {REPEATS}; {where}. "
        "`python -m benchmarks.choosing docs/choosing.md` measures again.\n",
    ]
    for length in LENGTHS:
        lines += [
            f"**d = {length:,}**\n",
            "| protocol | client CPU | server CPU | helpers' CPU | client sends | a value | "
            "client receives | speaks | error |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *(_line(cost) for cost in costs if cost.length == length),
            "",
        ]
    lines += ["Two of ten clients vanish at a stage, and the sum of the others is exact:\n"]
    for each in sorted(CONTENDERS, key=lambda c: (c.name != "plain", c.name)):
        stages = survives(each)
        words = ", ".join(f"{stage} {'yes' if ok else '**no**'}" for stage, ok in stages.items())
        lines.append(f"- {each.name}: {words}")
    return "\n".join(lines) + "\n"


def _line(cost: Cost) -> str:
    helpers = _ms(cost.helper_s) if cost.helper_s else "–"
    error = "exact" if cost.error == 0 else f"± {cost.error}"
    cells = (
        cost.name,
        _ms(cost.client_s),
        _ms(cost.server_s),
        helpers,
        _kb(cost.up),
        f"{cost.up / cost.length:.2f} B",
        _kb(cost.down),
        f"{cost.exchanges}×",
        error,
    )
    return f"| {' | '.join(cells)} |"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.1 else f"{seconds * 1e3:.0f} ms"


def _kb(count: float) -> str:
    return f"{count / 1e3:,.1f} kB" if count < 1e6 else f"{count / 1e6:,.2f} MB"


def main(page: Path) -> None:
    """Measure, and renew the page between its marks."""
    for _ in warm_up():
        pass
    costs = [cost for length in LENGTHS for cost in measure(length)]
    before, rest = page.read_text("utf-8").split(START)
    page.write_text(before + START + tables(costs) + END + rest.split(END, 1)[1], "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
