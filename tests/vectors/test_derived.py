"""What masking derives, graphs, parameters, rosters and encodings: the real code's answers."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protocols.masking import ActiveClient, Client, MaskingParameters, Server, keys
from protocols.masking.active_server import ActiveServer
from protocols.masking.bitmap import bitmap_of, members_of
from protocols.masking.messages import Keys
from secagg import errors
from secagg.codec import decode, encode
from secagg.graph import neighbours, neighbours_of, permutation
from secagg.identity import Member, PublicIdentity, Roster
from secagg.kdf import Table, table
from secagg.prg import StreamKey
from secagg.seal import suite
from tests.vectors.files import Vectors, load

MASKING, GRAPH, PARAMETERS = load("masking"), load("graph"), load("parameters")
IDENTITY, MESSAGES = load("identity"), load("messages")


def refuses(case: Vectors, call: Any) -> None:
    with pytest.raises(getattr(errors, case["error"])) as caught:
        call()
    assert case["message"] in str(caught.value)


# --- masking -----------------------------------------------------------------------------


def raw(stream: StreamKey) -> bytes:
    return stream.key + stream.iv


def row(each: bytes) -> Table:
    return table([each], len(each))


def one(party: int) -> NDArray[np.int64]:
    return np.array([party])


CALLS: dict[str, Any] = {
    "channel_key": lambda name, *a: keys.channel_keys(suite(name), *a).public.raw,
    "edge": lambda m, c, u, v: keys.edges(row(m), c, u, one(v)).tobytes(),
    "link": lambda ours, theirs: keys.links(row(ours), row(theirs)).tobytes(),
    "shares_info": keys.shares_info,
    "pair_stream": lambda s, c, u, v: raw(keys.pair_streams(row(s), c, one(u), one(v))[0]),
    "self_stream": lambda *a: raw(keys.own_stream(*a)),
    "coins_stream": lambda *a: raw(keys.coins_stream(*a)),
    "mask_commitment": lambda *a: keys.commitment("mask", *a),
    "self_commitment": lambda *a: keys.commitment("self", *a),
    "fingerprint": lambda k, c, u, v, share: keys.fingerprints(
        k, c, u, one(v), row(share)
    ).tobytes(),
    "signed_advert": lambda c, u, n, k: keys.signed_advert(c, Keys(u, n, k, b"")),
    "signed_survivors": keys.signed_survivors,
    "leaf": lambda u, n, k, s: keys.leaf(Keys(u, n, k, s)),
}


@pytest.mark.parametrize("case", MASKING["derived"], ids=lambda case: case["call"])
def test_derivations(case: Vectors) -> None:
    arguments = [bytes.fromhex(a["hex"]) if isinstance(a, dict) else a for a in case["arguments"]]
    assert CALLS[case["call"]](*arguments).hex() == case["answer"]


def test_every_derivation_has_a_vector_and_all_answers_differ() -> None:
    assert {case["call"] for case in MASKING["derived"]} == set(CALLS)
    answers = [case["answer"] for case in MASKING["derived"]]
    assert len(set(answers)) == len(answers)


@pytest.mark.parametrize("case", MASKING["bitmap"], ids=lambda case: case["bitmap"])
def test_sets(case: Vectors) -> None:
    assert bitmap_of(case["members"], case["clients"]).hex() == case["bitmap"]
    assert sorted(members_of(bytes.fromhex(case["bitmap"]), case["clients"])) == case["members"]


@pytest.mark.parametrize("case", MASKING["negative"], ids=lambda case: case["bitmap"] or "empty")
def test_refused_sets(case: Vectors) -> None:
    refuses(case, lambda: members_of(bytes.fromhex(case["bitmap"]), case["clients"]))


# --- graphs and parameters ---------------------------------------------------------------


@pytest.mark.parametrize("case", GRAPH["graph"], ids=lambda c: f"{c['clients']}/{c['degree']}")
def test_graphs(case: Vectors) -> None:
    n, degree, seed = case["clients"], case["degree"], bytes.fromhex(case["seed"])
    rows = (neighbours(n, degree, seed) + 1).tolist()
    assert rows == case["neighbours"]
    assert (permutation(n, seed) + 1).tolist() == case["ring"]
    one = [(neighbours_of(v, n, degree, seed) + 1).tolist() for v in range(n)]
    assert one == rows


@pytest.mark.parametrize("case", GRAPH["negative"], ids=lambda case: case["message"])
def test_refused_graphs(case: Vectors) -> None:
    seed = bytes.fromhex(case["seed"])
    refuses(case, lambda: neighbours(case["clients"], case["degree"], seed))


@pytest.mark.parametrize("case", PARAMETERS["good"], ids=lambda case: case["encoded"][:24])
def test_parameters(case: Vectors) -> None:
    parameters = MaskingParameters(**case["parameters"])
    parameters.check()
    assert encode(parameters).hex() == case["encoded"]


@pytest.mark.parametrize("case", PARAMETERS["negative"], ids=lambda case: case["message"])
def test_refused_parameters(case: Vectors) -> None:
    refuses(case, MaskingParameters(**case["parameters"]).check)


# --- rosters -----------------------------------------------------------------------------


def member_of(case: Vectors) -> Member:
    public = PublicIdentity(case["scheme"], bytes.fromhex(case["key"]))
    return Member(case["name"], public, case["expires"])


@pytest.mark.parametrize("case", IDENTITY["roster"], ids=lambda case: case["digest"][:8])
def test_rosters(case: Vectors) -> None:
    assert Roster(map(member_of, case["members"])).digest().hex() == case["digest"]


@pytest.mark.parametrize("case", IDENTITY["signature"])
def test_signatures(case: Vectors) -> None:
    signature, message = bytes.fromhex(case["signature"]), bytes.fromhex(case["message"])
    member_of(case["member"]).public.verify(signature, message)


def refused_identity(case: Vectors) -> object:
    match case["refused"]:
        case "signature":
            signature, said = bytes.fromhex(case["signature"]), bytes.fromhex(case["said"])
            return member_of(case["member"]).public.verify(signature, said)
        case "key":
            return PublicIdentity("Ed25519", bytes.fromhex(case["key"]))
        case "member":
            return member_of(case["member"])
    return Roster(map(member_of, case["members"]))


@pytest.mark.parametrize("case", IDENTITY["negative"], ids=lambda c: c.get("why", c["message"]))
def test_refused_identities(case: Vectors) -> None:
    refuses(case, lambda: refused_identity(case))


# --- the codec ---------------------------------------------------------------------------

RECEIVABLE = {
    **dict.fromkeys(("advert", "shares", "upload", "unmask-answer"), Server.receivable),
    **dict.fromkeys(("cohort", "inbox", "unmask-request"), Client.receivable),
    **dict.fromkeys(("survivor-set", "unmask-proof"), ActiveClient.receivable),
    "confirmation": ActiveServer.receivable,
}


def plain(value: Any) -> Any:
    """A decoded value as the file writes it."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    fields = getattr(value, "__struct_fields__", None)
    return value if fields is None else [plain(getattr(value, name)) for name in fields]


@pytest.mark.parametrize("case", MESSAGES["message"], ids=lambda case: case["tag"])
def test_messages(case: Vectors) -> None:
    data = bytes.fromhex(case["encoded"])
    message: Any = decode(data, RECEIVABLE[case["tag"]])
    assert message.__struct_config__.tag == case["tag"]
    assert message.context.hex() == case["context"]
    names = [name for name in message.__struct_fields__ if name != "context"]
    assert {name: plain(getattr(message, name)) for name in names} == case["fields"]
    assert encode(message) == data


@pytest.mark.parametrize("case", MESSAGES["negative"], ids=lambda c: f"{c['tag']}: {c['why']}")
def test_refused_messages(case: Vectors) -> None:
    kind = RECEIVABLE[case["tag"]]
    refuses(case, lambda: decode(bytes.fromhex(case["data"]), kind))


def test_every_message_has_vectors() -> None:
    assert {case["tag"] for case in MESSAGES["message"]} == set(RECEIVABLE)
    assert {case["tag"] for case in MESSAGES["negative"]} == set(RECEIVABLE)
