"""The client of `masking`: Bonawitz et al. CCS 2017, figure 4, and Bell et al. CCS 2020.

`BaseClient` has what both modes share; `Client` unmasks for a semi-honest server. The active
mode is in `protocols.masking.active_client`.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from protocols.base import (
    SERVER,
    Aborted,
    Begin,
    Contribute,
    Join,
    Machine,
    Session,
    Step,
    on,
    receives,
)
from protocols.masking import keys
from protocols.masking.canary import Vector, with_canary
from protocols.masking.client_state import (
    Advertised,
    Bound,
    Done,
    Idle,
    Peer,
    Ready,
    Shared,
    Uploaded,
)
from protocols.masking.keys import Seeds
from protocols.masking.messages import (
    Advert,
    Cohort,
    Delivered,
    Inbox,
    Keys,
    Shares,
    UnmaskAnswer,
    UnmaskRequest,
    Upload,
)
from protocols.masking.parameters import MaskingParameters
from secagg import kdf, shamir
from secagg.context import bound_context, cohort_context
from secagg.errors import DecodeError, LocalError, ProtocolAborted, ProtocolError
from secagg.graph import neighbours_of
from secagg.kdf import DIGEST_BYTES, Table
from secagg.merkle import root, verify
from secagg.ring import RingVector, check_vector
from secagg.rng import RandomSource
from secagg.seal import (
    KeyPair,
    PublicKey,
    Sealer,
    Suite,
    does_not_open,
    open_each,
    seal_each,
    suite,
)
from secagg.shamir import SHARE_BYTES


class BaseClient(Machine):
    """One client of one session, number `me`. Draws nothing after this but the sealer's coins."""

    def __init__(self, session: Session, me: int, source: RandomSource, sealer: Sealer) -> None:
        assert isinstance(session.parameters, MaskingParameters)  # noqa: S101 - the registry's pair
        if not 1 <= me <= session.parameters.clients:
            raise LocalError(f"client {me} of {session.parameters.clients}")
        super().__init__(session, me, Idle(Seeds.draw(source)))
        self.parameters = session.parameters
        self._context0 = session.context
        self._suite: Suite = suite(session.parameters.suite)
        self._sealer = sealer

    @on(Idle, Join)
    def advertise(self, state: Idle, _event: Join) -> Step[Advertised]:
        """Stage 0: send a fresh public key."""
        pair = self._own_keys(state.seeds)
        own = self._signed(Keys(self.me, state.seeds.nonce, pair.public.raw, b""))
        advert = Advert(self._context0, own.nonce, own.channel_key, own.signature)
        return Step(Advertised(self._context0, state.seeds, own), ((SERVER, advert),))

    @receives(Advertised, Cohort)
    def share(self, state: Advertised, cohort: Cohort, sender: int) -> Step[Shared]:
        """Stage 1: deal both seeds to the neighbours, with the secret of each edge."""
        self._check_server(sender)
        self._check_cohort(state, cohort)
        context1 = cohort_context(self._context0, cohort.graph_seed, cohort.root)
        neighbours = tuple(n.party for n in cohort.neighbours)
        holders = (self.me, *neighbours)
        dealt = self._deal(state.seeds, context1, holders)
        mask_shares, self_shares = zip(*dealt, strict=True)
        agreed, sealed = self._seal_all(state.seeds, context1, cohort.neighbours, dealt[1:])
        of_masks = self._fingerprints("mask", context1, neighbours, mask_shares[1:])
        of_selves = self._fingerprints("self", context1, holders, self_shares)
        message = Shares(
            context1,
            keys.commitment("mask", state.seeds.mask, context1, self.me),
            keys.commitment("self", state.seeds.own, context1, self.me),
            of_selves[0].tobytes(),
            of_masks.tobytes(),
            of_selves[1:].tobytes(),
            sealed,
        )
        shared = Shared(context1, state.seeds, self_shares[0], neighbours, agreed)
        return Step(shared, ((SERVER, message),))

    @receives(Shared, Inbox)
    def collect(self, state: Shared, inbox: Inbox, sender: int) -> Step[Ready]:
        """Open what every neighbour sent: the secret of the edge, and two shares."""
        self._check_server(sender)
        senders = tuple(d.sender for d in inbox.delivered)
        if sorted(set(senders)) != list(senders) or not set(senders) <= set(state.neighbours):
            raise self._fault("deliveries that are not from distinct neighbours, in order")
        self._require(len(senders) + 1, self.parameters.threshold, "neighbours shared their keys")
        opened = self._open_all(state, inbox.delivered)
        peers = tuple(
            Peer(party, mask_share, self_share)
            for party, (_, mask_share, self_share) in zip(senders, opened, strict=True)
        )
        ours = self._edges(state.seeds, state.context, senders)
        theirs = kdf.table([edge for edge, *_ in opened], DIGEST_BYTES)
        pair_secrets, links = self._pair_secrets(senders, ours, theirs)
        own_seed = state.seeds.own
        return Step(Ready(state.context, own_seed, state.own_share, peers, pair_secrets, links))

    @on(Ready, Begin)
    def bind(self, state: Ready, event: Begin) -> Step[Bound]:
        """Fix what is trained, by this client's own hash of what it received."""
        context2 = bound_context(state.context, event.application)
        secrets = (state.own_seed, state.own_share, state.peers, state.pair_secrets)
        return Step(Bound(context2, *secrets, state.links))

    def _masked_pieces(self, state: Bound, values: Vector) -> Iterator[tuple[int, Upload]]:
        """Stage 2, one piece at a time, so that never two copies of the upload are needed."""
        check_vector(values, self.parameters.length)
        secrets = kdf.table([state.own_seed, *state.pair_secrets], DIGEST_BYTES)
        me, peers = np.array([self.me]), np.array([peer.party for peer in state.peers])
        streams = keys.own_streams(secrets[:1], state.context, me)
        streams += keys.pair_streams(secrets[1:], state.context, np.full_like(peers, me), peers)
        signs = np.append(1, keys.pair_signs(me, peers))
        pieces = self.parameters.pieces
        for index, piece in enumerate(pieces):
            clear = with_canary(values, self.parameters, piece)
            vector = RingVector.of(self.parameters.modulus_bits, clear)
            vector.add_masks(streams, signs, start=piece.start)
            links = state.links if index == len(pieces) - 1 else b""
            yield SERVER, Upload(state.context, index, vector.pack(), links)

    def _answer(
        self,
        context2: bytes,
        own_share: bytes,
        peers: Sequence[Peer],
        survivors: frozenset[int],
    ) -> UnmaskAnswer:
        """Stage 4: one kind of share of each neighbour in U2: in U3 or not, never both."""
        of = {peer.party: peer.self_share for peer in peers if peer.party in survivors}
        of[self.me] = own_share
        gone = [peer.mask_share for peer in peers if peer.party not in survivors]
        return UnmaskAnswer(context2, b"".join(of[v] for v in sorted(of)), b"".join(gone))

    def _own_keys(self, seeds: Seeds) -> KeyPair:
        return keys.channel_keys(self._suite, seeds.channel, self._context0, self.me)

    def _agreement_keys(self, seeds: Seeds) -> KeyPair:
        return keys.agreement_keys(self._suite, seeds.channel, self._context0, self.me)

    def _deal(
        self, seeds: Seeds, context1: bytes, points: tuple[int, ...]
    ) -> list[tuple[bytes, bytes]]:
        """Shares of m_u and b_u for every point."""
        coins = keys.coins_stream(seeds.coins, context1)
        dealt = shamir.deal([seeds.mask, seeds.own], points, self.parameters.threshold, coins)
        return [(mask_share, self_share) for mask_share, self_share in dealt]

    def _seal_all(
        self,
        seeds: Seeds,
        context1: bytes,
        neighbours: Sequence[Keys],
        shares: Sequence[tuple[bytes, bytes]],
    ) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """What was agreed on with each neighbour, and what is sealed for it."""
        to = [neighbour.party for neighbour in neighbours]
        public = [self._neighbours_key(neighbour) for neighbour in neighbours]
        agreed = self._agreement_keys(seeds).agree_each(public)
        edges = kdf.strings(self._edges(seeds, context1, to))
        bodies = [edge + b"".join(both) for edge, both in zip(edges, shares, strict=True)]
        infos = keys.shares_infos(context1, self.me, np.array(to))
        return tuple(agreed), tuple(seal_each(public, agreed, bodies, infos, self._sealer))

    def _open_all(
        self, state: Shared, delivered: Sequence[Delivered]
    ) -> list[tuple[bytes, bytes, bytes]]:
        """The secret of the edge and the two shares that each of these neighbours sealed for us."""
        senders, own = [each.sender for each in delivered], self._own_keys(state.seeds)
        of = dict(zip(state.neighbours, state.agreed, strict=True))
        infos = keys.shares_infos(state.context, np.array(senders), self.me)
        sealed = [each.sealed for each in delivered]
        opened = open_each(own, [of[sender] for sender in senders], sealed, infos)
        return [self._parts(*each) for each in zip(senders, opened, strict=True)]

    def _parts(self, sender: int, body: bytes | None) -> tuple[bytes, bytes, bytes]:
        """A failure blames the server, which delivered it, and names the neighbour."""
        try:
            if body is None:
                raise does_not_open()
            return _split(body)
        except DecodeError as error:
            raise self._fault(
                f"the delivery of client {sender}: {error}",
                expected="what that client sealed for us in this session",
            ) from None

    def _edges(self, seeds: Seeds, context1: bytes, to: Sequence[int]) -> Table:
        """e of each pair with these, as we derive it."""
        own = kdf.table([seeds.mask], len(seeds.mask))
        return keys.edges(own, context1, self.me, np.array(to))

    def _pair_secrets(
        self, peers: Sequence[int], ours: Table, theirs: Table
    ) -> tuple[tuple[bytes, ...], bytes]:
        """For each pair, what its lower number derived; and the links to the higher numbers."""
        lower = sum(v < self.me for v in peers)  # these come first
        secrets = np.concatenate([theirs[:lower], ours[lower:]])
        links = keys.links(ours[lower:], theirs[lower:])
        return tuple(kdf.strings(secrets)), links.tobytes()

    def _check_server(self, sender: int) -> None:
        if sender != SERVER:
            raise self.refuse(sender, "only the server sends this")

    def _check_cohort(self, state: Advertised, cohort: Cohort) -> None:
        """U1 as this client sees it: its size, its members, and our own place in it."""
        self._check_membership(cohort)
        leaf = keys.leaf(state.advert)
        if not verify(cohort.root, leaf, cohort.index, cohort.size, cohort.path):
            raise self._fault("our own advert is not in the published cohort")
        published = sorted([*cohort.neighbours, state.advert], key=lambda k: k.party)
        if self.parameters.complete and root([keys.leaf(k) for k in published]) != cohort.root:
            raise self._fault("the published root is not that of the cohort")
        if len({k.channel_key for k in published}) != len(published):
            raise self._fault("a public key appears twice in the cohort")
        self._check_adverts(cohort)

    def _check_membership(self, cohort: Cohort) -> None:
        parameters = self.parameters
        parties = [n.party for n in cohort.neighbours]
        allowed = set(range(1, parameters.clients + 1)) - {self.me}
        if parties != sorted(set(parties)) or not set(parties) <= allowed:
            raise self._fault("neighbours that are not other members, in order")
        if cohort.size > parameters.clients:
            raise self._fault(f"a cohort of {cohort.size} from {parameters.clients}")
        if not set(parties) <= self._graph_neighbours(cohort.graph_seed):
            raise self._fault("neighbours that the graph does not give us")
        self._require(cohort.size, parameters.floor, "clients advertised")
        self._require(len(parties) + 1, parameters.threshold, "neighbours advertised")

    def _graph_neighbours(self, graph_seed: bytes) -> set[int]:
        n, degree = self.parameters.clients, self.parameters.degree
        return {v + 1 for v in neighbours_of(self.me - 1, n, degree, graph_seed).tolist()}

    def _neighbours_key(self, of: Keys) -> PublicKey:
        try:
            return self._suite.public_key(of.channel_key)
        except DecodeError as error:
            raise self._fault(f"the key of client {of.party}: {error}") from None

    def _fingerprints(
        self, kind: str, context1: bytes, holders: Sequence[int], shares: Sequence[bytes]
    ) -> Table:
        held = kdf.table(shares, SHARE_BYTES)
        return keys.fingerprints(kind, context1, self.me, np.array(holders), held)

    def _require(self, have: int, need: int, what: str) -> None:
        if have < need:
            raise ProtocolAborted(f"only {have} {what}, fewer than {need}", stage=self.state.stage)

    # What a mode adds: nothing is signed where the server is semi-honest.

    def _fault(self, reason: str, *, expected: str | None = None) -> ProtocolError:
        """The error for a server that broke a rule."""
        return self.refuse(SERVER, reason, expected=expected)

    def _signed(self, advert: Keys) -> Keys:
        return advert

    def _check_adverts(self, cohort: Cohort) -> None:
        if any(n.signature for n in cohort.neighbours):
            raise self._fault("signed adverts in a session without signatures")


class Client(BaseClient):
    """A client that trusts the server to keep to the protocol."""

    role = "masking client"
    receivable = Cohort | Inbox | UnmaskRequest
    states = Idle | Advertised | Shared | Ready | Bound | Uploaded | Done | Aborted

    @on(Bound, Contribute)
    def upload(self, state: Bound, event: Contribute) -> Step[Uploaded]:
        """Stage 2: add the canary, the self mask and the pairwise masks, and pack."""
        pieces = self._masked_pieces(state, event.values)
        return Step(Uploaded(state.context, state.own_share, state.peers), pieces)

    @receives(Uploaded, UnmaskRequest)
    def answer(self, state: Uploaded, request: UnmaskRequest, sender: int) -> Step[Done]:
        """Stage 4: answer once, for as many as the threshold and the floor ask for."""
        self._check_server(sender)
        survivors = self._checked_survivors(state, request)
        self._require(len(survivors), self.parameters.threshold, "neighbours uploaded")
        self._require(request.uploads, self.parameters.floor, "clients uploaded")
        self._check_uploads(len(survivors), request.uploads)
        answer = self._answer(state.context, state.own_share, state.peers, survivors)
        return Step(Done(), ((SERVER, answer),))

    def _checked_survivors(self, state: Uploaded, request: UnmaskRequest) -> frozenset[int]:
        survivors = frozenset(request.survivors)
        known = {peer.party for peer in state.peers} | {self.me}
        if list(request.survivors) != sorted(survivors) or not survivors <= known:
            raise self._fault("survivors that are not distinct neighbours, in order")
        if self.me not in survivors:
            raise self._fault("we uploaded, and are not among the survivors")
        return survivors

    def _check_uploads(self, survivors: int, uploads: int) -> None:
        """The size of U3 must fit what we see of it: all, on the complete graph."""
        most = survivors if self.parameters.complete else self.parameters.clients
        if not survivors <= uploads <= most:
            raise self._fault(f"{uploads} uploads, of which we see {survivors}")


def _split(plaintext: bytes) -> tuple[bytes, bytes, bytes]:
    """The secret of the edge, the mask-seed share and the self-mask share. Or DecodeError."""
    if len(plaintext) != DIGEST_BYTES + 2 * SHARE_BYTES:
        raise DecodeError("not an edge's secret and two shares")
    shamir.check_shares(plaintext[DIGEST_BYTES:], 2)  # or we would return what is no share
    first, second = DIGEST_BYTES, DIGEST_BYTES + SHARE_BYTES
    return plaintext[:first], plaintext[first:second], plaintext[second:]
