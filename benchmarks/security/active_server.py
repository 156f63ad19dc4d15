"""What a lying server gets: shares of both kinds, swapped keys, downgrades, split views."""

from collections.abc import Callable

from benchmarks.security.attack import Attack, Case, Effort, exact_proportion
from benchmarks.security.lying import BITS, LENGTH, Attempt, Lie
from benchmarks.security.opening import both_shares, split_view
from benchmarks.security.puppets import key_swap
from benchmarks.security.targets import Target
from benchmarks.security.verdict import Measured, Rule
from protocols.base import Parameters
from secagg.errors import LocalError, ParameterError

CLIENTS = 6
WEAKER = {"threshold": 2, "adversary": "semi-honest"}


def repeated(
    trick: Callable[[Target, int], Attempt],
) -> Callable[[Target, Effort], Measured | None]:
    """A share of sessions, with the first refusal as a remark."""

    def measure(target: Target, effort: Effort) -> Measured | None:
        tried = [trick(target, number) for number in range(effort.of(6, 20))]
        refusal = next((each.refusal for each in tried if each.refusal), "")
        return exact_proportion(sum(each.worked for each in tried), len(tried), refusal)

    return measure


def offered(target: Target, own: Parameters) -> Parameters:
    """The weakest session of this protocol that a server can put together at all."""
    options = {k: v for k, v in WEAKER.items() if k == "threshold" or k in target.options}
    for more in ({**options, "floor": 2}, {"floor": 2}, options):
        try:
            return target.parameters(own.clients, own.length, own.modulus_bits, **more)
        except (ParameterError, TypeError):
            continue
    return own


def threshold_downgrade(target: Target, number: int) -> Attempt:
    """Offer a session with a low threshold, and split the view in it."""
    own = target.parameters(CLIENTS, LENGTH, BITS)
    weak = offered(target, own)
    if target.family == "plain":
        return split_view(target, number)
    try:
        target.admits(target.session(weak, number), own)
    except LocalError as error:
        return Attempt(refusal=str(error))
    return split_view(target, number, weak)


def modulus_downgrade(target: Target, number: int) -> Attempt:
    """Offer a modulus in which the sum wraps: it worked if a wrong sum comes out."""
    own = target.parameters(CLIENTS, LENGTH, BITS)
    weak = target.parameters(CLIENTS, LENGTH, 8)
    try:
        target.admits(target.session(weak, number), own)
    except LocalError as error:
        return Attempt(refusal=str(error))
    lie = Lie(target, own, number)
    simulation = target.simulation(weak, lie.inputs, number)
    outcome = simulation.run()
    exact = sum(int(each[0]) for each in lie.inputs.values())
    wrong = outcome.result is not None and int(outcome.result.total[0]) != exact
    return Attempt(worked=wrong, refusal="" if wrong else str(outcome.errors[:1]))


_RULE = Rule(bar=0.5, baseline=0.0)
ATTACK = Attack(
    "a server that lies",
    "The server departs from the protocol, against real clients. Does it get one client's vector, "
    "to the last bit?",
    "Bonawitz et al., CCS 2017, section 6; Pasquini et al., CCS 2022",
    "sessions in which it worked",
    (
        Case("asks for both shares of a client", _RULE, repeated(both_shares)),
        Case("tells each another set of survivors", _RULE, repeated(split_view)),
        Case("swaps the keys for its own", _RULE, repeated(key_swap)),
        Case("offers a lower threshold", _RULE, repeated(threshold_downgrade)),
        Case("offers a smaller modulus", _RULE, repeated(modulus_downgrade)),
    ),
)
