"""Taking the masks off: what the server does with the shares that came back.

The self mask of every survivor and the pairwise masks between survivors and dropped clients
are subtracted in one pass over the vector. Every seed is recognised before it is used, by its
commitment; every share by its fingerprint.

A thousand clients have a million shares, so everything here is in arrays: a row for each share
or pair, in the order of two parties. What one of the two sent is sorted by the sender first; a
stable sort by the other turns it round.
"""

import hmac
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocols.base import BadAnswer
from protocols.masking import keys
from protocols.masking.canary import canary_intact
from protocols.masking.keys import Parties
from protocols.masking.messages import FINGERPRINT_BYTES
from protocols.masking.parameters import MaskingParameters
from protocols.masking.server_state import Unmasking
from secagg import shamir
from secagg.errors import DecodeError, ProtocolAborted
from secagg.kdf import DIGEST_BYTES, Table, strings, table
from secagg.shamir import SHARE_BYTES

Adjacency = Mapping[int, tuple[int, ...]]
Kind = Literal["mask", "self"]
Flags = NDArray[np.bool_]


class Held(NamedTuple):
    """Shares of one kind that came back, by dealer and then by holder, a row each."""

    dealers: Parties
    holders: Parties
    shares: Table


class Recovery:
    """One attempt to unmask one sum, from what the server held when the last stage closed."""

    def __init__(self, parameters: MaskingParameters, graph: Adjacency, state: Unmasking) -> None:
        self._parameters = parameters
        self._context1, self._context2 = state.context, state.bound
        self._state = state
        self._bad: list[BadAnswer] = []
        self._one, self._other = _pairs(graph, state.dealt)
        self._dealt, self._survived, self._answered = (
            _flags(parties, parameters.clients)
            for parties in (state.dealt, state.links, state.answers)
        )

    @property
    def bad_answers(self) -> tuple[BadAnswer, ...]:
        """What did not match, and was left out."""
        return tuple(self._bad)

    @property
    def possible(self) -> bool:
        """Whether enough came back; it says nothing of what dealers shared."""
        survivors = np.array(sorted(self._state.links))
        dropped = np.array(sorted(self._state.dealt.keys() - self._state.links.keys()))
        try:
            self._chosen_shares("self", survivors)
            self._chosen_shares("mask", dropped)
        except ProtocolAborted:
            return False
        return True

    def unmask(self) -> None:
        """Turn the masked sum into the sum over U3 and its canary, in place.

        Raises ProtocolAborted with the reason and the blame.
        """
        survivors = np.array(sorted(self._state.links))
        seeds = self._reconstruct("self", survivors)
        streams = keys.own_streams(seeds, self._context2, survivors)
        secrets, mine, gone = self._open_pairs()
        streams += keys.pair_streams(secrets, self._context2, mine, gone)
        added = np.append(np.ones(len(survivors), np.int8), keys.pair_signs(mine, gone))
        self._state.total.add_masks(streams, -added)
        total = self._state.total.values()
        if not canary_intact(total, self._parameters, len(survivors)):
            raise self._abort("the masks do not cancel: the canary of the sum is wrong")

    def _open_pairs(self) -> tuple[Table, Parties, Parties]:
        """Every pair of a survivor and a dropped neighbour, and e of its lower number: derived
        from the dropped client's m_u, or opened with it from what the survivor published.
        """
        broken = ~self._survived[self._one] & self._survived[self._other]
        gone, mine = self._one[broken], self._other[broken]
        dropped, of_pair = np.unique(gone, return_inverse=True)
        seeds = self._reconstruct("mask", dropped)
        secrets = keys.edges(seeds[of_pair], self._context1, gone, mine).copy()
        linked = mine < gone
        secrets[linked] = keys.links(secrets[linked], self._links())
        return secrets, mine, gone

    def _links(self) -> Table:
        """What survivors published about pairs with a dropped client of a higher number, by
        that client and then by survivor.
        """
        one, other = self._one, self._other
        published = self._survived[one] & self._dealt[other] & (one < other)
        raw = b"".join(raw for _, raw in sorted(self._state.links.items()))
        broken = ~self._survived[other[published]]
        links = _rows(raw, DIGEST_BYTES)[broken]
        return links[np.argsort(other[published][broken], kind="stable")]

    def _reconstruct(self, kind: Kind, dealers: Parties) -> Table:
        """The seeds of these clients: those shared at the same points with one basis."""
        held = self._chosen_shares(kind, dealers)
        shape = len(dealers), self._parameters.threshold
        points, shares = held.holders.reshape(shape), held.shares.reshape(*shape, SHARE_BYTES)
        groups: dict[bytes, list[int]] = defaultdict(list)
        for place, row in enumerate(points):
            groups[row.tobytes()].append(place)
        seeds = np.empty((len(dealers), shamir.SECRET_BYTES), np.uint8)
        for places in groups.values():
            of_all = points[places[0]].tolist()
            try:
                seeds[places] = shamir.reconstruct_rows(of_all, shares[places])
            except DecodeError:
                raise self._abort_for_dealer(
                    kind, of_all, dealers[places], shares[places]
                ) from None
        self._check_seeds(kind, dealers, seeds)
        return seeds

    def _check_seeds(self, kind: Kind, dealers: Parties, seeds: Table) -> None:
        """The seed that was shared must be the one that was committed to."""
        dealt = [self._state.dealt[u] for u in dealers.tolist()]
        published = [d.mask_commitment if kind == "mask" else d.self_commitment for d in dealt]
        found = keys.commitments(kind, seeds, self._context1, dealers)
        same = _equal(found, table(published, DIGEST_BYTES))
        for u in dealers[~same].tolist():
            raise self._abort(f"the {_NAMES[kind]} seed of client {u} is not its commitment's", u)

    def _chosen_shares(self, kind: Kind, dealers: Parties) -> Held:
        """Of each dealer the first t shares that match their fingerprints."""
        held, need = self._returned(kind), self._parameters.threshold
        found = keys.fingerprints(kind, self._context1, *held)
        good = _equal(found, self._published(kind))
        for dealer, holder in zip(held.dealers[~good], held.holders[~good], strict=True):
            self._bad.append(BadAnswer(int(dealer), int(holder), f"{kind} share"))
        ends = np.searchsorted(held.dealers, dealers, "right")
        passed = np.append(0, np.cumsum(good))
        before = np.append(0, passed[ends])[:-1]
        for u, count in zip(dealers.tolist(), (passed[ends] - before).tolist(), strict=True):
            if count < need:
                raise self._too_few(kind, u, count)
        rank = passed[1:] - np.repeat(before, np.diff(ends, prepend=0))
        chosen = good & (rank <= need)
        return Held(*(column[chosen] for column in held))

    def _returned(self, kind: Kind) -> Held:
        """What came back: every answer has its shares in order of dealer."""
        came = self._answered[self._one] & self._is_dealer(kind, self._other)
        holders, dealers = self._one[came], self._other[came]
        answers = [answer for _, answer in sorted(self._state.answers.items())]
        raw = b"".join(a.mask_shares if kind == "mask" else a.self_shares for a in answers)
        order = np.argsort(dealers, kind="stable")
        return Held(dealers[order], holders[order], _rows(raw, SHARE_BYTES)[order])

    def _published(self, kind: Kind) -> Table:
        """The fingerprints of what came back: every dealer has them in order of holder."""
        prints, one, other = [], self._one, self._other
        lower = np.bincount(one[other < one], minlength=len(self._dealt)).tolist()
        for u, dealt in sorted(self._state.dealt.items()):
            raw = dealt.mask_fingerprints if kind == "mask" else dealt.self_fingerprints
            mine = lower[u] * FINGERPRINT_BYTES
            prints += [raw[:mine], dealt.own_fingerprint, raw[mine:]]
        came = self._is_dealer(kind, one) & self._answered[other]
        return _rows(b"".join(prints), FINGERPRINT_BYTES)[came]

    def _is_dealer(self, kind: Kind, parties: Parties) -> Flags:
        """Whose shares of this kind were asked for: survivors' of b, and others' of m."""
        survived = self._survived if kind == "self" else ~self._survived
        return (self._dealt & survived)[parties]

    def _too_few(self, kind: Kind, dealer: int, count: int) -> ProtocolAborted:
        what = f"shares of the {_NAMES[kind]} seed of client {dealer} came back"
        wrong = {bad.holder for bad in self._bad if bad.dealer == dealer}
        blame = {*wrong, dealer} if wrong else ()
        return self._abort(f"{count} {what}, not {self._parameters.threshold}", *blame)

    def _abort_for_dealer(
        self, kind: Kind, points: Sequence[int], dealers: Parties, shares: Table
    ) -> ProtocolAborted:
        """Which dealers shared something that is not a seed: their shares match what they
        published, so nobody else can be at fault.
        """
        culprits = []
        for place, u in enumerate(dealers.tolist()):
            try:
                shamir.reconstruct_rows(points, shares[place : place + 1])
            except DecodeError:
                culprits.append(u)
        return self._abort(f"the {kind} shares that were dealt are not those of a seed", *culprits)

    def _abort(self, reason: str, *blame: int) -> ProtocolAborted:
        return ProtocolAborted(reason, stage="unmask", blame=set(blame))


_NAMES: Mapping[Kind, str] = {"mask": "mask", "self": "self-mask"}


def _pairs(graph: Adjacency, dealers: Iterable[int]) -> tuple[Parties, Parties]:
    """Every dealer with each of its neighbours and itself, sorted."""
    near = {u: sorted((u, *graph[u])) for u in sorted(dealers)}
    one = np.repeat(list(near), [len(around) for around in near.values()])
    return one, np.fromiter(chain.from_iterable(near.values()), np.int64, len(one))


def _flags(parties: Collection[int], clients: int) -> Flags:
    """By party, from 0, which nobody is."""
    flags = np.zeros(clients + 1, np.bool_)
    flags[list(parties)] = True
    return flags


def _rows(raw: bytes, length: int) -> Table:
    return np.frombuffer(raw, np.uint8).reshape(-1, length)


def _equal(found: Table, published: Table) -> Flags:
    """Which rows are the same. In constant time: at once, or row by row where one is not."""
    if hmac.compare_digest(found.tobytes(), published.tobytes()):
        return np.ones(len(found), np.bool_)
    both = zip(strings(found), strings(published), strict=True)
    return np.array([hmac.compare_digest(*row) for row in both])
