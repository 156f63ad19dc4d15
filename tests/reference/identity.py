"""Members and their keys, and what makes a roster: spec section 3, RFC 8032 section 5.1."""

import re
import unicodedata
from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING

from tests.reference.curve import P255
from tests.reference.errors import Decode, Parameter

if TYPE_CHECKING:
    from tests.reference.session import Member

Point = tuple[int, int]
D = -121665 * pow(121666, -1, P255) % P255
ROOT = pow(2, (P255 - 1) // 4, P255)  # of -1
DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")


def point_of(raw: bytes) -> Point | None:
    """Section 5.1.3: what these bytes encode, if they are a canonical encoding."""
    whole = int.from_bytes(raw, "little")
    y, sign = whole % 2**255, whole >> 255
    if len(raw) != 32 or y >= P255:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P255) % P255
    x = pow(square, (P255 + 3) // 8, P255)
    if x * x % P255 != square:
        x = x * ROOT % P255
    if x * x % P255 != square or (x == 0 and sign):
        return None
    return (x if x % 2 == sign else P255 - x), y


def double(point: Point) -> Point:
    """The sum of section 5.1.4 of a point with itself, in affine coordinates."""
    x, y = point
    d = D * x * x * y * y
    return (
        2 * x * y * pow(1 + d, -1, P255) % P255,
        (x * x + y * y) * pow(1 - d, -1, P255) % P255,
    )


def is_ed25519(raw: bytes) -> bool:
    """A canonical encoding of a point whose order is not 1, 2, 4 or 8."""
    point = point_of(raw)
    return point is not None and double(double(double(point))) != (0, 1)


def check_identity(scheme: str, key: bytes) -> None:
    """Or Parameter, or Decode."""
    if scheme not in ("Ed25519", "ML-DSA-65"):
        raise Parameter(f"no signature scheme {scheme!r}")
    if scheme == "Ed25519" and not is_ed25519(key):
        raise Decode("not an Ed25519 public key")
    if scheme == "ML-DSA-65" and len(key) != 1952:
        raise Decode("an ML-DSA-65 public key has 1952 bytes")


def is_name(name: str) -> bool:
    known = all(c == " " or unicodedata.category(c)[0] not in "CZ" for c in name)
    composed = unicodedata.is_normalized("NFC", name)
    return known and composed and 1 <= len(name) <= 100 and name == name.strip(" ")


def is_day(text: str) -> bool:
    try:
        return DAY.fullmatch(text) is not None and bool(date.fromisoformat(text))
    except ValueError:
        return False


def check_member(member: "Member") -> None:
    """Or Parameter, or Decode."""
    check_identity(member.scheme, member.key)
    if not is_name(member.name):
        raise Parameter(f"the name {member.name!r}")
    if member.expires and not is_day(member.expires):
        raise Parameter(f"no such day: {member.expires!r}")


def check_roster(members: Iterable["Member"]) -> None:
    """Or Parameter, or Decode."""
    owners: dict[bytes, str] = {}
    for member in members:
        check_member(member)
        if member.name in owners.values():
            raise Parameter(f"member {member.name!r} twice")
        if member.key in owners:
            raise Parameter(f"member {member.name!r} has the key of {owners[member.key]!r}")
        owners[member.key] = member.name
    if not owners:
        raise Parameter("the roster is empty")
