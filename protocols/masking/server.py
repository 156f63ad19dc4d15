"""The server of `masking`: Bonawitz et al. CCS 2017, figure 4, and Bell et al. CCS 2020.

It fixes U1, U2 and U3 once, each by `RoundClosed`, and keeps one running sum. Whatever is
wrong with a message is found before anything of it is added.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping

from msgspec.structs import replace

from protocols.base import (
    SERVER,
    Aborted,
    Begin,
    Machine,
    Result,
    RoundClosed,
    Session,
    State,
    Step,
    on,
    receives,
)
from protocols.masking import keys
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
from protocols.masking.recovery import Adjacency, Recovery
from protocols.masking.server_state import (
    Advertising,
    Collecting,
    Dealt,
    Finished,
    Fixed,
    Sharing,
    Unmasking,
)
from secagg.context import bound_context
from secagg.errors import DecodeError, LocalError, ProtocolAborted
from secagg.graph import neighbours
from secagg.merkle import proofs, root
from secagg.packing import check_packed
from secagg.ring import RingVector
from secagg.rng import RandomSource
from secagg.seal import suite
from secagg.shamir import SHARE_BYTES, parse_share

MAX_OPEN_UPLOADS = 4
"""Incomplete uploads that the server keeps, so that its memory does not grow with clients."""


class Server(Machine):
    """The server of one session. It draws the graph's seed, and nothing else at random."""

    role = "masking server"
    receivable = Advert | Shares | Upload | UnmaskAnswer
    states = Advertising | Sharing | Collecting | Unmasking | Finished | Aborted

    def __init__(self, session: Session, source: RandomSource) -> None:
        assert isinstance(session.parameters, MaskingParameters)  # noqa: S101 - the registry's pair
        super().__init__(session, SERVER, Advertising(session.context, source.seed(), b"", {}, {}))
        self.parameters = session.parameters
        self._context0 = session.context
        self._suite = suite(session.parameters.suite)
        self._adjacency: tuple[bytes, Adjacency] | None = None

    @property
    def result(self) -> Result:
        """The outcome; LocalError before there is one."""
        if not isinstance(self.state, Finished):
            return super().result
        done = self.state
        return Result(done.total.values(), done.contributors, done.dropped, done.bad_answers)

    @property
    def waits_for(self) -> frozenset[int]:
        """The clients that may still answer in this stage."""
        match self.state:
            case Advertising(adverts=adverts):
                return frozenset(range(1, self.parameters.clients + 1)) - adverts.keys()
            case Sharing(adverts=adverts, posted=posted):
                return frozenset(adverts.keys() - posted.keys())
            case Collecting(dealt=dealt, uploaded=uploaded):
                return frozenset(dealt.keys() - uploaded)
            case Unmasking(uploaded=uploaded, answers=answers):
                return uploaded - answers.keys()
        return frozenset()

    @property
    def unfinished(self) -> frozenset[int]:
        """The clients in the middle of an upload."""
        pieces = self.state.pieces if isinstance(self.state, Collecting) else {}
        return frozenset(pieces)

    def fits(self, state: State) -> bool:
        """A stored sum must be one of ours: of the length that its stage has, in our ring."""
        bits = self.parameters.modulus_bits
        match state:
            case Collecting(total=total) | Unmasking(total=total):
                return total.fits(bits, self.parameters.masked_length)
            case Finished(total=total):
                return total.fits(bits, self.parameters.length)
        return True

    # Stage 0: advertise

    @on(Advertising, Begin)
    def bind(self, state: Advertising, event: Begin) -> Step[Advertising]:
        """Fix what is trained; needed before U1 is."""
        if state.application:
            raise LocalError("Begin is said once")
        return Step(replace(state, application=event.application))

    @receives(Advertising, Advert)
    def admit(self, state: Advertising, advert: Advert, sender: int) -> Step[Advertising]:
        """Take a member's keys, which must be valid, and its own."""
        if not 1 <= sender <= self.parameters.clients:
            raise self.refuse(sender, "not a member of the roster")
        if sender in state.adverts:
            raise self.refuse(sender, "a second advert")
        public = (advert.channel_key, advert.mask_key)
        for raw in public:
            try:
                self._suite.public_key(raw)
            except DecodeError as error:
                raise self.refuse(sender, str(error)) from None
        if public[0] == public[1] or any(raw in state.owners for raw in public):
            raise self.refuse(sender, "a public key that is not its own")
        own = Keys(sender, advert.nonce, *public)
        owners = {**state.owners, **dict.fromkeys(public, sender)}
        adverts = {**state.adverts, sender: own}
        return Step(replace(state, adverts=adverts, owners=owners))

    @on(Advertising, RoundClosed)
    def fix_cohort(self, state: Advertising, _event: RoundClosed) -> Step[Sharing]:
        """Fix U1 and tell each member its neighbours."""
        if not state.application:
            raise LocalError("say Begin, with the application digest, before closing the stage")
        adverts = dict(sorted(state.adverts.items()))
        self._require(adverts, self.parameters.floor, "advertised")
        leaves = [keys.leaf(own) for own in adverts.values()]
        top = root(leaves)
        context1 = bound_context(self._context0, state.application, state.graph_seed, top)
        fixed = Sharing(context1, state.graph_seed, adverts, {})
        graph = self._graph(fixed)
        paths = proofs(leaves, range(len(leaves)))
        cohorts = tuple(
            (
                party,
                Cohort(
                    self._context0,
                    state.application,
                    len(adverts),
                    state.graph_seed,
                    top,
                    index,
                    paths[index],
                    tuple(adverts[v] for v in graph[party]),
                ),
            )
            for index, party in enumerate(adverts)
        )
        return Step(fixed, cohorts)

    # Stage 1: share keys

    @receives(Sharing, Shares)
    def post(self, state: Sharing, shares: Shares, sender: int) -> Step[Sharing]:
        """Keep what a client sends to its neighbours, all of them and nobody else."""
        if sender not in state.adverts:
            raise self.refuse(sender, "not in the cohort")
        if sender in state.posted:
            raise self.refuse(sender, "shared its keys twice")
        if tuple(p.to for p in shares.posted) != self._graph(state)[sender]:
            raise self.refuse(sender, "shares that are not for exactly its neighbours, in order")
        sizes = (self._suite.sealed_bytes(32), self._suite.sealed_bytes(2 * SHARE_BYTES))
        if any((len(p.contribution), len(p.shares)) != sizes for p in shares.posted):
            raise self.refuse(sender, "a sealed message of the wrong length")
        return Step(replace(state, posted={**state.posted, sender: shares}))

    @on(Sharing, RoundClosed)
    def fix_sharers(self, state: Sharing, _event: RoundClosed) -> Step[Collecting]:
        """Fix U2 and deliver the shares."""
        graph = self._graph(state)
        sharers = self._with_enough_holders(state.posted, graph)
        floor = self.parameters.floor
        self._require(state.posted, floor, "shared their keys")
        self._require(sharers, floor, "shared their keys with enough neighbours")
        inboxes = tuple(
            (party, Inbox(state.context, _deliveries(state.posted, party, graph, sharers)))
            for party in sorted(sharers)
        )
        dealt = {u: Dealt.by(u, state.posted[u], sharers) for u in sharers}
        total = RingVector.zeros(self.parameters.modulus_bits, self.parameters.masked_length)
        fixed = Collecting(
            state.context, state.graph_seed, state.adverts, dealt, frozenset(), {}, total
        )
        return Step(fixed, inboxes)

    # Stage 2: masked input

    @receives(Collecting, Upload)
    def add(self, state: Collecting, upload: Upload, sender: int) -> Step[Collecting]:
        """Take a piece of a masked vector; the last one adds all to the running sum."""
        if sender not in state.dealt:
            raise self.refuse(sender, "did not share its keys")
        if sender in state.uploaded:
            raise self.refuse(sender, "uploaded twice")
        if sender not in state.pieces and len(state.pieces) >= MAX_OPEN_UPLOADS:
            raise LocalError(f"{MAX_OPEN_UPLOADS} uploads are incomplete: hear `unfinished` first")
        have = (*state.pieces.get(sender, ()), upload.packed)
        pieces = self.parameters.pieces
        if upload.index != len(have) - 1:
            raise self.refuse(sender, f"piece {upload.index} where {len(have) - 1} is next")
        piece = pieces[upload.index]
        try:
            check_packed(upload.packed, self.parameters.modulus_bits, piece.stop - piece.start)
        except DecodeError as error:
            raise self.refuse(sender, str(error)) from None
        if len(have) < len(pieces):
            return Step(replace(state, pieces={**state.pieces, sender: have}))
        for at, packed in zip(pieces, have, strict=True):
            state.total.add_packed(packed, start=at.start, count=at.stop - at.start)
        rest = {party: parts for party, parts in state.pieces.items() if party != sender}
        return Step(replace(state, uploaded=state.uploaded | {sender}, pieces=rest))

    @on(Collecting, RoundClosed)
    def fix_survivors(self, state: Collecting, _event: RoundClosed) -> Step[Unmasking]:
        """Fix U3 and ask its members for shares."""
        self._require(state.uploaded, self.parameters.floor, "uploaded")
        graph = self._graph(state)
        near = {u: sorted({u, *graph[u]} & state.uploaded) for u in sorted(state.uploaded)}
        for u, there in near.items():
            if len(there) < self.parameters.threshold:
                raise self._abort(
                    f"client {u} uploaded, but only {len(there)} holders of its shares"
                )
        requests = tuple(
            (u, UnmaskRequest(state.context, tuple(there), len(near))) for u, there in near.items()
        )
        dealt = {u: d.keep_for_dropped(state.uploaded) for u, d in state.dealt.items()}
        fixed = Unmasking(
            state.context, state.graph_seed, state.adverts, dealt, state.uploaded, state.total, {}
        )
        return Step(fixed, requests)

    # Stage 4: unmask

    @receives(Unmasking, UnmaskAnswer)
    def take_answer(self, state: Unmasking, answer: UnmaskAnswer, sender: int) -> Step[Unmasking]:
        """Take the shares that a survivor holds: exactly those it was asked for."""
        if sender not in state.uploaded:
            raise self.refuse(sender, "did not upload")
        if sender in state.answers:
            raise self.refuse(sender, "answered twice")
        self._check_shares(state, answer, sender)
        return Step(replace(state, answers={**state.answers, sender: answer}))

    @on(Unmasking, RoundClosed)
    def finish(self, state: Unmasking, _event: RoundClosed) -> Step[Finished]:
        """Reconstruct the seeds, take all masks off, and check the canary."""
        self._require(state.answers, self.parameters.threshold, "answered the unmask request")
        recovery = Recovery(self.parameters, self._context0, self._graph(state), state)
        recovery.unmask()
        return Step(
            Finished(
                state.total.head(self.parameters.length),
                tuple(sorted(state.uploaded)),
                self._dropped(state),
                recovery.bad_answers,
            )
        )

    def _graph(self, state: Fixed) -> Adjacency:
        """Each member's neighbours in U1: derived from the state, so not part of it.

        The graph spans the roster, so who did not advertise is one more dropout on a graph
        of n, which is what `choose_parameters` computed with.
        """
        if self._adjacency is None or self._adjacency[0] != state.context:
            self._adjacency = (state.context, self._build_graph(state))
        return self._adjacency[1]

    def _build_graph(self, state: Fixed) -> Adjacency:
        matrix = neighbours(self.parameters.clients, self.parameters.degree, state.graph_seed) + 1
        return {
            party: tuple(v for v in matrix[party - 1].tolist() if v in state.adverts)
            for party in state.adverts
        }

    def _with_enough_holders(self, posted: Collection[int], graph: Adjacency) -> frozenset[int]:
        """Those whose secrets could still be reconstructed: the others count as dropped now,
        while nothing depends on them.
        """
        kept = set(posted)
        while True:
            short = {
                u for u in kept if len(kept.intersection(graph[u])) + 1 < self.parameters.threshold
            }
            if not short:
                return frozenset(kept)
            kept -= short

    def _check_shares(self, state: Unmasking, answer: UnmaskAnswer, sender: int) -> None:
        near = {sender, *self._graph(state)[sender]} & state.dealt.keys()
        if [s.of for s in answer.survivors] != sorted(near & state.uploaded):
            raise self.refuse(sender, "self-mask shares of others than the surviving neighbours")
        if [s.of for s in answer.dropped] != sorted(near - state.uploaded):
            raise self.refuse(sender, "mask-seed shares of others than the dropped neighbours")
        try:
            for share in [s.share for s in answer.survivors] + [s.share for s in answer.dropped]:
                parse_share(share)
        except DecodeError as error:
            raise self.refuse(sender, str(error)) from None

    def _dropped(self, state: Unmasking) -> dict[int, str]:
        """The first stage in which each client was missing."""
        stages: Iterable[tuple[str, Collection[int]]] = (
            ("unmask", state.answers),
            ("upload", state.uploaded),
            ("share", state.dealt),
            ("advertise", state.adverts),
        )
        everyone = range(1, self.parameters.clients + 1)
        missing = {
            party: stage for stage, there in stages for party in everyone if party not in there
        }
        return dict(sorted(missing.items()))

    def _require(self, there: Collection[int], need: int, what: str) -> None:
        if len(there) < need:
            raise self._abort(f"only {len(there)} clients {what}, fewer than {need}")

    def _abort(self, reason: str) -> ProtocolAborted:
        return ProtocolAborted(reason, stage=self.state.stage)


def _deliveries(
    posted: Mapping[int, Shares], to: int, graph: Adjacency, sharers: frozenset[int]
) -> tuple[Delivered, ...]:
    """What the neighbours of `to` in U2 have for it. Rows are sorted, so `to` is found fast."""
    senders = [u for u in graph[to] if u in sharers]
    items = [posted[u].posted[bisect_left(graph[u], to)] for u in senders]
    return tuple(
        Delivered(u, item.contribution, item.shares) for u, item in zip(senders, items, strict=True)
    )
