"""X25519 in whole numbers (RFC 7748), and which encodings are keys: spec section 4."""

P255 = 2**255 - 19
LOW_ORDER = (  # the u-coordinates of order 1, 2, 4, 8 on curve and twist: 8 P = 0
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    P255 - 1,
)


def ladder(scalar: int, u: int) -> int:
    """Section 5: the u-coordinate of the multiple; 0 also for the point at infinity."""
    x2, z2, x3, z3 = 1, 0, u, 1
    for t in range(255, -1, -1):
        swap = scalar >> t & 1
        if swap:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, e = d * a, c * b, a * a - b * b
        x3, z3 = (da + cb) ** 2 % P255, u * (da - cb) ** 2 % P255
        x2, z2 = a * a * b * b % P255, e * (a * a + 121665 * e) % P255
        if swap:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return x2 * pow(z2, P255 - 2, P255) % P255


def x25519(private: bytes, public: bytes) -> bytes:
    scalar = int.from_bytes(private, "little") % 2**255 // 8 * 8 | 2**254
    u = int.from_bytes(public, "little") % 2**255 % P255
    return ladder(scalar, u).to_bytes(32, "little")


def x25519_public(private: bytes) -> bytes:
    return x25519(private, (9).to_bytes(32, "little"))


def is_key(raw: bytes) -> bool:
    """32 bytes, canonical, and not of low order."""
    number = int.from_bytes(raw, "little")
    return len(raw) == 32 and number < P255 and number not in LOW_ORDER
