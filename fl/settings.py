"""What a federation runs with, checked before anything starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fl.data import CATALOGUE, DataSet, find, silo_names
from fl.round import RoundConfig
from fl.schedule import Kill, default_script, scripted
from fl.strategy import FedAvg, Strategy, check_served
from protocols.base import Parameters, Protocol, Session
from protocols.policy import Policy
from protocols.registry import PROTOCOLS, entry, load
from secagg.context import roster_digest
from secagg.encoding import FixedPoint
from secagg.errors import ParameterError
from secagg.identity import Roster
from secagg.seal import DEFAULT_SUITE

DEFAULT_DATA = next(iter(CATALOGUE))
MODULUS_BITS = 32
STAGE_DEADLINE = 60.0
"""Seconds after which a stage is closed although a living client has not answered."""


@dataclass(frozen=True)
class Settings:
    """One federation. Raises ParameterError or DataError, in one sentence with the way out.

    adversary: what the server is assumed to be, `semi-honest` or `active`; clients: 0 means all
    natural silos (10 where there are none); drops: stage -> how many
    clients are killed there in every second round; revives: the same, and they are started again
    at once, to finish the round; both empty for the default script; rejoin: whether a client
    whose process ends otherwise is started again, once a round, while there is time; seed fixes
    the model's start, the order of the records and who is killed, and never a key.
    """

    data: str = DEFAULT_DATA
    protocol: str = "masking"
    suite: str = DEFAULT_SUITE
    adversary: str = "semi-honest"
    clients: int = 0
    rounds: int = 0
    drops: Mapping[str, int] = field(default_factory=dict)
    revives: Mapping[str, int] = field(default_factory=dict)
    rejoin: bool = True
    seed: int = 0
    strategy: Strategy = field(default_factory=FedAvg)

    def __post_init__(self) -> None:
        if self.rounds < 0 or self.clients < 0:
            raise ParameterError("clients and rounds cannot be negative")
        check_served(self.strategy, self.protocol)
        if self.signed and not entry(self.protocol).signs:
            able = ", ".join(name for name, line in PROTOCOLS.items() if line.signs)
            raise ParameterError(f"protocol {self.protocol!r} has no active mode; choose {able}")
        self.parameters(1)
        self._check_drops()

    @cached_property
    def dataset(self) -> DataSet:
        """The catalogue's line."""
        return find(self.data)

    @cached_property
    def roster(self) -> tuple[str, ...]:
        """The members' names, in order of their numbers 1..n."""
        return silo_names(self.data, self.clients or None)

    @cached_property
    def machines(self) -> Protocol:
        """The protocol's folder."""
        return load(self.protocol)

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """The protocol's stages, in order."""
        return self.parameters(1).stages

    @cached_property
    def helpers(self) -> Mapping[int, str]:
        """The parties beside clients and server, by number: what each is called."""
        parameters = self.parameters(1)
        first, count = parameters.clients + 1, parameters.helpers
        role = parameters.helper_role
        return {first + i: role if count == 1 else f"{role} {i + 1}" for i in range(count)}

    def name_of(self, party: int) -> str:
        """What errors call a client or a helper."""
        return self.helpers.get(party, f"client {party}")

    @cached_property
    def roster_digest(self) -> bytes:
        """32 bytes for the members."""
        return roster_digest(self.roster)

    @property
    def signed(self) -> bool:
        """Whether the members have identities, and sign."""
        return self.adversary != "semi-honest"

    @property
    def hides(self) -> bool:
        """Whether the server is not to learn individual updates."""
        return entry(self.protocol).hides != "nothing"

    def session(self, number: bytes, model_length: int, members: Roster | None) -> Session:
        """A session for a model of so many values; members: whose signatures count, if any."""
        digest = members.digest() if members else self.roster_digest
        return Session(self.protocol, self.parameters(model_length), number, digest, members)

    @property
    def policy(self) -> Policy:
        """What every client of this federation insists on, whatever a server proposes."""
        offered = self.parameters(1)
        return Policy(
            protocols=frozenset({self.protocol}),
            clients=offered.clients,
            floor=offered.floor,
            corrupt=offered.tolerated,
            modulus_bits=MODULUS_BITS,
            signed=self.signed,
        )

    @property
    def max_weight(self) -> int:
        """A power of two that no client's number of records exceeds, by the public size."""
        return 1 << self.dataset.rows.bit_length()

    @cached_property
    def encoding(self) -> FixedPoint:
        """The finest encoding whose sums fit the modulus."""
        return FixedPoint.filling(
            MODULUS_BITS,
            clip=self.dataset.training.clip,
            max_weight=self.max_weight,
            max_clients=len(self.roster),
        )

    @property
    def command(self) -> str:
        """The command that runs the same federation again."""
        given = {
            "data": self.data,
            "protocol": self.protocol,
            "suite": self.used_suite,
            "adversary": self.adversary if self.signed else "",
            "clients": str(len(self.roster)),
            "rounds": str(self.total_rounds),
            "seed": str(self.seed),
        }
        options = [f"--{name} {value}" for name, value in given.items() if value]
        drops = [f"--drop {stage}={count}" for stage, count in self.drops.items()]
        revives = [f"--revive {stage}={count}" for stage, count in self.revives.items()]
        return " ".join(["secagg demo", *options, *drops, *revives])

    @property
    def used_suite(self) -> str:
        """The sealing suite, or empty where the protocol seals nothing."""
        return "" if self.protocol == "plain" else self.suite

    @property
    def total_rounds(self) -> int:
        """As asked for, or as the data set's default."""
        return self.rounds or self.dataset.training.rounds

    def parameters(self, model_length: int) -> Parameters:
        """The protocol's parameters for a model of so many values, and one weight."""
        options: dict[str, Any] = {"suite": self.suite} if self.used_suite else {}
        if self.signed:
            options["adversary"] = self.adversary
        return self.machines.configure_for(
            self.encoding, len(self.roster), model_length + 1, MODULUS_BITS, **options
        )

    def round_config(self, number: int) -> RoundConfig:
        """What all clients of a round do alike."""
        training, encoding = self.dataset.training, self.encoding
        return RoundConfig(
            number,
            training.epochs,
            training.lr,
            training.batch_size,
            self.seed,
            encoding.bits,
            encoding.clip,
            encoding.max_weight,
            encoding.max_clients,
        )

    @cached_property
    def kills(self) -> tuple[Kill, ...]:
        """Who is killed when."""
        n, rounds, stages = len(self.roster), self.total_rounds, self.stages
        if self.drops or self.revives:
            return scripted(self.drops, stages, n, rounds, self.seed, self.revives)
        return default_script(stages, n, self._spare, rounds, self.seed)

    @property
    def _spare(self) -> int:
        """How many clients a round can lose and still end with a sum."""
        return len(self.roster) - self.parameters(1).floor

    def _check_drops(self) -> None:
        stages = self.stages
        for stage, count in (*self.drops.items(), *self.revives.items()):
            if stage not in stages:
                raise ParameterError(
                    f"protocol {self.protocol!r} has no stage {stage!r}; "
                    f"choose from {', '.join(stages)}"
                )
            if count < 1:
                raise ParameterError(f"{stage}={count} kills nobody; give a positive number")
        lost = sum(self.drops.values())
        if lost + sum(self.revives.values()) > len(self.roster):
            raise ParameterError(
                f"a round kills at most its {len(self.roster)} clients; drop or revive fewer"
            )
        if lost > self._spare:
            raise ParameterError(
                f"losing {lost} of {len(self.roster)} clients leaves fewer than the threshold "
                f"{self.parameters(1).floor}; drop at most {self._spare}, or add clients"
            )
