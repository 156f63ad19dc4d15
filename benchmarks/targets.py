"""What a line should reach: the goals that this project has set itself.

A goal is stated in words, and computed from the rows of one run. "limit": share of the
machine's limit; "peer": times faster than a peer; "cost": times a peer's time; "seconds": at
most so long; "bytes": times the bytes of semi-honest mode, at most.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks.measure import Row
from secagg.signing import SCHEMES

Kind = Literal["limit", "peer", "cost", "seconds", "bytes"]


@dataclass(frozen=True)
class Target:
    """`bound` is a least ratio, or for "cost", "seconds" and "bytes" a most."""

    line: str
    kind: Kind
    bound: float
    against: str = ""

    def value(self, rows: Mapping[str, Row]) -> float | None:
        """What was reached, or None where the run does not say."""
        row = rows.get(self.line)
        if row is None:
            return None
        if self.kind == "seconds":
            return row.ours_s
        if self.kind == "bytes":
            return float(row.params["bytes"] / row.params["semi_honest_bytes"])
        other = row.limit_s if self.kind == "limit" else row.peers.get(self.against)
        if not other:
            return None
        return row.ours_s / other if self.kind == "cost" else other / row.ours_s

    def met(self, value: float) -> bool:
        """Whether that is good enough."""
        at_most = self.kind in ("cost", "seconds", "bytes")
        return value <= self.bound if at_most else value >= self.bound

    def words(self) -> str:
        """The goal."""
        return {
            "limit": f"at least {self.bound:.0%} of the limit",
            "peer": f"at least {self.bound:.3g}× faster than {self.against}",
            "cost": f"at most {self.bound:.3g}× the time of {self.against}",
            "bytes": f"at most {self.bound:.3g}× the bytes of semi-honest mode",
            "seconds": f"at most {seconds(self.bound)}",
        }[self.kind]

    def reached(self, value: float) -> str:
        """The value, as its goal is stated."""
        if self.kind == "seconds":
            return seconds(value)
        return f"{value:.0%}" if self.kind == "limit" else f"{times(value)}×"


def times(ratio: float) -> str:
    """A ratio to three digits, never in powers of ten."""
    return f"{ratio:.3g}" if ratio < 1000 else f"{ratio:.0f}"


def seconds(value: float) -> str:
    """Three digits, in the unit that suits."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


TARGETS = (
    Target("32 masks, 32-bit, 1 thread", "limit", 0.9),
    Target("32 masks, 32-bit, 1 thread", "peer", 3, "OpenSSL + NumPy"),
    Target("32 masks, 32-bit, 2 threads", "peer", 1.4, "1 thread"),
    Target("server recovery, n=500, 30% dropouts", "seconds", 4),
    Target("server recovery, n=1000, 30% dropouts", "seconds", 20),
    Target("client, whole round", "seconds", 0.25),
    Target("client, what d does not change", "seconds", 0.1),
    Target("Shamir, deal", "seconds", 1e-3),
    Target("Shamir, reconstruct 150", "seconds", 5e-3),
    Target("whole round, 30 clients, X25519", "peer", 50, "Flower SecAgg+"),
    *(
        Target(f"active mode, d={d}, {suite}", "cost", 1.3, "semi-honest mode")
        for suite in ("X25519", "MLKEM768-X25519")
        for d in (10**5, 10**6)
    ),
    *(
        Target(f"active mode, d=1, {scheme}, {suite}", "bytes", 1.5)
        for scheme in SCHEMES
        for suite in ("X25519", "MLKEM768-X25519")
    ),
    Target("NTT, 4096 points", "seconds", 8e-6),
    Target("NTT, 4096 points, AVX2", "seconds", 20e-6),
    Target("lattice, encrypt", "peer", 30, "TenSEAL CKKS"),
    Target("lattice recovery, n=500, 30% dropouts", "seconds", 0.5),
    Target("ckks client, d=1000000", "peer", 1.8, "TenSEAL, 1 thread"),
    Target("demo, one round", "cost", 1.1, "in clear"),
    Target("10 million parameters, 10 clients", "cost", 0.1, "one epoch of training"),
    Target("cold start", "seconds", 1.5),
)
