"""Whole rounds: the real machines send exactly the published bytes and get the published end."""

from typing import Any

import pytest

from protocols.masking import MaskingParameters
from secagg.codec import encode
from tests.reference.labels import digest
from tests.vectors.files import load
from tests.vectors.parties import real_client, real_server, recorded
from tests.vectors.play import Entry, Played, Script, Tamper, play, script_from_json, transcript_of

ROUNDS: list[dict[str, Any]] = load("rounds")["rounds"]
HONEST = [raw for raw in ROUNDS if "result" in raw and not raw["dishonest"]]
each_round = pytest.mark.parametrize("raw", ROUNDS, ids=lambda raw: raw["name"])


def instead(raw: dict[str, Any], entries: list[Entry]) -> Tamper:
    """What dishonest clients sent stands in the transcript: no machine makes it."""
    return {
        (u, stage): lambda _, u=u, stage=stage: [
            e.data for e in entries if (e.sender, e.stage) == (u, stage)
        ]
        for u in raw["dishonest"]
        for stage in {e.stage for e in entries if e.sender == u}
    }


def replay(raw: dict[str, Any]) -> tuple[Script, Played]:
    script, entries = script_from_json(raw), transcript_of(raw)
    clients = {u: real_client(script, u, **recorded(script, entries, u)) for u in script.seeds}
    return script, play(script, clients, real_server(script), instead(raw, entries))


def same_error(found: Any, expected: dict[str, Any]) -> None:
    assert found.name == expected["error"]
    assert expected["reason"] in found.reason
    for what in ("stage", "peer", "blame"):
        assert getattr(found, what, None) == expected.get(what), what


@each_round
def test_a_round_ends_as_published(raw: dict[str, Any]) -> None:
    _, played = replay(raw)
    assert played.transcript == transcript_of(raw)
    assert [u for u, _ in played.refusals] == [each["party"] for each in raw["refusals"]]
    for (_, found), expected in zip(played.refusals, raw["refusals"], strict=True):
        same_error(found, expected)
    if "abort" in raw:
        same_error(played.abort, raw["abort"])
        assert played.result is None
    else:
        expected = raw["result"]
        dropped = {int(u): stage for u, stage in expected["dropped"].items()}
        assert played.result == expected | {"dropped": dropped}


@pytest.mark.parametrize("raw", HONEST, ids=lambda raw: raw["name"])
def test_an_honest_round_is_the_sum_of_its_inputs(raw: dict[str, Any]) -> None:
    """Of what the file gives as inputs, in plain integers."""
    script, modulus = script_from_json(raw), 2 ** raw["parameters"]["modulus_bits"]
    gone = {u for u in script.absent if script.gone(u, "upload")}
    there = [u for u in script.values if u not in gone]
    columns = zip(*(script.values[u] for u in there), strict=True)
    assert raw["result"]["total"] == [sum(column) % modulus for column in columns]
    assert raw["result"]["contributors"] == there


@each_round
def test_the_context_hashes_the_encoded_parameters(raw: dict[str, Any]) -> None:
    encoded = encode(MaskingParameters(**raw["parameters"]))
    assert encoded.hex() == raw["encoded_parameters"]
    parts = (encoded, bytes.fromhex(raw["session_id"]), bytes.fromhex(raw["roster"]))
    assert digest("context0", "masking", *parts).hex() == raw["context0"]


def test_rounds_differ_in_what_matters() -> None:
    parameters = [raw["parameters"] for raw in ROUNDS]
    assert {p["suite"] for p in parameters} == {"X25519", "MLKEM768-X25519"}
    assert {p["adversary"] for p in parameters} == {"semi-honest", "active"}
    assert {(p["suite"], p["adversary"]) for p in parameters} >= {("MLKEM768-X25519", "active")}
    assert len({p["clients"] for p in parameters}) >= 6
    assert len({p["degree"] for p in parameters if p["degree"] < p["clients"] - 1}) >= 3
    assert len({raw["context0"] for raw in ROUNDS}) == len(ROUNDS)
    assert sum("abort" in raw for raw in ROUNDS) >= 12
    schemes = {m["scheme"] for raw in ROUNDS for m in raw["members"]}
    assert schemes == {"Ed25519", "ML-DSA-65"}
