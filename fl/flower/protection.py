"""What server and clients agree on beforehand, written once and imported by both apps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from protocols.base import Parameters, Protocol, Session
from protocols.registry import load
from secagg.codec import encode
from secagg.context import roster_digest
from secagg.encoding import FixedPoint
from secagg.errors import ParameterError
from secagg.identity import Roster
from secagg.kdf import label

UPLOAD = "upload"
"""The stage in which every protocol's clients send their vectors, and so see the model."""

METRIC_BITS = 48
LEAST_BITS = 4


@dataclass(frozen=True)
class Protection:
    """How a federation is protected. A client takes part in nothing else.

    protocol: a name of the registry, options: its own (threshold, adversary, suite, …);
    clip: most that one coordinate changes in one client's training, and clips: the same for
    arrays whose names match a pattern (the first that does); max_weight: largest number of
    examples of one client, or 1 where all count the same; weight_key: the metric that counts
    them; modulus_bits: what a coordinate takes on the wire; metrics: most numbers in a reply's
    metrics, each within ±metric_range; min_clients: fewest that a client takes part with;
    roster: who the members are, in active mode. Raises ParameterError.
    """

    protocol: str = "masking"
    options: Mapping[str, Any] = field(default_factory=dict)
    clip: float = 1.0
    clips: Mapping[str, float] = field(default_factory=dict)
    max_weight: int = 4096
    weight_key: str = "num-examples"
    modulus_bits: int = 32
    metrics: int = 16
    metric_range: float = 2.0**20
    min_clients: int = 3
    roster: Roster | None = None

    def __post_init__(self) -> None:
        ranges = (self.clip, self.metric_range, *self.clips.values())
        if not all(0 < each < math.inf for each in ranges):
            raise ParameterError("clip, clips and metric_range must be positive and finite")
        if self.metrics < 0:
            raise ParameterError("metrics cannot be negative")
        if self.min_clients < 2:
            raise ParameterError("a round of fewer than 2 clients reveals one; raise min_clients")
        self.encoding(self.min_clients if self.roster is None else len(self.roster))
        if self.machines.helper is not None and self.roster is not None:
            raise ParameterError(
                f"protocol {self.protocol!r} has helpers and no active mode; leave the roster out"
            )

    @cached_property
    def machines(self) -> Protocol:
        """The protocol's folder. Raises ParameterError where what it needs is not installed."""
        try:
            return load(self.protocol)
        except ImportError as error:
            raise ParameterError(
                f"protocol {self.protocol!r} needs {error.name}, which does not import here; "
                f"install it with: pip install {error.name}"
            ) from error

    @cached_property
    def helpers(self) -> int:
        """How many helper nodes a round needs: decryptors, or the key holder."""
        if self.machines.helper is None:
            return 0
        return self.parameters(self.min_clients, 1).helpers

    @property
    def weighted(self) -> bool:
        """Whether clients count by their number of examples."""
        return self.max_weight > 1

    def encoding(self, clients: int) -> FixedPoint:
        """The finest encoding of values in [-1, 1] whose sums fit. Or ParameterError."""
        chosen = FixedPoint.filling(
            self.modulus_bits, clip=1.0, max_weight=self.max_weight, max_clients=clients
        )
        if chosen.bits < LEAST_BITS:
            raise ParameterError(
                f"{self.modulus_bits} bits leave {chosen.bits} for a value of {clients} clients "
                f"with weights up to {self.max_weight}; raise modulus_bits or lower max_weight"
            )
        return chosen

    def parameters(self, clients: int, length: int) -> Parameters:
        """The protocol's, for vectors (length,). Raises ParameterError."""
        encoding = self.encoding(clients)
        chosen = self.machines.configure_for(
            encoding, clients, length, encoding.modulus_bits, **self.options
        )
        if UPLOAD not in chosen.stages:
            raise ParameterError(f"protocol {self.protocol!r} has no stage {UPLOAD!r}")
        return chosen

    def session(
        self, session_id: bytes, nodes: Sequence[int], length: int, helpers: Sequence[int] = ()
    ) -> Session:
        """One session over these nodes, or over the roster where there is one."""
        if self.roster is None:
            names = [*map(str, nodes), *(f"helper {node}" for node in helpers)]
            members, count = roster_digest(names), len(nodes)
        else:
            members, count = self.roster.digest(), len(self.roster)
        parameters = self.parameters(count, length)
        return Session(self.protocol, parameters, session_id, members, self.roster)

    def range_of(self, array: str) -> float:
        """Most that a coordinate of this array changes."""
        for pattern, clip in self.clips.items():
            if fnmatchcase(array, pattern):
                return clip
        return self.clip

    def metric_limbs(self, clients: int) -> int:
        """Coordinates of one number of the metrics, so that it keeps its precision."""
        return -(-METRIC_BITS // (self.encoding(clients).bits - 1))

    def reserved(self, clients: int) -> int:
        """Coordinates of all metrics, the share of clipped coordinates among them."""
        return (1 + self.metrics) * self.metric_limbs(clients)

    @cached_property
    def terms(self) -> bytes:
        """How values become integers: part of every application digest."""
        clips = [label("clip", name, float(c).hex()) for name, c in self.clips.items()]
        numbers = (float(self.clip).hex(), float(self.metric_range).hex())
        counts = encode((self.max_weight, self.modulus_bits, self.metrics))
        return label("terms", *numbers, self.weight_key, counts, *clips)
