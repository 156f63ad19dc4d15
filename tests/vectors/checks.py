"""What it means that the reference passes a vector: one check for each section of each file.

Each vector is read from its file and given to tests.reference, as another implementation would
be. A check fails where the answer, or the error, is not the published one.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.reference import derivations as d
from tests.reference import fixed, graph, merkle, shamir, streams
from tests.reference.curve import x25519_public
from tests.reference.errors import Decode, Local, Refusal
from tests.reference.hpke import (
    dhkem_encapsulate,
    hpke_open,
    key_schedule,
    public_of,
    xwing_decapsulate,
    xwing_encapsulate,
)
from tests.reference.identity import check_identity, check_member
from tests.reference.labels import derive, digest, hkdf_expand, hkdf_extract, label, xor
from tests.reference.seal import SEED, KeyPair, check_key, encapsulate_with
from tests.reference.session import Member, Parameters, identity_digest
from tests.reference.wire import FIELDS, Message, decode
from tests.vectors.files import Vectors, load
from tests.vectors.parties import plain_client, plain_server, recorded
from tests.vectors.play import play, played_to_json, script_from_json, transcript_of
from tests.vectors.primitives import context_reference, from_json
from tests.vectors.refusals import ONCE_MORE, advance
from tests.vectors.test_rounds import instead, same_error

unhex = bytes.fromhex
ROUNDS = {raw["name"]: raw for raw in load("rounds")["rounds"]}


def equal(found: object, expected: object) -> None:
    assert found == expected


ERRORS = (Refusal, ArithmeticError, TypeError, ValueError)


def refuses(case: Vectors, call: Callable[[], object]) -> None:
    """With the class that the vector names, and words that contain its fragment."""
    with pytest.raises(ERRORS) as caught:
        call()
    assert getattr(caught.value, "name", caught.type.__name__) == case["error"]
    assert case["message"] in str(caught.value)


# --- labels, contexts, trees -------------------------------------------------------------


def check_rfc5869(case: Vectors) -> None:
    ikm, salt, info, okm = (unhex(case[name]) for name in ("ikm", "salt", "info", "okm"))
    equal(hkdf_expand(hkdf_extract(salt, ikm), info, len(okm)), okm)


def check_label(case: Vectors) -> None:
    parts = [from_json(part) for part in case["parts"]]
    equal(label(case["kind"], *parts).hex(), case["label"])
    equal(digest(case["kind"], *parts).hex(), case["digest"])


def check_derive(case: Vectors) -> None:
    parts = [from_json(part) for part in case["parts"]]
    out = derive(unhex(case["secret"]), case["kind"], *parts, length=case["length"])
    equal(out.hex(), case["out"])


def refused_label(case: Vectors) -> object:
    if case["refused"] == "label":
        return label("kind", *map(from_json, case["parts"]))
    equal(case["refused"], "derive")
    return derive(bytes(32), "kind", length=case["length"])


def check_context(case: Vectors) -> None:
    equal(context_reference(case["call"], case["arguments"]).hex(), case["digest"])


def check_root(case: Vectors) -> None:
    equal(merkle.merkle_root([unhex(leaf) for leaf in case["leaves"]]).hex(), case["root"])


def verifies(case: Vectors) -> bool:
    path = [unhex(each) for each in case["path"]]
    root, leaf = unhex(case["root"]), unhex(case["leaf"])
    return merkle.verify(root, leaf, case["index"], case["size"], path)


# --- streams, packing, shares, fixed point -----------------------------------------------


def words_of(raw: str, bits: int) -> list[int]:
    data, size = unhex(raw), bits // 8
    return [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]


def stream_of(case: Vectors) -> list[int]:
    key, iv = unhex(case["key"]), unhex(case["iv"])
    return streams.stream_words(key, iv, case["start"], case["length"], case["word_bits"])


def check_stream(case: Vectors) -> None:
    equal(stream_of(case), words_of(case["stream"], case["word_bits"]))


def check_sum_of_streams(case: Vectors) -> None:
    keys = list(zip(map(unhex, case["keys"]), map(unhex, case["ivs"]), strict=True))
    bits, before = case["word_bits"], words_of(case["before"], case["word_bits"])
    after = streams.add_streams(before, keys, case["signs"], case["start"], bits)
    equal(after, words_of(case["after"], bits))


def refused_stream(case: Vectors) -> object:
    key, values = (unhex(case["key"]), unhex(case["iv"])), [1] * case["length"]
    return streams.add_streams(values, [key], case["signs"], case["start"], case["word_bits"])


def check_packed(case: Vectors) -> None:
    values, bits = [int(value) for value in case["values"]], case["bits"]
    equal(streams.pack_values(values, bits).hex(), case["packed"])
    equal(streams.unpack_values(unhex(case["packed"]), bits, len(values)), values)


def refused_packing(case: Vectors) -> object:
    return streams.unpack_values(unhex(case["packed"]), case["bits"], case["length"])


def refused_values(case: Vectors) -> object:
    return streams.pack_values([int(value) for value in case["values"]], case["bits"])


def check_deal(case: Vectors) -> None:
    secrets, points, t = [unhex(s) for s in case["secrets"]], case["points"], case["threshold"]
    dealt = shamir.shamir_deal(secrets, points, t, unhex(case["key"]), unhex(case["iv"]))
    equal([[share.hex() for share in of] for of in dealt], case["shares"])
    for i, secret in enumerate(secrets):
        equal(shamir.reconstruct(points[-t:], [of[i] for of in dealt[-t:]]), secret)


def refused_shares(case: Vectors) -> object:
    if case["refused"] == "deal":
        secrets = [unhex(secret) for secret in case["secrets"]]
        return shamir.shamir_deal(secrets, case["points"], case["threshold"], bytes(16), bytes(12))
    equal(case["refused"], "reconstruct")
    return shamir.reconstruct(case["points"], [unhex(share) for share in case["shares"]])


ONE: fixed.Fixed = (8, 1.0, 10, 5)
TYPES: dict[str, Any] = {"float64": float, "int64": int, "bool": bool, "complex128": complex}


def fixed_of(case: Vectors) -> fixed.Fixed:
    return case["bits"], float.fromhex(case["clip"]), case["max_weight"], case["max_clients"]


def check_encode(case: Vectors) -> None:
    of, values = fixed_of(case), [float.fromhex(x) for x in case["values"]]
    key, iv = unhex(case["key"]), unhex(case["iv"])
    equal(fixed.encode_values(of, values, case["weight"], key, iv), case["encoded"])
    equal(fixed.modulus_bits(of[0], *of[2:]), case["modulus_bits"])


def check_decode(case: Vectors) -> None:
    equal([x.hex() for x in fixed.decode_sum(ONE, case["total"])], case["mean"])


def refused_fixed(case: Vectors) -> object:
    if case["refused"] == "fixed":
        return fixed.checked(fixed_of(case))
    if case["refused"] == "filling":
        clip = float.fromhex(case["clip"])
        return fixed.filling(case["modulus_bits"], clip, case["max_weight"], case["max_clients"])
    if case["refused"] == "decode":
        return fixed.decode_sum(ONE, case["total"])
    equal(case["refused"], "encode")
    values = [TYPES[case["dtype"]](float.fromhex(x)) for x in case["values"]]
    return fixed.encode_values(ONE, values, case["weight"], bytes(16), bytes(12))


# --- keys and sealing --------------------------------------------------------------------


def check_rfc7748(case: Vectors) -> None:
    for private, public in case.items():
        equal(x25519_public(unhex(private)).hex(), public)


def check_rfc9180(case: Vectors) -> None:
    vector = {name: unhex(value) for name, value in case.items()}
    shared, enc = dhkem_encapsulate(vector["public"], vector["ephemeral"])
    equal((shared, enc), (vector["shared"], vector["enc"]))
    schedule = key_schedule(0x0020, 1, shared, vector["info"])
    equal(schedule, (vector["key"], vector["base_nonce"]))


def check_xwing(case: Vectors) -> None:
    """The draft expands its 32-byte seed to that of this format."""
    seed = hashlib.shake_256(unhex(case["seed"])).digest(96)
    public = public_of("MLKEM768-X25519", seed)
    shared, enc = xwing_encapsulate(public, unhex(case["coins"]))
    equal(shared.hex(), case["shared"])
    equal(xwing_decapsulate(seed, enc), shared)


def check_key_pair(case: Vectors) -> None:
    public, seed = unhex(case["public"]), unhex(case["seed"])
    equal(KeyPair(case["suite"], seed).public, public)
    equal(public_of(case["suite"], seed), public)
    check_key(case["suite"], public)


def opened(case: Vectors) -> bytes:
    return hpke_open(case["suite"], unhex(case["seed"]), unhex(case["info"]), unhex(case["sealed"]))


def check_open(case: Vectors) -> None:
    equal(public_of(case["suite"], unhex(case["seed"])).hex(), case["public"])
    equal(opened(case).hex(), case["plaintext"])


def opened_between(case: Vectors) -> bytes:
    one, other = (KeyPair(case["suite"], unhex(seed)) for seed in case["seeds"])
    return other.open(one.public, unhex(case["sealed"]), unhex(case["info"]))


def check_between(case: Vectors) -> None:
    one, other = (KeyPair(case["suite"], unhex(seed)) for seed in case["seeds"])
    coins, plaintext, info = (unhex(case[name]) for name in ("coins", "plaintext", "info"))
    equal(one.seal(other.public, plaintext, info, encapsulate_with(coins)).hex(), case["sealed"])
    equal(opened_between(case), plaintext)


def refused_sealing(case: Vectors) -> object:
    if case["refused"] == "key":
        return check_key(case["suite"], unhex(case["raw"]))
    if case["refused"] == "between":
        return opened_between(case)
    equal(case["refused"], "open")
    return opened(case)


def member_of(case: Vectors) -> Member:
    return Member(case["name"], case["scheme"], unhex(case["key"]), case["expires"])


def check_roster(case: Vectors) -> None:
    equal(identity_digest([member_of(m) for m in case["members"]]).hex(), case["digest"])


def check_signature(case: Vectors) -> None:
    member_of(case["member"]).verify(unhex(case["signature"]), unhex(case["message"]))


def refused_identity(case: Vectors) -> object:
    match case["refused"]:
        case "signature":
            signature, said = unhex(case["signature"]), unhex(case["said"])
            return member_of(case["member"]).verify(signature, said)
        case "key":
            return check_identity("Ed25519", unhex(case["key"]))
        case "member":
            return check_member(member_of(case["member"]))
    equal(case["refused"], "roster")
    return identity_digest([member_of(m) for m in case["members"]])


# --- masking -----------------------------------------------------------------------------

CALLS: dict[str, Callable[..., bytes]] = {
    "channel_key": lambda suite, seed, c, u: (
        KeyPair(suite, d.channel_seed(seed, c, u, SEED[suite])).public
    ),
    "link": xor,
    "mask_commitment": lambda *a: d.commitment("mask", *a),
    "self_commitment": lambda *a: d.commitment("self", *a),
    "signed_advert": lambda c, *advert: d.signed_advert(c, list(advert)),
    "leaf": lambda *advert: d.leaf(list(advert)),
}


def check_derived(case: Vectors) -> None:
    arguments = [unhex(a["hex"]) if isinstance(a, dict) else a for a in case["arguments"]]
    call = CALLS.get(case["call"]) or getattr(d, case["call"])
    equal(call(*arguments).hex(), case["answer"])


def check_bitmap(case: Vectors) -> None:
    equal(d.bitmap_of(case["members"], case["clients"]).hex(), case["bitmap"])
    equal(d.members_of(unhex(case["bitmap"]), case["clients"]), case["members"])


def graph_of(case: Vectors) -> list[list[int]]:
    n = case["clients"]
    near = graph.graph_of(n, case["degree"], unhex(case["seed"]))
    return [near[v] for v in range(1, n + 1)]


def check_graph(case: Vectors) -> None:
    equal(graph_of(case), case["neighbours"])
    equal(graph.ring(case["clients"], unhex(case["seed"])), case["ring"])


def check_parameters(case: Vectors) -> None:
    parameters = Parameters(**case["parameters"])
    parameters.check()
    equal(parameters.encoded().hex(), case["encoded"])


def plain(value: Any) -> Any:
    """A value as the file writes it, as it is encoded."""
    if isinstance(value, dict):
        return unhex(value["hex"])
    return [plain(each) for each in value] if isinstance(value, list) else value


def check_message(case: Vectors) -> None:
    fields = {name: plain(value) for name, value in case["fields"].items()}
    data = unhex(case["encoded"])
    equal(Message(case["tag"], unhex(case["context"]), **fields).encoded(), data)
    found = decode(data, FIELDS)
    equal((found.tag, found.context.hex(), found.fields), (case["tag"], case["context"], fields))


# --- rounds ------------------------------------------------------------------------------


def check_round(raw: Vectors) -> None:
    """The same bytes, refusals and end, from the seeds."""
    script, entries = script_from_json(raw), transcript_of(raw)
    clients = {u: plain_client(script, u, **recorded(script, entries, u)) for u in script.seeds}
    played = played_to_json(play(script, clients, plain_server(script), instead(raw, entries)))
    equal(json.loads(json.dumps(played)), {name: raw[name] for name in played})


def check_refusal(case: Vectors) -> None:
    """With that error; and where the state must stand, the real message is then taken."""
    raw = ROUNDS[case["round"]]
    script, entries, me = script_from_json(raw), transcript_of(raw), case["party"]
    party: Any = plain_server(script)
    if me:
        party = plain_client(script, me, **recorded(script, entries, me))
    advance(party, me, entries[: case["at"]])
    with pytest.raises(Refusal) as caught:
        party.hear(case["sender"], unhex(case["data"]))
    same_error(caught.value, case)
    if case["error"] == "ProtocolAborted":
        equal(party.stage, "aborted")
    elif not case["why"].endswith(ONCE_MORE):
        entry = entries[case["at"]]
        party.hear(entry.sender, entry.data)


# --- every vector ------------------------------------------------------------------------

Check = Callable[[Vectors], None]


def refused_by(call: Callable[[Vectors], object], **error: str) -> Check:
    """error: of files that do not name it."""
    return lambda case: refuses(case | error, lambda: call(case))


CHECKS: dict[tuple[str, str], Check] = {
    ("kdf", "rfc5869"): check_rfc5869,
    ("kdf", "label"): check_label,
    ("kdf", "derive"): check_derive,
    ("kdf", "negative"): refused_by(refused_label),
    ("context", "positive"): check_context,
    ("context", "negative"): refused_by(lambda c: context_reference(c["refused"], c["arguments"])),
    ("merkle", "root"): check_root,
    ("merkle", "proof"): lambda case: equal(verifies(case), True),
    ("merkle", "negative"): lambda case: equal(verifies(case), False),
    ("prg", "streams"): check_stream,
    ("prg", "sums"): check_sum_of_streams,
    ("prg", "refused"): refused_by(refused_stream, error=Local.name, message=""),
    ("packing", "packed"): check_packed,
    ("packing", "refused"): refused_by(refused_packing, error=Decode.name, message=""),
    ("packing", "out_of_range"): refused_by(
        refused_values, error=Local.name, message="does not fit"
    ),
    ("shamir", "deal"): check_deal,
    ("shamir", "negative"): refused_by(refused_shares),
    ("encoding", "encode"): check_encode,
    ("encoding", "decode"): check_decode,
    ("encoding", "negative"): refused_by(refused_fixed),
    ("seal", "rfc7748"): check_rfc7748,
    ("seal", "rfc9180"): check_rfc9180,
    ("seal", "xwing"): check_xwing,
    ("seal", "key_pair"): check_key_pair,
    ("seal", "open"): check_open,
    ("seal", "between"): check_between,
    ("seal", "negative"): refused_by(refused_sealing),
    ("identity", "roster"): check_roster,
    ("identity", "signature"): check_signature,
    ("identity", "negative"): refused_by(refused_identity),
    ("masking", "derived"): check_derived,
    ("masking", "bitmap"): check_bitmap,
    ("masking", "negative"): refused_by(lambda c: d.members_of(unhex(c["bitmap"]), c["clients"])),
    ("graph", "graph"): check_graph,
    ("graph", "negative"): refused_by(graph_of),
    ("parameters", "good"): check_parameters,
    ("parameters", "negative"): refused_by(lambda c: Parameters(**c["parameters"]).check()),
    ("messages", "message"): check_message,
    ("messages", "negative"): refused_by(lambda c: decode(unhex(c["data"]), [c["tag"]])),
    ("rounds", "rounds"): check_round,
    ("refusals", "refusals"): check_refusal,
}
