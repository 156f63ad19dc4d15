"""Labels, digests, derivation: spec section 1, RFC 5869."""

import hashlib
import hmac

from tests.reference.errors import Local

Part = bytes | str | int


def label(kind: str, *parts: Part) -> bytes:
    out = b""
    for part in ("secagg/1", kind, *parts):
        raw = raw_part(part)
        out += len(raw).to_bytes(4, "big") + raw
    return out


def raw_part(part: Part) -> bytes:
    if not isinstance(part, bytes | str | int):
        raise Local(f"a label has no part of this kind: {part!r}")
    try:
        raw = part.to_bytes(8, "big") if isinstance(part, int) else part
        return raw.encode("utf-8") if isinstance(raw, str) else raw
    except (OverflowError, UnicodeError):
        raise Local("not a part of a label") from None


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def digest(kind: str, *parts: Part) -> bytes:
    return sha256(label(kind, *parts))


def hkdf_extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), secret, "sha256")


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    if not 0 <= length <= 255 * 32:
        raise Local("HKDF-SHA256 gives 0 to 8160 bytes")
    out = block = b""
    for i in range(1, -(-length // 32) + 1):
        block = hmac.digest(prk, block + info + bytes([i]), "sha256")
        out += block
    return out[:length]


def derive(secret: bytes, kind: str, *parts: Part, length: int = 32) -> bytes:
    return hkdf_expand(hkdf_extract(b"", secret), label(kind, *parts), length)


def xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
