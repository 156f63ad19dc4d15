"""Who is who: the members of a federation with their keys, in order of their numbers 1..n.

A roster comes from a party's own configuration and never from the network. Its digest binds
names, schemes, keys, expiry and order, and goes into every session's `context0`. A card is a
member with a signature under its own key, so that nobody can be listed under a key that
another holds; a roster made of cards keeps those proofs. They show that each entry is as its
key's holder wrote it, and not that all parties have the same entries: the digest does. Files are
`fl`'s; this module turns rosters and cards into bytes and back.

Dates are passed in: nothing here reads a clock.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from unicodedata import is_normalized

import msgspec

from secagg.errors import DecodeError, LocalError, ParameterError, SecaggError
from secagg.kdf import digest, label
from secagg.signing import SCHEMES, Identity, PublicIdentity, Signer

__all__ = [
    "MOST_NAME_CHARACTERS",
    "SCHEMES",
    "Card",
    "Identity",
    "Member",
    "PublicIdentity",
    "Roster",
    "Signer",
    "card_from_json",
    "card_to_json",
    "checked_date",
    "checked_name",
    "roster_from_json",
    "roster_to_json",
]

MOST_NAME_CHARACTERS = 100
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")


@dataclass(frozen=True)
class Member:
    """One member. `expires` is its key's last day, YYYY-MM-DD, or empty for none.

    Raises ParameterError for a name that people could confuse with another, and for a date
    that does not exist.
    """

    name: str
    public: PublicIdentity
    expires: str = ""

    def __post_init__(self) -> None:
        checked_name(self.name)
        if self.expires:
            try:
                checked_date(self.expires)
            except ParameterError as error:
                raise ParameterError(f"member {self.name!r}: {error}") from None

    def expired(self, today: str) -> bool:
        """Whether the last day is over on the day `today` (YYYY-MM-DD)."""
        return bool(self.expires) and checked_date(today) > self.expires


@dataclass(frozen=True)
class Roster:
    """All members; a member's number is its place, from 1.

    proofs: those of the members' cards, in order, or none at all; they are no part of the
    digest. Raises ParameterError, which names the member, for an empty roster, and for a name
    or a key that is listed twice. Schemes may be mixed.
    """

    members: tuple[Member, ...]
    proofs: tuple[bytes, ...] = field(compare=False, repr=False)

    def __init__(self, members: Iterable[Member]) -> None:
        object.__setattr__(self, "members", tuple(members))
        object.__setattr__(self, "proofs", ())
        if not self.members:
            raise ParameterError("the roster is empty; add its members")
        names: set[str] = set()
        keys: dict[PublicIdentity, str] = {}
        for each in self.members:
            if each.name in names:
                raise ParameterError(f"member {each.name!r} is listed twice; remove one")
            if each.public in keys:
                raise ParameterError(
                    f"member {each.name!r} has the key of {keys[each.public]!r}; each needs its own"
                )
            names.add(each.name)
            keys[each.public] = each.name

    @classmethod
    def of(cls, cards: "Sequence[Card]") -> "Roster":
        """The roster of these cards, with their proofs."""
        roster = cls(card.member for card in cards)
        object.__setattr__(roster, "proofs", tuple(card.proof for card in cards))
        return roster

    @property
    def cards(self) -> "tuple[Card, ...]":
        """The members' cards, verified once more, or none where there are no proofs."""
        return tuple(map(Card, self.members, self.proofs)) if self.proofs else ()

    def __len__(self) -> int:
        return len(self.members)

    def digest(self) -> bytes:
        """32 bytes that stand for all members, in order."""
        return self._digest

    def member(self, number: int) -> Member:
        """The member with this number, 1..n. Or LocalError."""
        if not 1 <= number <= len(self.members):
            raise LocalError(f"no member {number} in a roster of {len(self.members)}")
        return self.members[number - 1]

    def number(self, public: PublicIdentity) -> int:
        """The number of the member with this key; ParameterError where nobody has it."""
        for number, each in enumerate(self.members, start=1):
            if each.public == public:
                return number
        raise ParameterError(
            f"this key belongs to nobody in the roster (fingerprint {public.fingerprint})"
        )

    def check_expiry(self, today: str, *, numbers: Sequence[int] = ()) -> None:
        """Raise ParameterError, with names, if a key of these members (or any) has expired."""
        chosen = [self.member(number) for number in numbers] or self.members
        late = [f"{m.name!r} on {m.expires}" for m in chosen if m.expired(today)]
        if late:
            raise ParameterError(
                f"expired before {today}: {', '.join(late)}; they need new keys and a new roster"
            )

    @cached_property
    def _digest(self) -> bytes:
        members = (
            label("member", each.name, each.public.scheme, each.public.raw, each.expires)
            for each in self.members
        )
        return digest("identity roster", *members)


@dataclass(frozen=True)
class Card:
    """A member that proves that it holds its key. Raises DecodeError where it does not."""

    member: Member
    proof: bytes

    def __post_init__(self) -> None:
        try:
            self.member.public.verify(self.proof, _claim(self.member))
        except DecodeError:
            raise DecodeError(
                f"the card of {self.member.name!r} is not signed by its own key: a changed name, "
                "date or key, or a key that somebody else holds"
            ) from None

    @classmethod
    def signed(cls, name: str, identity: Identity, expires: str = "") -> "Card":
        """The card of a new member. Raises ParameterError."""
        member = Member(name, identity.public, expires)
        return cls(member, identity.sign(_claim(member)))


def checked_name(name: str) -> str:
    """The name. ParameterError: empty, long, padded, unprintable, or not in Unicode's NFC."""
    good = name.isprintable() and name == name.strip() and is_normalized("NFC", name)
    if not good or not 1 <= len(name) <= MOST_NAME_CHARACTERS:
        raise ParameterError(
            f"the name {name[:MOST_NAME_CHARACTERS]!r}: use 1 to {MOST_NAME_CHARACTERS} printable "
            "characters (NFC), without spaces around them"
        )
    return name


def checked_date(date: str) -> str:
    """The date YYYY-MM-DD. ParameterError where there is no such day."""
    found = _DATE.fullmatch(date)
    year, month, day = map(int, found.groups()) if found else (0, 0, 0)
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    days = _DAYS[month - 1] - (month == 2 and not leap) if 1 <= month <= 12 else 0
    if not (year and 1 <= day <= days):
        raise ParameterError(f"no such day: {date[:20]!r}; write YYYY-MM-DD")
    return date


def roster_to_json(roster: Roster) -> bytes:
    """The roster as a file's content: of version 2 with its proofs, of version 1 without any."""
    entries = [_entry(each) for each in roster.members]
    if not roster.proofs:
        return _encoded(_Unproven(_ROSTER, 1, entries))
    proven = [
        _Proven(each, proof.hex()) for each, proof in zip(entries, roster.proofs, strict=True)
    ]
    return _encoded(_RosterFile(_ROSTER, 2, proven))


def roster_from_json(data: bytes) -> Roster:
    """The inverse of `roster_to_json`; every proof that the file has is verified.

    Raises DecodeError for what is no roster file of these versions and for a member whose proof
    is wrong, ParameterError where the members are not those of a roster.
    """
    body: _Unproven | _RosterFile = _decoded(data, _ROSTER, {1: _Unproven, 2: _RosterFile})
    if isinstance(body, _Unproven):
        return Roster(map(_member, body.members))
    return Roster.of([_card(each.member, each.proof) for each in body.members])


def card_to_json(card: Card) -> bytes:
    """The card as a file's content."""
    return _encoded(_CardFile(_CARD, 1, _entry(card.member), card.proof.hex()))


def card_from_json(data: bytes) -> Card:
    """The inverse of `card_to_json`. Raises DecodeError or ParameterError."""
    body: _CardFile = _decoded(data, _CARD, {1: _CardFile})
    return _card(body.member, body.proof)


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    scheme: str
    key: str
    expires: str


class _Proven(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    member: _Entry
    proof: str


class _RosterFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    version: int
    members: list[_Proven]


class _Unproven(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    version: int
    members: list[_Entry]


class _CardFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    version: int
    member: _Entry
    proof: str


_ROSTER = "secagg roster"
_CARD = "secagg member"


def _claim(member: Member) -> bytes:
    public = member.public
    return label("card", member.name, public.scheme, public.raw, member.expires)


def _entry(member: Member) -> _Entry:
    public = member.public
    return _Entry(member.name, public.scheme, public.raw.hex(), member.expires)


def _member(entry: _Entry) -> Member:
    try:
        public = PublicIdentity(entry.scheme, _bytes(entry.key, "its key"))
    except SecaggError as error:
        raise ParameterError(f"member {entry.name[:MOST_NAME_CHARACTERS]!r}: {error}") from None
    return Member(entry.name, public, entry.expires)


def _card(entry: _Entry, proof: str) -> Card:
    member = _member(entry)
    return Card(member, _bytes(proof, f"the proof of {member.name!r}"))


def _bytes(text: str, what: str) -> bytes:
    if not re.fullmatch("([0-9a-f]{2})*", text):
        raise DecodeError(f"{what} is not written in lower-case hexadecimal digits")
    return bytes.fromhex(text)


def _encoded(body: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"


def _decoded(data: bytes, name: str, kinds: Mapping[int, Any]) -> Any:
    """Decode strictly, the version first: a newer file may look different in everything."""
    try:
        raw = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise DecodeError(f"not a {name} file: damaged, or cut off") from None
    found = raw if isinstance(raw, dict) else {}
    if found.get("format") != name:
        raise DecodeError(f"not a {name} file")
    version = found.get("version")
    newest = max(kinds)
    if type(version) is int and version > newest:
        raise DecodeError(
            f"a {name} file of version {version}; this program reads {newest}: install a newer one"
        )
    if type(version) is not int or version not in kinds:
        raise DecodeError(f"a {name} file without a valid version")
    try:
        return msgspec.convert(raw, kinds[version], strict=True)
    except msgspec.ValidationError as error:
        raise DecodeError(f"not a valid {name} file: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field twice")
    return found
