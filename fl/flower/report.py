"""What a round cost and who was lost, for logs, tests and figures."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Lost:
    """Where a node was lost, and why."""

    stage: str
    reason: str
    code: int

    def __str__(self) -> str:
        return f"lost at stage {self.stage}: {self.reason}"


@dataclass
class RoundReport:
    """One secure exchange of the strategy.

    kind: its message type; survivors: nodes in the sum; lost: the others, and lost_helpers:
    helpers that failed; exchanges: messages that the server waited for, one after the other;
    seconds: by stage; sent and received: protocol bytes of all nodes, without the model; clipped:
    mean share of clipped coordinates, None without a sum; aborted: why there is no sum, or empty;
    stage: the last that began; spent: whether updates may be known in a sum; troubles: what was
    ignored.
    """

    kind: str
    survivors: tuple[int, ...] = ()
    lost: dict[int, Lost] = field(default_factory=dict)
    lost_helpers: dict[int, Lost] = field(default_factory=dict)
    exchanges: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    sent: int = 0
    received: int = 0
    clipped: float | None = None
    aborted: str = ""
    attempts: int = 0
    stage: str = ""
    spent: bool = False
    troubles: list[str] = field(default_factory=list)

    @property
    def total_seconds(self) -> float:
        """All stages."""
        return sum(self.seconds.values())

    @property
    def lost_by_stage(self) -> Mapping[str, tuple[int, ...]]:
        """Nodes by the stage that they were lost at."""
        stages = {each.stage for each in self.lost.values()}
        return {s: tuple(n for n, each in self.lost.items() if each.stage == s) for s in stages}
