"""Taking the masks off: spec section 5.4."""

from typing import TYPE_CHECKING

from tests.reference import derivations as d
from tests.reference.errors import Abort, Decode
from tests.reference.labels import xor
from tests.reference.shamir import SHARE, reconstruct
from tests.reference.streams import mask

if TYPE_CHECKING:
    from tests.reference.server import Server

NAMES = {"self": "self-mask", "mask": "mask"}


class Recovery:
    """From what a server holds when the last stage closes."""

    def __init__(self, server: "Server") -> None:
        self.server, self.p, self.context = server, server.p, server.context1
        self.bound = server.context
        self.survivors = sorted(server.links)
        self.gone = [u for u in server.sharers if u not in server.links]
        self.returned: dict[tuple[str, int], dict[int, bytes]] = {}
        for holder, answer in sorted(server.answers.items()):
            near = sorted(v for v in [holder, *server.near[holder]] if v in server.sharers)
            there = [v for v in near if v in server.links]
            missing = [v for v in near if v not in server.links]
            for kind, dealers, raw in (
                ("self", there, answer.self_shares),
                ("mask", missing, answer.mask_shares),
            ):
                for dealer, share in zip(dealers, d.cut(raw, SHARE), strict=True):
                    self.returned.setdefault((kind, dealer), {})[holder] = share
        self.bad: list[tuple[int, int, str]] = []

    def unmask(self) -> list[tuple[int, int, str]]:
        """The sum without masks, in the server; the shares that were left out."""
        streams = [(-1, d.self_stream(self.seed("self", u), self.bound, u)) for u in self.survivors]
        for u in self.gone:
            around = [v for v in self.server.near[u] if v in self.survivors]
            m = self.seed("mask", u) if around else b""
            for v in around:
                secret = d.edge(m, self.context, u, v)
                if v < u:
                    secret = xor(secret, self.server.links[v][u])
                sign = 1 if v < u else -1  # the survivor's
                streams.append((-sign, d.pair_stream(secret, self.bound, u, v)))
        self._subtract(streams)
        return self.bad

    def _subtract(self, streams: list[tuple[int, bytes]]) -> None:
        length, modulus = self.p.masked_length, 2**self.p.modulus_bits
        total = self.server.total
        for sign, raw in streams:
            stream = mask(raw, length, self.p.modulus_bits)
            total = [(x + sign * y) % modulus for x, y in zip(total, stream, strict=True)]
        self.server.total = total
        zeros, ones = total[self.p.length : -1], total[-1]
        if any(zeros) or ones != len(self.survivors) % modulus:
            raise self._abort("the masks do not cancel: the canary of the sum is wrong")

    def seed(self, kind: str, dealer: int) -> bytes:
        good = self._good_shares(kind, dealer)
        shared = self.server.shared[dealer]
        try:
            seed = reconstruct(list(good), list(good.values()))
        except Decode:
            why = f"the {kind} shares that were dealt are not those of a seed"
            raise self._abort(why, dealer) from None
        published = shared.mask_commitment if kind == "mask" else shared.self_commitment
        if d.commitment(kind, seed, self.context, dealer) != published:
            why = f"the {NAMES[kind]} seed of client {dealer} is not its commitment's"
            raise self._abort(why, dealer)
        return seed

    def _good_shares(self, kind: str, dealer: int) -> dict[int, bytes]:
        shared, near = self.server.shared[dealer], self.server.near[dealer]
        raw = shared.mask_fingerprints if kind == "mask" else shared.self_fingerprints
        prints = dict(zip(near, d.cut(raw, 16), strict=True)) | {dealer: shared.own_fingerprint}
        good, wrong = {}, []
        for holder, share in self.returned.get((kind, dealer), {}).items():
            found = d.fingerprint(kind, self.context, dealer, holder, share)
            if found == prints[holder]:
                good[holder] = share
            else:
                wrong.append(holder)
        self.bad += [(dealer, holder, f"{kind} share") for holder in wrong]
        need = self.p.threshold
        if len(good) < need:
            what = f"shares of the {NAMES[kind]} seed of client {dealer} came back"
            blame = {*wrong, dealer} if wrong else ()
            raise self._abort(f"{len(good)} {what}, not {need}", *blame)
        return dict(sorted(good.items())[:need])

    def _abort(self, reason: str, *blame: int) -> Abort:
        return Abort(reason, "unmask", set(blame))
