"""What must come out of a session, worked out from the script of faults alone."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from protocols.base import SERVER, Envelope, Parameters
from protocols.driver import Fault, Script
from protocols.masking import MaskingParameters, keys
from protocols.masking.messages import FINGERPRINT_BYTES, Cohort, Shares, UnmaskAnswer
from secagg.codec import decode
from secagg.graph import neighbours
from secagg.kdf import table
from secagg.shamir import SHARE_BYTES

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


def key_holder(parameters: Parameters, present: Collection[int], faults: Script) -> Expected:
    """`ckks` and `bfv`: the key holder is heard first and last, a client before that."""
    holder = parameters.clients + 1
    joined = {u for u in present if _arrives(u, ("join",), faults)}
    uploaded = {u for u in joined if _arrives(u, ("join", "upload"), faults)}
    if not _arrives(holder, ("join",), faults):
        return Expected(abort=("join", "the key holder sent no key"))
    if len(joined) < parameters.floor:
        return _too_few("join", joined, "joined", parameters.floor)
    if len(uploaded) < parameters.floor:
        return _too_few("upload", uploaded, "uploaded", parameters.floor)
    if not _arrives(holder, ("join", "open"), faults):
        return Expected(abort=("open", "the key holder opened no sum"))
    missed = {u: "upload" if u in joined else "join" for u in everyone(parameters)}
    dropped = {u: stage for u, stage in missed.items() if u not in uploaded}
    return Expected(tuple(sorted(uploaded)), dropped)


def masking(  # noqa: C901, PLR0912 - the protocol in one view
    parameters: MaskingParameters, present: Collection[int], faults: Script, graph: Graph
) -> Expected:
    """Bonawitz et al. CCS 2017 and Bell et al. CCS 2020, followed set by set."""
    t, floor, stages = parameters.threshold, parameters.floor, parameters.stages

    def arrive(among: Collection[int], stage: str) -> set[int]:
        until = stages[: stages.index(stage) + 1]
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
    sets, asked = [u1, u2, u3], u3
    if parameters.active:
        asked = arrive(u3, "consistency")
        sets.append(asked)
        if len(asked) < floor:
            return _too_few("consistency", asked, "confirmed the survivors", floor)
    u4 = arrive(asked, "unmask")
    if len(u4) < t:
        return _too_few("unmask", u4, "answered the unmask request", t)
    gone = {u for u in u2 - u3 if near(u, u3)}
    for what, dealers in (("self-mask", u3), ("mask", gone)):
        for u in sorted(dealers):
            if (have := len(near(u, u4))) < t:
                why = f"{have} shares of the {what} seed of client {u} came back, not {t}"
                return Expected(abort=("unmask", why))
    return Expected(tuple(sorted(u3)), _first_missed(parameters, [*sets, u4]))


def _first_missed(parameters: Parameters, sets: Collection[set[int]]) -> dict[int, str]:
    missed: dict[int, str] = {}
    for stage, there in zip(parameters.stages, sets, strict=True):
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


class Revealed(NamedTuple):
    """One share that the server was given, recognised by what its dealer published of it."""

    dealer: int
    kind: str
    holder: int


def revealed(transcript: Collection[Envelope]) -> list[Revealed]:
    """Every share in every answer, whatever the server asked for: an answer names nobody."""
    published = _fingerprints(transcript)
    found = []
    for envelope in {e for e in transcript if e.sender != SERVER and e.stage == "unmask"}:
        answer, holder = decode(envelope.data, UnmaskAnswer), envelope.sender
        for kind, raw in (("self", answer.self_shares), ("mask", answer.mask_shares)):
            for at in range(0, len(raw), SHARE_BYTES):
                share = raw[at : at + SHARE_BYTES]
                (dealer,) = (
                    u
                    for (u, of, to), (context1, print_) in published.items()
                    if (of, to) == (kind, holder)
                    and _fingerprint(kind, context1, u, holder, share) == print_
                )
                found.append(Revealed(dealer, kind, holder))
    assert len(set(found)) == len(found), "one share is in an answer twice"
    return found


def _fingerprint(kind: str, context1: bytes, dealer: int, holder: int, share: bytes) -> bytes:
    held = np.array([holder]), table([share], SHARE_BYTES)
    return keys.fingerprints(kind, context1, dealer, *held).tobytes()


def _fingerprints(
    transcript: Collection[Envelope],
) -> dict[tuple[int, str, int], tuple[bytes, bytes]]:
    """The context1 under which a dealer published, and what, by dealer, kind and holder."""
    near = {
        e.to: [own.party for own in decode(e.data, Cohort).neighbours]
        for e in transcript
        if (e.sender, e.stage) == (SERVER, "advertise")
    }
    published = {}
    for e in transcript:
        if e.sender == SERVER or e.stage != "share":
            continue
        shares = decode(e.data, Shares)
        published[e.sender, "self", e.sender] = shares.context, shares.own_fingerprint
        raws = {"mask": shares.mask_fingerprints, "self": shares.self_fingerprints}
        for kind, raw in raws.items():
            for at, holder in enumerate(near[e.sender]):
                print_ = raw[at * FINGERPRINT_BYTES : (at + 1) * FINGERPRINT_BYTES]
                published[e.sender, kind, holder] = shares.context, print_
    return published


def _too_few(stage: str, there: Collection[int], what: str, need: int) -> Expected:
    return Expected(abort=(stage, f"only {len(there)} clients {what}, fewer than {need}"))


def _arrives(client: int, stages: Collection[str], faults: Script) -> bool:
    """Whether the server takes the client's message of the last of these stages, if asked."""
    *before, last = stages
    gone = any(faults.get((client, stage)) is Fault.VANISH_AFTER for stage in before)
    return not gone and faults.get((client, last)) not in LOST
