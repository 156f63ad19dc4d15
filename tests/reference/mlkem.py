"""ML-KEM-768 in whole numbers: FIPS 203."""

import hashlib
from operator import mul

Q = 3329
GAMMAS = [pow(17, 2 * int(f"{i:07b}"[::-1], 2) + 1, Q) for i in range(128)]
Poly = list[int]


_POWERS = [[pow(gamma, k, Q) for k in range(128)] for gamma in GAMMAS]
_INVERSE = [[pow(gamma, -k, Q) for gamma in GAMMAS] for k in range(128)]


def ntt(f: Poly) -> Poly:
    """By definition: the remainders of f modulo X^2 - gamma, for the 128 gammas."""
    halves = [[sum(map(mul, f[h::2], powers)) % Q for h in (0, 1)] for powers in _POWERS]
    return [c for pair in halves for c in pair]


def inverse_ntt(f: Poly) -> Poly:
    out = []
    for powers in _INVERSE:
        out += [sum(map(mul, powers, f[h::2])) * 3303 % Q for h in (0, 1)]
    return out


def ntt_product(f: Poly, g: Poly) -> Poly:
    out = []
    for i, gamma in enumerate(GAMMAS):
        (a, b), (c, d) = f[2 * i : 2 * i + 2], g[2 * i : 2 * i + 2]
        out += [(a * c + b * d * gamma) % Q, (a * d + b * c) % Q]
    return out


def add(*polys: Poly) -> Poly:
    return [sum(column) % Q for column in zip(*polys, strict=True)]


def sample_ntt(seed: bytes) -> Poly:
    """Algorithm 7."""
    raw = hashlib.shake_128(seed).digest(1800)
    out: Poly = []
    for i in range(0, len(raw), 3):
        both = int.from_bytes(raw[i : i + 3], "little")
        out += [d for d in (both % 4096, both >> 12) if d < Q]
    return out[:256]


def sample_noise(seed: bytes, n: int) -> Poly:
    """Algorithm 8 with eta = 2 on PRF(seed, n)."""
    whole = int.from_bytes(hashlib.shake_256(seed + bytes([n])).digest(128), "little")
    nibbles = [whole >> 4 * i & 15 for i in range(256)]
    return [((v & 1) + (v >> 1 & 1) - (v >> 2 & 1) - (v >> 3)) % Q for v in nibbles]


def pack_bits(values: Poly, d: int) -> bytes:
    return sum(v << d * i for i, v in enumerate(values)).to_bytes(32 * d, "little")


def unpack_bits(raw: bytes, d: int) -> Poly:
    whole = int.from_bytes(raw, "little")
    return [whole >> d * i & 2**d - 1 for i in range(256)]


def compress(values: Poly, d: int) -> Poly:
    return [(v * 2 ** (d + 1) + Q) // (2 * Q) % 2**d for v in values]


def matrix(rho: bytes) -> list[list[Poly]]:
    return [[sample_ntt(rho + bytes([j, i])) for j in range(3)] for i in range(3)]


def mlkem_public(seed: bytes) -> bytes:
    """K-PKE.KeyGen (algorithm 13) of d, the first half of the 64-byte seed."""
    g = hashlib.sha3_512(seed[:32] + bytes([3])).digest()
    rho, sigma = g[:32], g[32:]
    s, e = ([ntt(sample_noise(sigma, n)) for n in part] for part in (range(3), range(3, 6)))
    rows = matrix(rho)
    t = [add(e[i], *(ntt_product(rows[i][j], s[j]) for j in range(3))) for i in range(3)]
    return b"".join(pack_bits(p, 12) for p in t) + rho


def mlkem_encapsulate(public: bytes, coins: bytes) -> tuple[bytes, bytes]:
    """ML-KEM.Encaps_internal (algorithm 17): shared secret and ciphertext."""
    g = hashlib.sha3_512(coins + hashlib.sha3_256(public).digest()).digest()
    shared, r = g[:32], g[32:]
    t = [unpack_bits(public[384 * i : 384 * (i + 1)], 12) for i in range(3)]
    rows = matrix(public[1152:])
    y = [ntt(sample_noise(r, n)) for n in range(3)]
    products = [add(*(ntt_product(rows[j][i], y[j]) for j in range(3))) for i in range(3)]
    u = [add(inverse_ntt(products[i]), sample_noise(r, 3 + i)) for i in range(3)]
    message = [bit * 1665 for bit in unpack_bits(coins, 1)]
    inner = add(*(ntt_product(t[i], y[i]) for i in range(3)))
    v = add(inverse_ntt(inner), sample_noise(r, 6), message)
    return shared, b"".join(pack_bits(compress(p, 10), 10) for p in u) + pack_bits(
        compress(v, 4), 4
    )
