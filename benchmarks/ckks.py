"""The same sum by homomorphic encryption: TenSEAL's CKKS with NVFLARE's default parameters.

Keys are made beforehand on both sides: this is what is spent on every parameter. Ours is
exact on 32-bit fixed point; CKKS is approximate, and its key holder sees the sum.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.masks import streams_of
from benchmarks.measure import Line, close, same, timed
from secagg import packing, prg
from secagg.encoding import FixedPoint

DEGREE, MODULI, SCALE = 8192, [60, 40, 40], 2.0**40
SLOTS = DEGREE // 2
TOLERANCE = 1e-4


def sums(d: int, clients: int) -> Line:
    """Protect `clients` vectors, add them up, open the sum."""
    rng = np.random.default_rng(0)
    updates = [rng.uniform(-1, 1, d).astype(np.float32) for _ in range(clients)]
    masked = _Masked(d, clients)
    expected = np.sum(updates, axis=0, dtype=np.float64)
    peers, sizes = {}, {}
    if find_spec("tenseal"):
        encrypted = Ckks()
        peers = {"TenSEAL CKKS": timed(lambda: encrypted.sum(updates))}
        sizes = {"ckks_bytes_per_param": round(encrypted.size(updates[0]) / d, 2)}

    def check() -> None:
        words = masked.sum(updates)
        same(words, masked.plain_sum(updates), "masked sum")
        mean = masked.encoding.decode(words)[0]
        close(mean * clients, expected, TOLERANCE, "masked sum")
        if peers:
            close(encrypted.sum(updates), expected, TOLERANCE * clients, "CKKS sum")

    return Line(
        f"sum of {clients} vectors, d={d}",
        {"d": d, "clients": clients, **sizes},
        timed(lambda: masked.sum(updates)),
        check,
        peers=peers,
        bytes_per_param=4.0,
    )


class _Masked:
    """Encode, self mask and pairwise masks, pack, add up, unmask: all parties, no dropouts."""

    def __init__(self, d: int, clients: int) -> None:
        self.encoding = FixedPoint.filling(32, clip=1.0, max_weight=1, max_clients=clients)
        self._length = d + 1
        self._own = streams_of(clients)
        self._coins = streams_of(clients)
        self._pair = {(u, v): streams_of(1)[0] for v in range(clients) for u in range(v)}

    def sum(self, updates: Sequence[NDArray[np.float32]]) -> NDArray[np.uint32]:
        total = np.zeros(self._length, np.uint32)
        for u, update in enumerate(updates):
            words = self.encoding.encode_words(update, 1, self._coins[u], clip=True).words
            others = [v for v in range(len(updates)) if v != u]
            streams = [self._own[u], *(self._pair[min(u, v), max(u, v)] for v in others)]
            prg.add_masks(words, streams, [1, *(1 if u < v else -1 for v in others)])
            packing.add_packed(total, packing.pack(words, 32), 32)
        prg.add_masks(total, self._own, [-1] * len(updates))
        return total

    def plain_sum(self, updates: Sequence[NDArray[np.float32]]) -> NDArray[np.uint32]:
        """The same integers, added in clear."""
        total = np.zeros(self._length, np.uint32)
        for update, coins in zip(updates, self._coins, strict=True):
            total += self.encoding.encode(update, 1, coins).astype(np.uint32)
        return total


class Ckks:
    """TenSEAL with keys of its own."""

    def __init__(self) -> None:
        import tenseal  # noqa: PLC0415

        self._ts: Any = tenseal
        self._keys = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS, poly_modulus_degree=DEGREE, coeff_mod_bit_sizes=MODULI
        )
        self._keys.global_scale = SCALE

    def sum(self, updates: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        """Encrypted, added up and decrypted."""
        total = self.encrypt(updates[0])
        for update in updates[1:]:
            for mine, theirs in zip(total, self.encrypt(update), strict=True):
                mine += theirs  # noqa: PLW2901 - adds in place
        opened = [value for chunk in total for value in chunk.decrypt()]
        return np.array(opened)

    def size(self, update: NDArray[np.float32]) -> int:
        """Bytes of an encrypted vector on the wire."""
        return sum(len(chunk.serialize()) for chunk in self.encrypt(update))

    def encrypt(self, update: NDArray[np.float32]) -> list[Any]:
        """A ciphertext for each piece of the vector."""
        pieces = (update[low : low + SLOTS] for low in range(0, update.size, SLOTS))
        return [self._ts.ckks_vector(self._keys, piece.tolist()) for piece in pieces]
