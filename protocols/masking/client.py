"""The client of `masking`: Bonawitz et al. CCS 2017, figure 4, and Bell et al. CCS 2020."""

from collections.abc import Iterator

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
    MaskShare,
    Posted,
    SelfShare,
    Shares,
    UnmaskAnswer,
    UnmaskRequest,
    Upload,
)
from protocols.masking.parameters import MaskingParameters
from secagg import shamir
from secagg.context import bound_context
from secagg.errors import DecodeError, LocalError, PeerError, ProtocolAborted
from secagg.graph import neighbours_of
from secagg.kdf import DIGEST_BYTES
from secagg.merkle import root, verify
from secagg.ring import RingVector, check_vector
from secagg.rng import RandomSource
from secagg.seal import KeyPair, PublicKey, Sealer, Suite, suite


class Client(Machine):
    """One client of one session, number `me`. Needs no source of randomness after this."""

    role = "masking client"
    receivable = Cohort | Inbox | UnmaskRequest
    states = Idle | Advertised | Bound | Shared | Ready | Uploaded | Done | Aborted

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
        """Stage 0: send fresh public keys."""
        own = self._own_keys(state.seeds)
        advert = Advert(self._context0, own.nonce, own.channel_key, own.mask_key)
        return Step(Advertised(state.seeds), ((SERVER, advert),))

    @on(Advertised, Begin)
    def bind(self, state: Advertised, event: Begin) -> Step[Bound]:
        """Fix what is trained, by this client's own hash of what it received."""
        return Step(Bound(self._context0, state.seeds, event.application))

    @receives(Bound, Cohort)
    def share(self, state: Bound, cohort: Cohort, sender: int) -> Step[Shared]:
        """Stage 1: deal both seeds to the neighbours, and a contribution to each pair seed."""
        self._check_server(sender)
        self._check_cohort(state, cohort)
        context1 = bound_context(self._context0, state.application, cohort.graph_seed, cohort.root)
        points = [self.me, *(n.party for n in cohort.neighbours)]
        coins = keys.coins_stream(state.seeds.coins, context1)
        threshold = self.parameters.threshold
        dealt = shamir.deal([state.seeds.mask, state.seeds.own], points, threshold, coins)
        posted = tuple(
            self._post(state.seeds, context1, neighbour, *shares)
            for neighbour, shares in zip(cohort.neighbours, dealt[1:], strict=True)
        )
        own_share = dealt[0][1]
        message = Shares(
            context1,
            keys.commitment(state.seeds.own, context1, self.me),
            keys.fingerprint("self", own_share, context1, self.me, self.me),
            posted,
        )
        neighbours = tuple(points[1:])
        return Step(Shared(context1, state.seeds, own_share, neighbours), ((SERVER, message),))

    @receives(Shared, Inbox)
    def collect(self, state: Shared, inbox: Inbox, sender: int) -> Step[Ready]:
        """Open what every neighbour sent: its contribution, and two shares."""
        self._check_server(sender)
        senders = tuple(d.sender for d in inbox.delivered)
        if sorted(set(senders)) != list(senders) or not set(senders) <= set(state.neighbours):
            raise self.refuse(SERVER, "deliveries that are not from distinct neighbours, in order")
        threshold = self.parameters.threshold
        self._require(len(senders) + 1, threshold, "neighbours shared their keys")
        channel = keys.channel_keys(self._suite, state.seeds.channel, self._context0, self.me)
        mask = keys.mask_keys(self._suite, state.seeds.mask, self._context0, self.me)
        opened = [self._open_delivery(state, d, channel, mask) for d in inbox.delivered]
        peers = tuple(peer for peer, _ in opened)
        pair_seeds = tuple(seed for _, seed in opened)
        return Step(Ready(state.context, state.seeds.own, state.own_share, peers, pair_seeds))

    @on(Ready, Contribute)
    def upload(self, state: Ready, event: Contribute) -> Step[Uploaded]:
        """Stage 2: add the canary, the self mask and the pairwise masks, and pack."""
        check_vector(event.values, self.parameters.length)
        pieces = self._masked_pieces(state, event.values)
        return Step(Uploaded(state.context, state.own_share, state.peers), pieces)

    @receives(Uploaded, UnmaskRequest)
    def answer(self, state: Uploaded, request: UnmaskRequest, sender: int) -> Step[Done]:
        """Stage 4: one kind of share of each neighbour that shared, never both, and once."""
        self._check_server(sender)
        survivors = self._checked_survivors(state, request)
        self._require(len(survivors), self.parameters.threshold, "neighbours uploaded")
        self._require(request.uploads, self.parameters.floor, "clients uploaded")
        self._check_uploads(len(survivors), request.uploads)
        of = {peer.party: peer.self_share for peer in state.peers} | {self.me: state.own_share}
        message = UnmaskAnswer(
            state.context,
            tuple(SelfShare(party, of[party]) for party in request.survivors),
            tuple(
                MaskShare(peer.party, peer.mask_share, peer.contribution)
                for peer in state.peers
                if peer.party not in survivors
            ),
        )
        return Step(Done(), ((SERVER, message),))

    def _masked_pieces(self, state: Ready, values: Vector) -> Iterator[tuple[int, Upload]]:
        """The upload, one piece at a time, so that never two copies of it are needed."""
        pairs = [keys.pair_stream(seed, state.context) for seed in state.pair_seeds]
        signs = [keys.pair_sign(self.me, peer.party) for peer in state.peers]
        own = keys.own_stream(state.own_seed, state.context, self.me)
        for index, piece in enumerate(self.parameters.pieces):
            clear = with_canary(values, self.parameters, piece)
            vector = RingVector.of(self.parameters.modulus_bits, clear)
            vector.add_masks([own, *pairs], [1, *signs], start=piece.start)
            yield SERVER, Upload(state.context, index, vector.pack())

    def _own_keys(self, seeds: Seeds) -> Keys:
        channel = keys.channel_keys(self._suite, seeds.channel, self._context0, self.me)
        mask = keys.mask_keys(self._suite, seeds.mask, self._context0, self.me)
        return Keys(self.me, seeds.nonce, channel.public.raw, mask.public.raw)

    def _check_server(self, sender: int) -> None:
        if sender != SERVER:
            raise self.refuse(sender, "only the server sends this")

    def _check_cohort(self, state: Bound, cohort: Cohort) -> None:
        """U1 as this client sees it: its size, its members, and our own place in it."""
        if cohort.application != state.application:
            raise self.refuse(
                SERVER,
                "the model or the round configuration differs from ours",
                expected="the application digest that this client computed",
            )
        self._check_membership(cohort)
        own = self._own_keys(state.seeds)
        if not verify(cohort.root, keys.leaf(own), cohort.index, cohort.size, cohort.path):
            raise self.refuse(SERVER, "our own advert is not in the published cohort")
        published = sorted([*cohort.neighbours, own], key=lambda k: k.party)
        if self.parameters.complete and root([keys.leaf(k) for k in published]) != cohort.root:
            raise self.refuse(SERVER, "the published root is not that of the cohort")
        public = [raw for k in published for raw in (k.channel_key, k.mask_key)]
        if len(set(public)) != len(public):
            raise self.refuse(SERVER, "a public key appears twice in the cohort")

    def _check_membership(self, cohort: Cohort) -> None:
        parameters = self.parameters
        parties = [n.party for n in cohort.neighbours]
        allowed = set(range(1, parameters.clients + 1)) - {self.me}
        if parties != sorted(set(parties)) or not set(parties) <= allowed:
            raise self.refuse(SERVER, "neighbours that are not other members, in order")
        if cohort.size > parameters.clients:
            raise self.refuse(SERVER, f"a cohort of {cohort.size} from {parameters.clients}")
        if not set(parties) <= self._graph_neighbours(cohort.graph_seed):
            raise self.refuse(SERVER, "neighbours that the graph does not give us")
        self._require(cohort.size, parameters.floor, "clients advertised")
        self._require(len(parties) + 1, parameters.threshold, "neighbours advertised")

    def _graph_neighbours(self, graph_seed: bytes) -> set[int]:
        n, degree = self.parameters.clients, self.parameters.degree
        return {v + 1 for v in neighbours_of(self.me - 1, n, degree, graph_seed).tolist()}

    def _post(
        self, seeds: Seeds, context1: bytes, to: Keys, mask_share: bytes, self_share: bytes
    ) -> Posted:
        own = keys.contribution(seeds.mask, context1, self.me, to.party)
        info = keys.contribution_info(context1, self.me, to.party)
        mask_key = self._neighbours_key(to.party, to.mask_key)
        channel_key = self._neighbours_key(to.party, to.channel_key)
        return Posted(
            to.party,
            self._sealer.seal(mask_key, own, info),
            self._sealer.seal(
                channel_key,
                mask_share + self_share,
                keys.shares_info(context1, self.me, to.party),
            ),
            keys.fingerprint("mask", mask_share, context1, self.me, to.party),
            keys.fingerprint("self", self_share, context1, self.me, to.party),
        )

    def _neighbours_key(self, party: int, raw: bytes) -> PublicKey:
        try:
            return self._suite.public_key(raw)
        except DecodeError as error:
            raise self.refuse(SERVER, f"a key of client {party}: {error}") from None

    def _open_delivery(
        self, state: Shared, delivery: Delivered, channel: KeyPair, mask: KeyPair
    ) -> tuple[Peer, bytes]:
        """The neighbour's shares, and the seed of our pair. A failure blames the server,
        which delivered it, and names the neighbour.
        """
        other, context1 = delivery.sender, state.context
        try:
            theirs = mask.open(
                delivery.contribution, keys.contribution_info(context1, other, self.me)
            )
            both = channel.open(delivery.shares, keys.shares_info(context1, other, self.me))
            mask_share, self_share = _split_shares(theirs, both)
        except DecodeError as error:
            raise self._bad_delivery(other, error) from None
        ours = keys.contribution(state.seeds.mask, context1, self.me, other)
        seed = keys.pair_seed(context1, self.me, ours, other, theirs)
        return Peer(other, mask_share, self_share, ours), seed

    def _bad_delivery(self, other: int, error: DecodeError) -> PeerError:
        return self.refuse(
            SERVER,
            f"the delivery of client {other}: {error}",
            expected="what that client sealed for us in this session",
        )

    def _checked_survivors(self, state: Uploaded, request: UnmaskRequest) -> frozenset[int]:
        survivors = frozenset(request.survivors)
        known = {peer.party for peer in state.peers} | {self.me}
        if list(request.survivors) != sorted(survivors) or not survivors <= known:
            raise self.refuse(SERVER, "survivors that are not distinct neighbours, in order")
        if self.me not in survivors:
            raise self.refuse(SERVER, "we uploaded, and are not among the survivors")
        return survivors

    def _check_uploads(self, survivors: int, uploads: int) -> None:
        """The size of U3 must fit what we see of it: all, on the complete graph."""
        most = survivors if self.parameters.complete else self.parameters.clients
        if not survivors <= uploads <= most:
            raise self.refuse(SERVER, f"{uploads} uploads, of which we see {survivors}")

    def _require(self, have: int, need: int, what: str) -> None:
        if have < need:
            raise ProtocolAborted(f"only {have} {what}, fewer than {need}", stage=self.state.stage)


def _split_shares(contribution: bytes, shares: bytes) -> tuple[bytes, bytes]:
    """Check the lengths and ranges of what was sealed, so that nothing is stored unchecked."""
    if len(contribution) != DIGEST_BYTES or len(shares) != 2 * shamir.SHARE_BYTES:
        raise DecodeError("a sealed message has the wrong length")
    both = shares[: shamir.SHARE_BYTES], shares[shamir.SHARE_BYTES :]
    for share in both:
        shamir.parse_share(share)
    return both
