"""What an attack is: a question, and for each setting a measurement and a rule."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.security.stats import clopper_pearson, wilson
from benchmarks.security.targets import Target
from benchmarks.security.verdict import Measured, Rule


@dataclass(frozen=True)
class Effort:
    """How much is done: `quick` for the whole suite within a minute."""

    quick: bool = False

    def of(self, quick: int, full: int) -> int:
        """A count for this effort."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Case:
    """One setting of an attack.

    measure: on a target, None where the attack has no meaning there; control: the setting
    whose result on the reference shows that the attack works, this one where empty (noise
    protects the reference, too); absent: by protocol, why it has no meaning there.
    """

    setting: str
    rule: Rule
    measure: Callable[[Target, Effort], Measured | None]
    control: str = ""
    targets: Callable[[Effort], tuple[Target, ...]] | None = None
    absent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Attack:
    """Everything about one attack. `about`: a sentence; `source`: whose idea it is."""

    name: str
    about: str
    source: str
    metric: str
    cases: tuple[Case, ...]


def proportion(hits: int, trials: int, note: str = "") -> Measured:
    """A share of independent trials."""
    return Measured(hits / trials, *wilson(hits, trials), "Wilson", note)


def exact_proportion(hits: int, trials: int, note: str = "") -> Measured:
    """A share of few trials."""
    return Measured(hits / trials, *clopper_pearson(hits, trials), "Clopper-Pearson", note)
