"""Taking the masks off: what the server does with the shares that came back.

The self mask of every survivor and the pairwise masks between survivors and dropped clients
are subtracted in one pass over the vector. Every seed is recognised before it is used, by its
commitment; every share by its fingerprint.
"""

import hmac
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from protocols.base import BadAnswer
from protocols.masking import keys
from protocols.masking.canary import canary_intact
from protocols.masking.messages import FINGERPRINT_BYTES, UnmaskAnswer
from protocols.masking.parameters import MaskingParameters
from protocols.masking.server_state import Dealt, Unmasking
from secagg import shamir
from secagg.errors import DecodeError, ProtocolAborted
from secagg.kdf import DIGEST_BYTES
from secagg.prg import StreamKey
from secagg.shamir import SHARE_BYTES

Adjacency = Mapping[int, tuple[int, ...]]
HolderShares = dict[int, bytes]
Kind = Literal["mask", "self"]


class Pair(NamedTuple):
    """A surviving and a dropped client whose common mask is still in the sum."""

    survivor: int
    dropped: int


class Recovery:
    """One attempt to unmask one sum, from what the server held when the last stage closed."""

    def __init__(self, parameters: MaskingParameters, graph: Adjacency, state: Unmasking) -> None:
        self._parameters = parameters
        self._graph = graph
        self._context1, self._context2 = state.context, state.bound
        self._state = state
        self._returned = _by_dealer(graph, state)
        self._bad: list[BadAnswer] = []

    @property
    def bad_answers(self) -> tuple[BadAnswer, ...]:
        """What did not match, and was left out."""
        return tuple(self._bad)

    def unmask(self) -> None:
        """Turn the masked sum into the sum over U3 and its canary, in place.

        Raises ProtocolAborted with the reason and the blame.
        """
        streams = self._self_masks()
        signs = [-1] * len(streams)
        pairs, secrets = self._open_pairs()
        ordered = [(min(pair), max(pair)) for pair in pairs]
        streams += keys.pair_streams(secrets, self._context2, ordered)
        signs += [-keys.pair_sign(*pair) for pair in pairs]
        self._state.total.add_masks(streams, signs)
        total = self._state.total.values()
        if not canary_intact(total, self._parameters, len(self._state.links)):
            raise self._abort("the masks do not cancel: the canary of the sum is wrong")

    def _self_masks(self) -> list[StreamKey]:
        """The self mask of every survivor, by reconstructing b_u."""
        seeds = self._reconstruct("self", sorted(self._state.links))
        return [keys.own_stream(seed, self._context2, u) for u, seed in seeds.items()]

    def _open_pairs(self) -> tuple[list[Pair], list[bytes]]:
        """Every pair of a survivor and a dropped neighbour, and e of its lower number: derived
        from the dropped client's m_u, or opened with it from what the survivor published.
        """
        survivors = self._state.links
        dropped = [u for u in self._state.dealt if u not in survivors]
        near = {u: [v for v in self._graph[u] if v in survivors] for u in dropped}
        seeds = self._reconstruct("mask", [u for u in dropped if near[u]])
        links = self._links(near)
        pairs, secrets = [], []
        for u, seed in seeds.items():
            derived = keys.edges(seed, self._context1, u, near[u])
            for v, edge in zip(near[u], derived, strict=True):
                pairs.append(Pair(v, u))
                secrets.append(edge)
        linked = [at for at, (v, u) in enumerate(pairs) if v < u]
        opened = keys.links([secrets[at] for at in linked], [links[pairs[at]] for at in linked])
        for number, at in enumerate(linked):
            secrets[at] = opened[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]
        return pairs, secrets

    def _links(self, near: Mapping[int, Sequence[int]]) -> dict[Pair, bytes]:
        """What survivors published about pairs with a dropped client of a higher number."""
        wanted = {v for u, around in near.items() for v in around if v < u}
        sharers, links = self._state.dealt, {}
        for v in wanted:
            raw = self._state.links[v]
            higher = [u for u in self._graph[v] if u > v and u in sharers]
            for at, u in enumerate(higher):
                if u in near:
                    links[Pair(v, u)] = raw[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES]
        return links

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
        for u, seed in seeds.items():
            self._check_seed(kind, u, seed)
        return dict(sorted(seeds.items()))

    def _check_seed(self, kind: Kind, u: int, seed: bytes) -> None:
        """The seed that was shared must be the one that was committed to."""
        dealt = self._state.dealt[u]
        published = dealt.mask_commitment if kind == "mask" else dealt.self_commitment
        if not hmac.compare_digest(keys.commitment(kind, seed, self._context1, u), published):
            raise self._abort(f"the {_NAMES[kind]} seed of client {u} is not its commitment's", u)

    def _chosen_shares(self, kind: Kind, dealer: int) -> HolderShares:
        """The first t shares that match their fingerprints, by holder."""
        need, returned = self._parameters.threshold, self._returned[kind, dealer]
        prints = _fingerprints_by_holder(kind, dealer, self._graph, self._state.dealt[dealer])
        found = keys.fingerprints(kind, self._context1, dealer, returned.items())
        published = [prints[holder] for holder in returned]
        if hmac.compare_digest(b"".join(found), b"".join(published)):
            good = returned
        else:
            good = {}
            for (holder, share), *both in zip(returned.items(), found, published, strict=True):
                if hmac.compare_digest(*both):
                    good[holder] = share
                else:
                    self._bad.append(BadAnswer(dealer, holder, f"{kind} share"))
        if len(good) < need:
            what = f"shares of the {_NAMES[kind]} seed of client {dealer} came back"
            wrong = {bad.holder for bad in self._bad if bad.dealer == dealer}
            blame = {*wrong, dealer} if wrong else ()
            raise self._abort(f"{len(good)} {what}, not {need}", *blame)
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


_NAMES: Mapping[Kind, str] = {"mask": "mask", "self": "self-mask"}


def _by_dealer(graph: Adjacency, state: Unmasking) -> Mapping[tuple[Kind, int], HolderShares]:
    """All returned shares, by kind and dealer, then by holder in order."""
    returned: dict[tuple[Kind, int], HolderShares] = defaultdict(dict)
    for holder, answer in sorted(state.answers.items()):
        near = sorted({holder, *graph[holder]} & state.dealt.keys())
        for kind, dealer, share in _shares_of(answer, near, state.links):
            returned[kind, dealer][holder] = share
    return returned


def _shares_of(
    answer: UnmaskAnswer, near: Iterable[int], survivors: Mapping[int, bytes]
) -> Iterable[tuple[Kind, int, bytes]]:
    """An answer's shares: of b for survivors, of m for the others, each in order of dealer."""
    at: dict[Kind, int] = {"self": 0, "mask": 0}
    raw: dict[Kind, bytes] = {"self": answer.self_shares, "mask": answer.mask_shares}
    for dealer in near:
        kind: Kind = "self" if dealer in survivors else "mask"
        yield kind, dealer, raw[kind][at[kind] : at[kind] + SHARE_BYTES]
        at[kind] += SHARE_BYTES


def _fingerprints_by_holder(
    kind: Kind, dealer: int, graph: Adjacency, dealt: Dealt
) -> dict[int, bytes]:
    raw = dealt.mask_fingerprints if kind == "mask" else dealt.self_fingerprints
    prints = {
        v: raw[at * FINGERPRINT_BYTES : (at + 1) * FINGERPRINT_BYTES]
        for at, v in enumerate(graph[dealer])
    }
    return prints | {dealer: dealt.own_fingerprint}
