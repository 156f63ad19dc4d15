"""Taking the masks off: what the server does with the shares that came back.

The self mask of every survivor and the pairwise masks between survivors and dropped clients
are subtracted in one pass over the vector. Every seed is recognised before it is used, by
its commitment or by the public key that was advertised; every share by its fingerprint.
"""

import hmac
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from protocols.base import BadAnswer
from protocols.masking import keys
from protocols.masking.canary import canary_intact
from protocols.masking.parameters import MaskingParameters
from protocols.masking.server_state import Unmasking
from secagg import shamir
from secagg.errors import DecodeError, ProtocolAborted
from secagg.prg import StreamKey
from secagg.seal import KeyPair, suite

Adjacency = Mapping[int, tuple[int, ...]]
HolderShares = dict[int, bytes]
Kind = Literal["mask", "self"]


class Pair(NamedTuple):
    """A surviving and a dropped client whose common mask is still in the sum."""

    survivor: int
    dropped: int


class Recovery:
    """One attempt to unmask one sum, from what the server held when the last stage closed."""

    def __init__(
        self, parameters: MaskingParameters, context0: bytes, graph: Adjacency, state: Unmasking
    ) -> None:
        self._parameters = parameters
        self._context0 = context0
        self._context1 = state.context
        self._state = state
        self._returned = _by_dealer(state)
        dropped = state.dealt.keys() - state.uploaded
        self._pairs = [Pair(v, u) for u in sorted(dropped) for v in graph[u] if v in state.uploaded]
        self._bad: list[BadAnswer] = []

    @property
    def bad_answers(self) -> tuple[BadAnswer, ...]:
        """What did not match, and was left out."""
        return tuple(self._bad)

    def unmask(self) -> None:
        """Turn the masked sum into the sum over U3 and its canary, in place.

        Raises ProtocolAborted with the reason and the blame.
        """
        self_masks = self._self_masks()
        seeds = self._mask_seeds()
        key_pairs = {u: self._recognised(u, seed) for u, seed in seeds.items()}
        claimed = self._claimed()
        theirs = {p: claimed.get(p) or self._opened(p, key_pairs) for p in self._pairs}
        self._subtract(self_masks, [1] * len(self_masks))
        self._subtract(*self._pair_masks(theirs, seeds))
        if not self._canary_intact():
            self._correct(claimed, seeds, key_pairs)
            if not self._canary_intact():
                raise self._abort("the masks do not cancel: the canary of the sum is wrong")

    def _self_masks(self) -> list[StreamKey]:
        """The self mask of every survivor, by reconstructing b_u."""
        seeds = self._reconstruct("self", sorted(self._state.uploaded))
        for u, seed in seeds.items():
            commitment = keys.commitment(seed, self._context1, u)
            if not hmac.compare_digest(commitment, self._state.dealt[u].commitment):
                raise self._abort(f"the self-mask seed of client {u} is not its commitment's", u)
        return [keys.own_stream(seed, self._context1, u) for u, seed in seeds.items()]

    def _mask_seeds(self) -> dict[int, bytes]:
        """m_u of every dropped client that shares a mask with a survivor."""
        return self._reconstruct("mask", sorted({pair.dropped for pair in self._pairs}))

    def _recognised(self, u: int, seed: bytes) -> KeyPair:
        """The key pair of m_u, which must be the advertised one."""
        pair = keys.mask_keys(suite(self._parameters.suite), seed, self._context0, u)
        if not hmac.compare_digest(pair.public.raw, self._state.adverts[u].mask_key):
            raise self._abort(f"the mask seed of client {u} is not that of its public key", u)
        return pair

    def _claimed(self) -> dict[Pair, bytes]:
        """The contributions that survivors sent along with their shares."""
        return {
            Pair(v, share.of): share.contribution
            for v, answer in self._state.answers.items()
            for share in answer.dropped
        }

    def _opened(self, pair: Pair, key_pairs: Mapping[int, KeyPair]) -> bytes:
        """The survivor's contribution as it was sealed to the dropped client."""
        sealed = self._state.dealt[pair.survivor].contributions[pair.dropped]
        info = keys.contribution_info(self._context1, pair.survivor, pair.dropped)
        try:
            return key_pairs[pair.dropped].open(sealed, info)
        except DecodeError:
            why = f"what client {pair.survivor} sealed for client {pair.dropped} does not open"
            raise self._abort(why, pair.survivor) from None

    def _pair_masks(
        self, theirs: Mapping[Pair, bytes], seeds: Mapping[int, bytes]
    ) -> tuple[list[StreamKey], list[int]]:
        """The masks of these pairs, signed as the survivor added them."""
        streams = []
        for (v, u), contribution in theirs.items():
            of_dropped = keys.contribution(seeds[u], self._context1, u, v)
            seed = keys.pair_seed(self._context1, v, contribution, u, of_dropped)
            streams.append(keys.pair_stream(seed, self._context1))
        return streams, [keys.pair_sign(v, u) for v, u in theirs]

    def _correct(
        self,
        claimed: Mapping[Pair, bytes],
        seeds: Mapping[int, bytes],
        key_pairs: Mapping[int, KeyPair],
    ) -> None:
        """Some claimed contribution is wrong: open what was sealed, and exchange the masks."""
        sealed = {pair: self._opened(pair, key_pairs) for pair in claimed}
        wrong = {p: c for p, c in claimed.items() if not hmac.compare_digest(c, sealed[p])}
        self._bad += [BadAnswer(u, v, "contribution") for v, u in wrong]
        streams, signs = self._pair_masks(wrong, seeds)
        self._subtract(streams, [-sign for sign in signs])
        self._subtract(*self._pair_masks({pair: sealed[pair] for pair in wrong}, seeds))

    def _subtract(self, streams: list[StreamKey], signs: list[int]) -> None:
        self._state.total.add_masks(streams, [-sign for sign in signs])

    def _canary_intact(self) -> bool:
        total = self._state.total.values()
        return canary_intact(total, self._parameters, len(self._state.uploaded))

    def _reconstruct(self, kind: Kind, dealers: Iterable[int]) -> dict[int, bytes]:
        """The seeds of these clients: those shared at the same points with one basis."""
        chosen = {u: self._chosen_shares(kind, u) for u in dealers}
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for u, shares in chosen.items():
            groups[tuple(shares)].append(u)
        seeds: dict[int, bytes] = {}
        for points, members in groups.items():
            try:
                of_group = [list(chosen[u].values()) for u in members]
                seeds |= zip(members, shamir.reconstruct(points, of_group), strict=True)
            except DecodeError:
                raise self._abort_for_dealer(
                    kind, points, {u: chosen[u] for u in members}
                ) from None
        return dict(sorted(seeds.items()))

    def _chosen_shares(self, kind: Kind, dealer: int) -> HolderShares:
        """The first t shares that match their fingerprints, by holder."""
        need, dealt = self._parameters.threshold, self._state.dealt[dealer]
        prints = dealt.mask_fingerprints if kind == "mask" else dealt.self_fingerprints
        good: HolderShares = {}
        for holder, share in sorted(self._returned[kind, dealer].items()):
            found = keys.fingerprint(kind, share, self._context1, dealer, holder)
            if hmac.compare_digest(found, prints[holder]):
                good[holder] = share
            else:
                self._bad.append(BadAnswer(dealer, holder, f"{kind} share"))
        if len(good) < need:
            what = "self-mask" if kind == "self" else "mask"
            why = f"{len(good)} shares of the {what} seed of client {dealer} came back, not {need}"
            wrong = {bad.holder for bad in self._bad if bad.dealer == dealer}
            raise self._abort(why, *wrong, *({dealer} if wrong else ()))
        return dict(list(good.items())[:need])

    def _abort_for_dealer(
        self, kind: Kind, points: tuple[int, ...], chosen: Mapping[int, HolderShares]
    ) -> ProtocolAborted:
        """Which dealers shared something that is not a seed: their shares match what they
        published, so nobody else can be at fault.
        """
        culprits = []
        for u, shares in chosen.items():
            try:
                shamir.reconstruct(points, [list(shares.values())])
            except DecodeError:
                culprits.append(u)
        return self._abort(f"the {kind} shares that were dealt are not those of a seed", *culprits)

    def _abort(self, reason: str, *blame: int) -> ProtocolAborted:
        return ProtocolAborted(reason, stage="unmask", blame=set(blame))


def _by_dealer(state: Unmasking) -> Mapping[tuple[Kind, int], HolderShares]:
    """All returned shares, by kind and dealer, then by holder."""
    returned: dict[tuple[Kind, int], HolderShares] = defaultdict(dict)
    for holder, answer in state.answers.items():
        for own in answer.survivors:
            returned["self", own.of][holder] = own.share
        for gone in answer.dropped:
            returned["mask", gone.of][holder] = gone.share
    return returned
