"""Identity keys, members, rosters and cards, and everything that is refused about them."""

import copy
import json
import pickle

import pytest

from secagg.errors import DecodeError, LocalError, ParameterError
from secagg.identity import (
    SCHEMES,
    Card,
    Identity,
    Member,
    PublicIdentity,
    Roster,
    card_from_json,
    card_to_json,
    checked_date,
    roster_from_json,
    roster_to_json,
)
from secagg.kdf import label
from secagg.rng import SeededSource

PRIME = 2**255 - 19
D = -121665 * pow(121666, -1, PRIME) % PRIME
ROOT_OF_MINUS_ONE = pow(2, (PRIME - 1) // 4, PRIME)
EACH_SCHEME = pytest.mark.parametrize("scheme", SCHEMES)


def identity(number: int, scheme: str = "Ed25519") -> Identity:
    return Identity.from_seed(scheme, number.to_bytes(32, "big"))


def member(number: int, name: str = "", expires: str = "") -> Member:
    return Member(name or f"site {number}", identity(number).public, expires)


# --- keys --------------------------------------------------------------------------------


@EACH_SCHEME
def test_a_signature_verifies_under_its_key_and_message_only(scheme: str) -> None:
    one, other = identity(1, scheme), identity(2, scheme)
    message = label("test", b"message")
    signature = one.sign(message)
    assert len(signature) == one.public.signature_bytes
    one.public.verify(signature, message)
    for public, signed, said in (
        (other.public, signature, message),
        (one.public, signature, message + b"\0"),
        (one.public, other.sign(message), message),
        (one.public, bytes([signature[0] ^ 1]) + signature[1:], message),
        (one.public, signature[:-1], message),
        (one.public, signature + b"\0", message),
        (one.public, b"", message),
        (one.public, bytes(len(signature)), message),
    ):
        with pytest.raises(DecodeError, match=r"^a signature does not verify$"):
            public.verify(signed, said)


@EACH_SCHEME
def test_a_seed_stands_for_one_key(scheme: str) -> None:
    assert identity(1, scheme) == identity(1, scheme)
    assert identity(1, scheme).public != identity(2, scheme).public
    assert len({identity(i % 3, scheme).public for i in range(9)}) == 3
    drawn = Identity.draw(scheme, SeededSource(b"a"))
    assert drawn == Identity.from_seed(scheme, SeededSource(b"a").seed())


def test_published_vectors_of_ed25519() -> None:
    """RFC 8032, 7.1, test 2."""
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    key = Identity.from_seed("Ed25519", seed)
    assert key.public.raw.hex() == (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    )
    assert key.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


@EACH_SCHEME
def test_the_private_half_is_shown_nowhere(scheme: str) -> None:
    key = identity(7, scheme)
    assert repr(key) == f"Identity(public=PublicIdentity(scheme={scheme!r}))"
    with pytest.raises(LocalError, match="load its file"):
        pickle.dumps(key)
    again = copy.deepcopy(key.public)
    assert again == key.public
    again.verify(key.sign(b"m"), b"m")


def test_unknown_schemes_and_wrong_lengths_are_refused() -> None:
    with pytest.raises(ParameterError, match="'RSA'; choose Ed25519 or ML-DSA-65"):
        PublicIdentity("RSA", bytes(32))
    with pytest.raises(ParameterError, match="choose"):
        Identity.from_seed("", bytes(32))
    with pytest.raises(LocalError, match="32 bytes of seed"):
        Identity.from_seed("Ed25519", bytes(31))
    for scheme, size in (("Ed25519", 32), ("ML-DSA-65", 1952)):
        for wrong in (0, size - 1, size + 1):
            with pytest.raises(DecodeError, match=f"{size} bytes"):
                PublicIdentity(scheme, bytes(wrong))


def points_of_small_order() -> list[tuple[int, int]]:
    """All (x, y) with [8]P = 0, found by solving for them, and checked to be on the curve."""
    found = [(0, 1), (0, PRIME - 1), (ROOT_OF_MINUS_ONE, 0), (PRIME - ROOT_OF_MINUS_ONE, 0)]
    root = square_root(1 + D)
    for sign in (1, -1):  # [2]P has y = 0: x^2 = -y^2, so d y^4 + 2 y^2 - 1 = 0
        square = (-1 + sign * root) * pow(D, -1, PRIME) % PRIME
        y = square_root(square)
        if y * y % PRIME == square:
            x = ROOT_OF_MINUS_ONE * y % PRIME
            found += [(a, b) for a in (x, PRIME - x) for b in (y, PRIME - y)]
    assert all((y * y - x * x - 1 - D * x * x * y * y) % PRIME == 0 for x, y in found)
    return found


def square_root(a: int) -> int:
    root = pow(a, (PRIME + 3) // 8, PRIME)
    return root if root * root % PRIME == a % PRIME else root * ROOT_OF_MINUS_ONE % PRIME


def test_ed25519_keys_of_small_order_are_refused() -> None:
    """Under the neutral element, R = [S]B verifies for every message."""
    points = points_of_small_order()
    assert len(points) == 8
    for x, y in points:
        for sign in (x & 1, 1 - (x & 1)):
            with pytest.raises(DecodeError, match="not an Ed25519 public key"):
                PublicIdentity("Ed25519", (y | sign << 255).to_bytes(32, "little"))


def test_ed25519_keys_that_are_not_canonical_points_are_refused() -> None:
    on_curve = 0
    for y in range(2, 60):
        raw = y.to_bytes(32, "little")
        square = y * y
        x_squared = (square - 1) * pow(D * square + 1, -1, PRIME) % PRIME
        if pow(square_root(x_squared), 2, PRIME) == x_squared:
            on_curve += 1
            PublicIdentity("Ed25519", raw)
            if y < 19:
                with pytest.raises(DecodeError, match="not an Ed25519"):
                    PublicIdentity("Ed25519", (y + PRIME).to_bytes(32, "little"))
        else:
            with pytest.raises(DecodeError, match="not an Ed25519"):
                PublicIdentity("Ed25519", raw)
    assert 10 < on_curve < 50


def test_fingerprints_differ_by_scheme_and_key() -> None:
    shown = {identity(i, s).public.fingerprint for i in range(3) for s in SCHEMES}
    assert len(shown) == 6
    assert all(len(text.replace(" ", "")) == 64 for text in shown)


@EACH_SCHEME
@pytest.mark.parametrize("password", [None, b"correct horse"])
def test_a_key_survives_its_pem(scheme: str, password: bytes | None) -> None:
    key = identity(3, scheme)
    pem = key.to_pem(password)
    assert (b"ENCRYPTED" in pem) == (password is not None)
    assert Identity.from_pem(pem, password) == key
    key.public.verify(Identity.from_pem(pem, password).sign(b"m"), b"m")


def test_bad_pems_are_refused_and_not_quoted() -> None:
    plain, sealed = identity(3).to_pem(), identity(3).to_pem(b"right")
    for pem, password, reason in (
        (sealed, b"wrong", "the passphrase is wrong"),
        (sealed, None, "is protected and needs a passphrase"),
        (plain, b"right", "is not protected by a passphrase"),
        (plain[:60], None, "not a PKCS#8 private key"),
        (b"", None, "not a PKCS#8 private key"),
        (sealed[:90], b"right", "or the private key is damaged"),
        (FOREIGN_PEM, None, "not one of Ed25519 or ML-DSA-65"),
    ):
        with pytest.raises(DecodeError, match=reason) as refused:
            Identity.from_pem(pem, password)
        assert "MC4C" not in str(refused.value)


FOREIGN_PEM = b"""-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VuBCIEIHcHbQpzGKV9PBbBclGyZkXfTC+H68CZKrF3+6UduSwq
-----END PRIVATE KEY-----
"""
"""The X25519 key of RFC 7748, 6.1: for agreement, not for signatures."""


# --- members and rosters -----------------------------------------------------------------


def test_members_are_numbered_from_one() -> None:
    roster = Roster([member(5), member(3)])
    assert len(roster) == 2
    assert roster.member(1).name == "site 5"
    assert roster.number(identity(3).public) == 2
    for wrong in (0, 3, -1):
        with pytest.raises(LocalError, match=f"no member {wrong} in a roster of 2"):
            roster.member(wrong)
    with pytest.raises(ParameterError, match="belongs to nobody in the roster"):
        roster.number(identity(4).public)


def test_a_roster_lists_each_name_and_key_once() -> None:
    with pytest.raises(ParameterError, match="the roster is empty"):
        Roster([])
    with pytest.raises(ParameterError, match="'site 1' is listed twice"):
        Roster([member(1), member(2), member(3, "site 1")])
    with pytest.raises(ParameterError, match="'other' has the key of 'site 2'"):
        Roster([member(1), member(2), Member("other", identity(2).public)])
    Roster([Member("a", identity(1).public), Member("b", identity(1, "ML-DSA-65").public)])


def test_the_digest_binds_names_schemes_keys_expiry_and_order() -> None:
    a, b = member(1), member(2)
    digests = {
        Roster(members).digest()
        for members in (
            [a],
            [a, b],
            [b, a],
            [a, member(2, "site 3")],
            [a, Member(b.name, identity(3).public)],
            [a, Member(b.name, identity(2, "ML-DSA-65").public)],
            [a, member(2, expires="2030-01-01")],
            [member(1, expires="2030-01-01"), b],
        )
    }
    assert len(digests) == 8
    assert all(len(digest) == 32 for digest in digests)
    assert Roster([a, b]).digest() == Roster((a, b)).digest()
    pinned = "ba33e8de70e6948e2f60b8494918d0ad1a4c8f455093123c0dc8f30663bf41dd"
    assert Roster([a, b]).digest().hex() == pinned


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "a\n", "\x1b[2J", "x" * 101, "e\u0301", "a\u200b"]
)
def test_names_that_could_deceive_are_refused(name: str) -> None:
    with pytest.raises(ParameterError, match="printable"):
        Member(name, identity(1).public)


@pytest.mark.parametrize(
    "date", ["2026-02-29", "2026-13-01", "2026-00-10", "26-01-01", "2026-1-1", "0000-01-01",
             "2026-04-31", "2026-01-01 ", "tomorrow", "1900-02-29", "２０２６-01-01"],
)  # fmt: skip
def test_days_that_do_not_exist_are_refused(date: str) -> None:
    with pytest.raises(ParameterError, match="member 'site 1': no such day"):
        member(1, expires=date)


def test_days_are_those_of_the_calendar() -> None:
    from datetime import date, timedelta  # noqa: PLC0415

    real = {(date(1999, 12, 1) + timedelta(days)).isoformat() for days in range(500)}
    for year in (1999, 2000, 2001):
        for month in range(1, 13):
            for day in range(1, 32):
                text = f"{year}-{month:02}-{day:02}"
                if "1999-12-01" <= text <= max(real):
                    if text in real:
                        assert checked_date(text) == text
                    else:
                        with pytest.raises(ParameterError):
                            checked_date(text)


def test_a_key_is_good_through_its_last_day() -> None:
    roster = Roster([member(1), member(2, expires="2026-11-24"), member(3, expires="2027-01-01")])
    roster.check_expiry("2026-11-24")
    with pytest.raises(ParameterError, match=r"before 2026-11-25: 'site 2' on 2026-11-24; "):
        roster.check_expiry("2026-11-25")
    roster.check_expiry("2026-11-25", numbers=(1, 3))
    with pytest.raises(ParameterError, match="'site 2' on 2026-11-24, 'site 3' on 2027-01-01"):
        roster.check_expiry("2030-01-01")
    with pytest.raises(ParameterError, match="no such day"):
        roster.check_expiry("today")


# --- files -------------------------------------------------------------------------------


def roster() -> Roster:
    return Roster(
        [
            member(1, "Clinic Zürich"),
            member(2, expires="2027-06-30"),
            Member("pq", identity(9, "ML-DSA-65").public),
        ]
    )


def test_rosters_and_cards_survive_their_files() -> None:
    assert roster_from_json(roster_to_json(roster())) == roster()
    assert roster_from_json(roster_to_json(roster())).digest() == roster().digest()
    card = Card.signed("site", identity(4), "2030-01-01")
    assert card_from_json(card_to_json(card)) == card


def test_a_roster_of_cards_keeps_their_proofs() -> None:
    cards = [Card.signed(f"site {i}", identity(i), "2030-01-01") for i in (1, 2)]
    made = Roster.of(cards)
    assert made == Roster(card.member for card in cards)
    assert made.digest() == Roster(card.member for card in cards).digest()
    found = roster_from_json(roster_to_json(made))
    assert found.cards == tuple(cards)
    assert json.loads(roster_to_json(made))["version"] == 2
    assert roster().cards == roster_from_json(roster_to_json(roster())).cards == ()
    assert json.loads(roster_to_json(roster()))["version"] == 1


@pytest.mark.parametrize("field", ["name", "key", "expires", "scheme", "proof"])
def test_a_changed_member_of_a_roster_of_cards_is_named(field: str) -> None:
    """Whatever is exchanged, with another member's or with one that nobody has."""
    cards = [Card.signed(f"site {i}", identity(i), f"2030-01-0{i}") for i in (1, 2)]
    data = json.loads(roster_to_json(Roster.of(cards)))
    first, second = data["members"]
    if field == "proof":
        first["proof"], second["proof"] = second["proof"], first["proof"]
    elif field == "scheme":
        key = identity(3, "ML-DSA-65").public
        first["member"].update(scheme=key.scheme, key=key.raw.hex())
    else:
        stranger = {"name": "mallory", "key": identity(3).public.raw.hex(), "expires": ""}
        first["member"][field] = stranger[field]
    name = "mallory" if field == "name" else "site 1"
    with pytest.raises(DecodeError, match=f"the card of '{name}' is not signed by its own key"):
        roster_from_json(json.dumps(data).encode())
    second["proof"] = ""
    data["members"] = [second]
    with pytest.raises(DecodeError, match="the card of 'site 2' is not signed"):
        roster_from_json(json.dumps(data).encode())


def changed(data: bytes, **fields: object) -> bytes:
    return json.dumps({**json.loads(data), **fields}).encode()


def test_bad_roster_files_are_refused_by_name() -> None:
    good = roster_to_json(roster())
    for cut in range(0, len(good) - 2, 97):
        with pytest.raises(DecodeError, match="secagg roster file"):
            roster_from_json(good[:cut])
    newer = changed(good, version=3, members={"another": "layout"})
    with pytest.raises(DecodeError, match="of version 3; this program reads 2: install a newer"):
        roster_from_json(newer)
    twice = good.replace(b'"version"', b'"version": 1, "version"')
    for bad in (
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        twice,
        changed(good, format="secagg member"),
        changed(good, version="1"),
        changed(good, version=True),
        changed(good, version=0),
        changed(good, version=2),
        changed(good, more=1),
        changed(good, members=[{"name": "x"}]),
        changed(good, members=1),
    ):
        with pytest.raises(DecodeError, match="secagg roster file"):
            roster_from_json(bad)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"key": "00" * 31}, "member 'bad': an Ed25519 public key has 32 bytes"),
        ({"key": "01" + "00" * 31}, "member 'bad': not an Ed25519 public key"),
        ({"key": "zz" * 32}, "member 'bad': its key is not written in lower-case hex"),
        ({"key": "AB" * 32}, "member 'bad': its key is not written in lower-case hex"),
        ({"scheme": "ssh-rsa"}, "member 'bad': no signature scheme 'ssh-rsa'"),
        ({"scheme": "ML-DSA-65"}, "member 'bad': an ML-DSA-65 public key has 1952 bytes"),
        ({"expires": "2026-02-30"}, "member 'bad': no such day"),
    ],
)
def test_a_bad_member_is_named(fields: dict, reason: str) -> None:
    data = json.loads(roster_to_json(roster()))
    data["members"][1].update({"name": "bad", **fields})
    with pytest.raises(ParameterError, match=reason):
        roster_from_json(json.dumps(data).encode())


@pytest.mark.parametrize("field", ["name", "key", "expires", "scheme"])
def test_a_card_is_worth_nothing_for_another_member(field: str) -> None:
    """Nobody can list a key that is not theirs, nor move their name or date."""
    mine, other = (Card.signed(name, identity(i), "2030-01-01") for i, name in ((1, "a"), (2, "b")))
    data = json.loads(card_to_json(mine))
    theirs = json.loads(card_to_json(other))
    data["member"][field] = {**theirs["member"], "expires": "", "scheme": "ML-DSA-65"}[field]
    if field == "scheme":
        data["member"]["key"] = identity(1, "ML-DSA-65").public.raw.hex()
    with pytest.raises(DecodeError, match="is not signed by its own key"):
        card_from_json(json.dumps(data).encode())
    data = {**json.loads(card_to_json(mine)), "proof": "0g"}
    with pytest.raises(DecodeError, match="the proof of 'a' is not written"):
        card_from_json(json.dumps(data).encode())
