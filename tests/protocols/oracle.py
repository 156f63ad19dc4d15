"""What must come out of a session, worked out from the script of faults alone."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from protocols.base import Envelope, Parameters
from protocols.driver import Fault, Script
from protocols.masking import MaskingParameters
from protocols.masking.messages import Cohort
from secagg.codec import decode
from secagg.graph import neighbours

STAGES = ("advertise", "share", "upload", "unmask")
LOST = {Fault.LOSE_REQUEST, Fault.LOSE_REPLY, Fault.DELAY, Fault.TRUNCATE, Fault.VANISH}
Graph = Mapping[int, Collection[int]]


@dataclass(frozen=True)
class Expected:
    """A sum over `contributors`, with the first stage each other client missed, or an abort."""

    contributors: tuple[int, ...] = ()
    dropped: dict[int, str] = field(default_factory=dict)
    abort: tuple[str, str] | None = None


def one_stage(stage: str, parameters: Parameters, present: Collection[int], faults: Script):
    """Protocols in which a client sends one message."""
    there = [u for u in sorted(present) if _arrives(u, (stage,), faults)]
    if len(there) < parameters.floor:
        return Expected(abort=(stage, f"only {len(there)} clients"))
    dropped = {u: stage for u in everyone(parameters) if u not in there}
    return Expected(tuple(there), dropped)


def masking(  # noqa: C901 - the protocol in one view
    parameters: MaskingParameters, present: Collection[int], faults: Script, graph: Graph
) -> Expected:
    """Bell et al. CCS 2020, followed set by set."""
    t, floor = parameters.threshold, parameters.floor

    def arrive(among: Collection[int], stage: str) -> set[int]:
        until = STAGES[: STAGES.index(stage) + 1]
        return {u for u in among if _arrives(u, until, faults)}

    def near(u: int, among: Collection[int]) -> set[int]:
        return {u, *graph[u]} & set(among)

    u1 = arrive(present, "advertise")
    if len(u1) < floor:
        return _too_few("advertise", u1, "advertised", floor)
    u2 = arrive({u for u in u1 if len(near(u, u1)) >= t}, "share")
    if len(u2) < floor:
        return _too_few("share", u2, "shared their keys", floor)
    while lonely := {u for u in u2 if len(near(u, u2)) < t}:
        u2 -= lonely
    if len(u2) < floor:
        return _too_few("share", u2, "shared their keys with enough neighbours", floor)
    u3 = arrive(u2, "upload")
    if len(u3) < floor:
        return _too_few("upload", u3, "uploaded", floor)
    for u in sorted(u3):
        if (have := len(near(u, u3))) < t:
            why = f"client {u} uploaded, but only {have} holders of its shares"
            return Expected(abort=("upload", why))
    u4 = arrive(u3, "unmask")
    if len(u4) < t:
        return _too_few("unmask", u4, "answered the unmask request", t)
    gone = {u for u in u2 - u3 if near(u, u3)}
    for what, dealers in (("self-mask", u3), ("mask", gone)):
        for u in sorted(dealers):
            if (have := len(near(u, u4))) < t:
                why = f"{have} shares of the {what} seed of client {u} came back, not {t}"
                return Expected(abort=("unmask", why))
    return Expected(tuple(sorted(u3)), _first_missed(parameters, (u1, u2, u3, u4)))


def _first_missed(parameters: Parameters, sets: Collection[set[int]]) -> dict[int, str]:
    missed: dict[int, str] = {}
    for stage, there in zip(STAGES, sets, strict=True):
        missed |= {u: stage for u in everyone(parameters) if u not in there and u not in missed}
    return missed


def everyone(parameters: Parameters) -> range:
    """The roster."""
    return range(1, parameters.clients + 1)


def complete(parameters: MaskingParameters) -> Graph:
    """Everybody is everybody's neighbour."""
    return {u: set(everyone(parameters)) - {u} for u in everyone(parameters)}


def graph_of(parameters: MaskingParameters, transcript: Collection[Envelope]) -> Graph:
    """The graph that the server announced, or any where it did not get that far."""
    cohorts = [e.data for e in transcript if e.sender == 0 and e.stage == "advertise"]
    if not cohorts:
        return complete(parameters)
    seed = decode(cohorts[0], Cohort).graph_seed
    table = neighbours(parameters.clients, parameters.degree, seed) + 1
    return {u + 1: row for u, row in enumerate(table.tolist())}


def _too_few(stage: str, there: Collection[int], what: str, need: int) -> Expected:
    return Expected(abort=(stage, f"only {len(there)} clients {what}, fewer than {need}"))


def _arrives(client: int, stages: Collection[str], faults: Script) -> bool:
    """Whether the server takes the client's message of the last of these stages, if asked."""
    *before, last = stages
    gone = any(faults.get((client, stage)) is Fault.VANISH_AFTER for stage in before)
    return not gone and faults.get((client, last)) not in LOST
