"""Messages that are refused: the real machines answer with the published error and blame."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from protocols.base import Aborted
from tests.reference.errors import Refusal
from tests.vectors.files import FOLDER, load
from tests.vectors.parties import RealParty, real_client, real_server, recorded
from tests.vectors.play import Entry, script_from_json, transcript_of
from tests.vectors.refusals import advance
from tests.vectors.test_rounds import same_error

ROUNDS = {raw["name"]: raw for raw in load("rounds")["rounds"]}
REFUSALS: list[dict[str, Any]] = load("refusals")["refusals"]


def party_before(case: dict[str, Any]) -> tuple[RealParty, list[Entry]]:
    raw = ROUNDS[case["round"]]
    script, entries = script_from_json(raw), transcript_of(raw)
    me = case["party"]
    party: Any = real_server(script)
    if me:
        party = real_client(script, me, **recorded(script, entries, me))
    advance(party, me, entries[: case["at"]])
    return party, entries


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: f"{case['round']}: {case['why']}")
def test_a_refusal(case: dict[str, Any]) -> None:
    party, _ = party_before(case)
    machine = party.machine
    before = machine.snapshot()
    with pytest.raises(Refusal) as caught:
        party.hear(case["sender"], bytes.fromhex(case["data"]))
    same_error(caught.value, case)
    if case["error"] == "ProtocolAborted":
        assert isinstance(machine.state, Aborted)
        assert machine.state.blame == tuple(case["blame"])
    else:
        assert machine.snapshot() == before


@pytest.mark.parametrize("name", ["gone at upload", "active, gone at upload", "degree 4, one gone"])
def test_what_was_replaced_is_taken(name: str) -> None:
    """The same places, with the message that really stands there."""
    places = {
        (c["at"], c["party"]): c
        for c in REFUSALS
        if c["round"] == name and not c["why"].endswith("once more")
    }
    for (index, _), case in places.items():
        party, entries = party_before(case)
        party.hear(entries[index].sender, entries[index].data)


def reasons() -> Iterator[str]:
    """Of all that is refused or aborted in any file of masking."""
    yield from (case["reason"] for case in REFUSALS)
    for raw in ROUNDS.values():
        yield from (
            each["reason"] for each in [*raw["refusals"], *filter(None, [raw.get("abort")])]
        )
    yield from (case["message"] for case in load("shamir")["negative"])


def test_every_reason_of_the_specification_is_some_vectors() -> None:
    """What stands in italics in sections 2 to 5."""
    page = (FOLDER.parents[1] / "docs" / "spec.md").read_text("utf-8")
    body = page[page.index("## 2 Codec") : page.index("## 6 Sizes")]
    found = re.findall(r"(?<!\*)\*(?![\s*])([^*|]+?)(?<!\s)\*(?!\*)", body)
    said, given = [" ".join(each.split()) for each in found], list(reasons())
    assert len(set(said)) > 50
    assert [each for each in said if each != "keys" and not any(each in r for r in given)] == []


def test_each_tag_is_refused_in_each_mode() -> None:
    """And active clients abort where others only refuse."""
    count = Counter((c["round"].startswith("active"), c["why"].split(":")[0]) for c in REFUSALS)
    assert min(count.values()) >= 4
    cohorts = [c for c in REFUSALS if c["why"] == "cohort: another root"]
    errors = {c["round"].startswith("active"): c["error"] for c in cohorts}
    assert errors == {True: "ProtocolAborted", False: "PeerError"}
