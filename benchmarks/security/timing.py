"""Timing, in the manner of dudect: does an operation take longer for one secret than for others?

Reparaz, Balasch and Verbauwhede, "Dude, is my code constant time?", DATE 2017: a fixed secret
and random ones in random turns, the slowest tenth left out, Welch's t. The worst of three runs
decides. How many calls a run has is fixed here, before anything is measured, and nothing is run
again until it passes. |t| < 4.5 says only that so many calls on this machine show nothing.

docs/threat-models.md names the row for each operation that it calls constant-time.
"""

import hmac
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Literal

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from benchmarks.security.attack import Attack, Case, Effort
from benchmarks.security.stats import Array, Z, welch
from benchmarks.security.targets import Target, reference
from benchmarks.security.verdict import Measured, Rule
from benchmarks.security.vulnerable.compare import equal
from protocols.he.primes import prime_below
from protocols.masking.keys import links
from protocols.registry import load
from secagg import lpr, ntt, packing, prg, rlwe, rlwe_numpy, shamir
from secagg.encoding import FixedPoint
from secagg.kdf import LEAST_TOGETHER, derive, digests
from secagg.ring import RingVector
from secagg.seal import DEFAULT_SUITE, X25519, KeyPair, SystemSealer, seal_between, suite

LIMIT = 4.5
RUNS = 3
QUICK_CALLS, FULL_CALLS = 2000, 30_000
"""In a run, divided by how many times slower than the fastest an operation is."""

LONG = 1024
Operation = Callable[[bytes], object]
Secrets = Callable[[np.random.Generator], tuple[bytes, bytes]]
_PEER = X25519PrivateKey.from_private_bytes(b"\7" * 32).public_key()
_COINS = prg.StreamKey(b"\1" * 16, b"\2" * 12)
_SECRET = b"\xa5" * LONG
_RECIPIENT = suite("X25519").key_pair(b"\3" * 32).public
_PRIME = ntt.primes(1)[0]
_TRANSFORM = ntt.transform(4096, _PRIME)
_FACTORS = (
    np.full((2, 2), 12345, np.uint32),
    ntt.quotients(np.full((2, 2), 12345, np.uint32), _PRIME),
)
_CONSTANTS = np.random.default_rng(4).integers(0, _PRIME, 4096, np.uint32)
_QUOTIENTS = ntt.quotients(_CONSTANTS, _PRIME)
_POINTS = (1, 2, 3, 4, 5)


def secrets_of(length: int) -> Secrets:
    """A fixed secret, and a random one."""
    fixed = np.random.default_rng(1).bytes(length)
    return lambda random: (fixed, random.bytes(length))


def guesses(random: np.random.Generator) -> tuple[bytes, bytes]:
    """A guess that is wrong in its last byte, and one that is so from the first on: of both the
    outcome, which is public, is the same.
    """
    return _SECRET[:-1] + b"\x5a", random.bytes(LONG)


def numbers(random: np.random.Generator) -> tuple[bytes, bytes]:
    """A small number, and one of full length."""
    return (3).to_bytes(256, "big"), random.bytes(256)


@cache
def _fixed_shares() -> bytes:
    return _shares_of(b"\xa5" * 32, _COINS)


def _shares_of(secret: bytes, coins: prg.StreamKey) -> bytes:
    return b"".join(share for (share,) in shamir.deal([secret], _POINTS, 3, coins)[:3])


def shares(random: np.random.Generator) -> tuple[bytes, bytes]:
    """Three shares of one secret, always the same; and fresh ones of a random secret."""
    coins = prg.StreamKey(random.bytes(16), random.bytes(12))
    return _fixed_shares(), _shares_of(random.bytes(32), coins)


@cache
def _ordinary() -> bytes:
    return np.random.default_rng(5).uniform(-1, 1, LONG).astype(np.float32).tobytes()


def unusual(random: np.random.Generator) -> tuple[bytes, bytes]:
    """Values within the clip; and subnormal ones and some beyond the clip in any order."""
    small = random.integers(1, 2**22, LONG, dtype=np.uint32).view(np.float32)
    large = random.uniform(1, 2, LONG).astype(np.float32)
    return _ordinary(), np.where(random.random(LONG) < 0.5, small, large).tobytes()


def t_of(operation: Operation, secrets: Secrets, count: int, seed: int) -> float:
    """Welch's t between the two classes, `count` calls in all."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, 2, count)
    inputs = [bytes(bytearray(secrets(random)[kind])) for kind in classes]
    clock, taken = time.perf_counter_ns, np.empty(count)
    for _ in range(50):
        operation(inputs[0])
    for i, each in enumerate(inputs):
        fresh = bytes(bytearray(each))  # equally near in the cache, whichever class it is of
        began = clock()
        operation(fresh)
        taken[i] = clock() - began
    kept = taken <= np.percentile(taken, 90)
    fixed: Array = taken[kept & (classes == 0)]
    varied: Array = taken[kept & (classes == 1)]
    if min(len(fixed), len(varied)) < 2:  # one of them is the slowest tenth
        fixed, varied = taken[classes == 0], taken[classes == 1]
    return abs(welch(fixed, varied))


def _words(raw: bytes) -> "np.ndarray":
    return np.frombuffer(raw, np.uint32)


def _masks(key: bytes) -> None:
    acc = np.zeros(1024, np.uint32)
    prg.add_masks(acc, [prg.StreamKey(key[:16], key[16:])], [1], threads=1)


def _vector(raw: bytes) -> None:
    prg.add_masks(_words(raw).copy(), [_COINS], [1], threads=1)


def _deal(secret: bytes) -> None:
    shamir.deal([secret], _POINTS, 3, _COINS)


def _coefficients(key: bytes) -> None:
    shamir.deal([_SECRET[:32]], _POINTS, 3, prg.StreamKey(key[:16], key[16:]))


def _reconstruct(raw: bytes) -> None:
    size = shamir.SHARE_BYTES
    shamir.reconstruct(_POINTS[:3], [[raw[at : at + size] for at in range(0, 3 * size, size)]])


def _pack(raw: bytes) -> None:
    packing.pack(_words(raw) >> np.uint32(12), 20)


def _encode(raw: bytes) -> None:
    FixedPoint(20, 1.0, 1, 10).encode_words(np.frombuffer(raw, np.float32), 1, _COINS, clip=True)


def _gaussian(raw: bytes) -> None:
    from secagg import gaussian  # noqa: PLC0415 - not every version has it

    gaussian.sample(512, prg.StreamKey(raw[:16], raw[16:28]))


def _exchange(raw: bytes) -> None:
    X25519PrivateKey.from_private_bytes(raw).exchange(_PEER)


def _exchange_each(raw: bytes) -> None:
    X25519.key_pair(raw).agree_each([_RECIPIENT] * 8)


def _sign(raw: bytes) -> None:
    Ed25519PrivateKey.from_private_bytes(raw).sign(b"a label")


def _seal(raw: bytes) -> None:
    seal_between(raw[:32], _RECIPIENT, raw[32:], b"info", SystemSealer())


def _hash(raw: bytes) -> None:
    digests("timing", np.frombuffer(raw, np.uint8).reshape(1, -1).repeat(LEAST_TOGETHER, 0))


def _add(raw: bytes) -> None:
    RingVector.zeros(32, 1024).add_packed(raw)


def _residues(raw: bytes) -> "np.ndarray":
    """4096 values below the prime: the low bits of secret words."""
    return np.tile(_words(raw) >> np.uint32(3), 4)


def _ntt(raw: bytes) -> None:
    _TRANSFORM.forward(_residues(raw))


def _inverse(raw: bytes) -> None:
    _TRANSFORM.inverse(_residues(raw))


def _key_product(raw: bytes) -> None:
    """Both ways that a key enters a product: as the vector, and as factors with quotients."""
    key, prime = _residues(raw), np.uint32(_PRIME)
    multiply = (ntt.kernels() or rlwe_numpy).multiply
    multiply(_CONSTANTS.copy(), key, ntt.quotients(key, _PRIME), prime)
    multiply(key, _CONSTANTS, _QUOTIENTS, prime)


def one_of_two(random: np.random.Generator) -> tuple[bytes, bytes]:
    """Which of two keys, both made before and used equally often."""
    del random
    return b"\0", b"\1"


@cache
def _sealed(name: str) -> list[tuple[KeyPair, bytes]]:
    """Two key pairs of a suite, and what is sealed for each."""
    kind = suite(name)
    pairs = [kind.key_pair(bytes([at + 1]) * kind.seed_bytes) for at in (0, 1)]
    return [(pair, pair.public.seal(bytes(104), b"info")) for pair in pairs]


def _decapsulate(which: bytes) -> None:
    pair, sealed = _sealed(DEFAULT_SUITE)[which[0]]
    pair.decapsulate(sealed[: pair.public.suite.ciphertext_bytes])


def _open(name: str, which: bytes) -> None:
    pair, sealed = _sealed(name)[which[0]]
    pair.open(sealed, b"info")


def _link(raw: bytes) -> None:
    links(*np.frombuffer(raw, np.uint8).reshape(2, 1, 32))


def _fields(raw: bytes) -> None:
    """Two values a coefficient, added to noise, and packed: `lattice` without its transforms."""
    kernels = rlwe._kernels()
    row = _residues(raw)
    noise = (row & np.uint32(63)).astype(np.int32)
    kernels.encode(row, noise, row.reshape(2, -1).repeat(2, 1), *_FACTORS, np.uint32(_PRIME))
    kernels.pack(row, np.empty(row.size * 30 // 8, np.uint8))


def _public_key(raw: bytes) -> None:
    """A secret message under secret coins: `ckks` and `bfv` without their encodings."""
    coins, message = prg.StreamKey(raw[:16], raw[16:28]), np.frombuffer(raw[28:], np.uint64)
    key = _key_of_others()
    lpr.encrypt(key, message.reshape(1, -1) >> np.uint64(5), coins, flat=False)
    lpr.encrypt(key, message.reshape(1, -1) >> np.uint64(5), coins, flat=True)


@cache
def _key_of_others() -> lpr.PublicKey:
    ring = lpr.Ring(1024, prime_below(2**60, 1024), prime_below(2**49, 1024))
    rows = np.random.default_rng(6).integers(0, ring.special, (2, 2, 1024), np.uint64)
    return lpr.PublicKey(ring, rows)


def _power(raw: bytes) -> int:
    return pow(int.from_bytes(raw, "big"), 3, 2**1279 - 1)


def _compare(raw: bytes) -> bool:
    return hmac.compare_digest(raw, _SECRET)


OPERATIONS: dict[str, tuple[Operation, Secrets, int]] = {
    "bytes ==": (partial(equal, _SECRET), guesses, 1),
    "Python integers": (_power, numbers, 1),
    "hmac.compare_digest": (_compare, guesses, 1),
    "X25519": (_exchange, secrets_of(32), 4),
    "X25519, together": (_exchange_each, secrets_of(32), 8),
    "links": (_link, secrets_of(64), 1),
    "sealing (AES-GCM)": (_seal, secrets_of(136), 2),
    "decapsulation (ML-KEM-768)": (_decapsulate, one_of_two, 8),
    "HPKE (X25519)": (partial(_open, "X25519"), one_of_two, 8),
    "HPKE (ML-KEM-768)": (partial(_open, "MLKEM768-X25519"), one_of_two, 8),
    "signing (Ed25519)": (_sign, secrets_of(32), 4),
    "SHA-256": (_hash, secrets_of(36), 1),
    "HKDF": (lambda raw: derive(raw, "timing"), secrets_of(32), 1),
    "mask kernel (AES-CTR)": (_masks, secrets_of(28), 2),
    "vector under a mask": (_vector, secrets_of(4096), 2),
    "Shamir, deal": (_deal, secrets_of(32), 4),
    "Shamir, coefficients": (_coefficients, secrets_of(28), 4),
    "Shamir, reconstruct": (_reconstruct, shares, 4),
    "ring addition": (_add, secrets_of(4096), 1),
    "packing": (_pack, secrets_of(4096), 1),
    "Gaussian sampler": (_gaussian, secrets_of(32), 4),
    "NTT": (_ntt, secrets_of(4096), 4),
    "inverse NTT": (_inverse, secrets_of(4096), 4),
    "product with a key": (_key_product, secrets_of(4096), 4),
    "lattice, values and noise": (_fields, secrets_of(4096), 4),
    "public-key encryption": (_public_key, secrets_of(28 + 8 * 1024), 32),
    "encoding": (_encode, unusual, 4),
}
"""name -> (operation, secrets, how many times slower than the first)."""

BAD = ("bytes ==", "Python integers")
UNCLAIMED = ("encoding",)


def _measure(name: str, _target: Target, effort: Effort) -> Measured:
    operation, secrets, slow = OPERATIONS[name]
    count = effort.of(QUICK_CALLS, FULL_CALLS) // slow
    worst = max(t_of(operation, secrets, count, seed) for seed in range(RUNS))
    note = f"the worst of {RUNS} runs of {count} calls"
    return Measured(worst, max(0.0, worst - Z), worst + Z, "normal", note)


def _no_protocol(_effort: Effort) -> tuple[Target, ...]:
    loaded = load("plain")
    return (Target("all protocols", loaded, loaded.configure),)


def _case(name: str) -> Case:
    scope: Literal["claimed", "unclaimed"] = "unclaimed" if name in UNCLAIMED else "claimed"
    rule = Rule(LIMIT, 0.0, scope=scope, by="value")
    measure = partial(_measure, name)
    if name in BAD:
        return Case(name, rule, measure, targets=lambda _effort: (reference(),))
    return Case(name, rule, measure, control=BAD[0], targets=_no_protocol)


ATTACK = Attack(
    "timing of operations on secrets",
    "Does the time of a call tell a fixed secret from random ones?",
    "Reparaz et al., DATE 2017 (dudect)",
    "|t|",
    tuple(_case(name) for name in OPERATIONS),
)
