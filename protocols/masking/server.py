"""The server of `masking`: Bonawitz et al. CCS 2017, figure 4, and Bell et al. CCS 2020.

It fixes U1, U2 and U3 once, each by `RoundClosed`, and keeps one running sum. Whatever is
wrong with a message is found before anything of it is added. `BaseServer` has what both modes
share; the active mode is in `protocols.masking.active_server`.
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
    FINGERPRINT_BYTES,
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
    Confirming,
    Dealt,
    Finished,
    Fixed,
    Prepared,
    Sharing,
    Summing,
    Unmasking,
)
from secagg.context import bound_context, cohort_context
from secagg.errors import DecodeError, ProtocolAborted
from secagg.graph import neighbours
from secagg.kdf import DIGEST_BYTES
from secagg.merkle import proofs, root
from secagg.packing import check_packed
from secagg.ring import RingVector
from secagg.rng import RandomSource
from secagg.seal import suite
from secagg.shamir import check_shares


class BaseServer(Machine):
    """The server of one session. It draws the graph's seed, and nothing else at random."""

    def __init__(self, session: Session, source: RandomSource) -> None:
        assert isinstance(session.parameters, MaskingParameters)  # noqa: S101 - the registry's pair
        super().__init__(session, SERVER, Advertising(session.context, source.seed(), {}, {}))
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
        everyone: Collection[int] = ()
        heard: Collection[int] = ()
        match self.state:
            case Advertising(adverts=heard):
                everyone = range(1, self.parameters.clients + 1)
            case Sharing(members=everyone, posted=heard):
                pass
            case Prepared(dealt=everyone):
                pass
            case Collecting(dealt=everyone, links=heard):
                pass
            case Confirming(links=everyone, confirmations=heard):
                pass
            case Unmasking(asked=everyone, answers=heard):
                pass
        return frozenset(everyone) - frozenset(heard)

    @property
    def unfinished(self) -> frozenset[int]:
        """The clients in the middle of an upload."""
        pieces = self.state.pieces if isinstance(self.state, Collecting) else {}
        return frozenset(pieces)

    @property
    def satisfied(self) -> bool:
        """Whether t shares that match their fingerprints came back of every seed."""
        state = self.state
        if not isinstance(state, Unmasking):
            return False
        return Recovery(self.parameters, self._graph(state), state).possible

    def fits(self, state: State) -> bool:
        """A stored sum must be one of ours: of the length that its stage has, in our ring."""
        bits = self.parameters.modulus_bits
        match state:
            case Summing(total=total):
                return total.fits(bits, self.parameters.masked_length)
            case Finished(total=total):
                return total.fits(bits, self.parameters.length)
        return True

    # Stage 0: advertise

    @receives(Advertising, Advert)
    def admit(self, state: Advertising, advert: Advert, sender: int) -> Step[Advertising]:
        """Take a member's key, which must be valid, and its own."""
        if not 1 <= sender <= self.parameters.clients:
            raise self.refuse(sender, "not a member of the roster")
        if sender in state.adverts:
            raise self.refuse(sender, "a second advert")
        own = Keys(sender, advert.nonce, advert.channel_key, advert.signature)
        try:
            self._suite.public_key(own.channel_key)
            self._check_advert(own)
        except DecodeError as error:
            raise self.refuse(sender, str(error)) from None
        if own.channel_key in state.owners:
            raise self.refuse(sender, "a public key that is not its own")
        owners = {**state.owners, own.channel_key: sender}
        adverts = {**state.adverts, sender: own}
        return Step(replace(state, adverts=adverts, owners=owners))

    @on(Advertising, RoundClosed)
    def fix_cohort(self, state: Advertising, _event: RoundClosed) -> Step[Sharing]:
        """Fix U1 and tell each member its neighbours."""
        adverts = dict(sorted(state.adverts.items()))
        self._require(adverts, self.parameters.floor, "advertised")
        leaves = [keys.leaf(own) for own in adverts.values()]
        top = root(leaves)
        context1 = cohort_context(self._context0, state.graph_seed, top)
        fixed = Sharing(context1, state.graph_seed, frozenset(adverts), {})
        graph = self._graph(fixed)
        paths = proofs(leaves, range(len(leaves)))
        cohorts = (
            (
                party,
                Cohort(
                    self._context0,
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
        if sender not in state.members:
            raise self.refuse(sender, "not in the cohort")
        if sender in state.posted:
            raise self.refuse(sender, "shared its keys twice")
        degree = len(self._graph(state)[sender])
        prints = (len(shares.mask_fingerprints), len(shares.self_fingerprints))
        if len(shares.sealed) != degree or set(prints) != {degree * FINGERPRINT_BYTES}:
            raise self.refuse(sender, f"shares that are not for exactly its {degree} neighbours")
        if any(len(sealed) != self.parameters.sealed_bytes for sealed in shares.sealed):
            raise self.refuse(sender, "a sealed message of the wrong length")
        return Step(replace(state, posted={**state.posted, sender: shares}))

    @on(Sharing, RoundClosed)
    def fix_sharers(self, state: Sharing, _event: RoundClosed) -> Step[Prepared]:
        """Fix U2 and deliver the shares."""
        graph = self._graph(state)
        sharers = self._with_enough_holders(state.posted, graph)
        floor = self.parameters.floor
        self._require(state.posted, floor, "shared their keys")
        self._require(sharers, floor, "shared their keys with enough neighbours")
        inboxes = (
            (party, Inbox(state.context, _deliveries(state.posted, party, graph, sharers)))
            for party in sorted(sharers)
        )
        dealt = {u: Dealt.by(state.posted[u]) for u in sorted(sharers)}
        return Step(Prepared(state.context, state.graph_seed, state.members, dealt), inboxes)

    # Stage 2: masked input

    @on(Prepared, Begin)
    def bind(self, state: Prepared, event: Begin) -> Step[Collecting]:
        """Fix what is trained; needed before the first upload."""
        context2 = bound_context(state.context, event.application)
        total = RingVector.zeros(self.parameters.modulus_bits, self.parameters.masked_length)
        cohort = (state.context, state.graph_seed, state.members)
        return Step(Collecting(*cohort, context2, state.dealt, {}, total, {}))

    @receives(Collecting, Upload)
    def add(self, state: Collecting, upload: Upload, sender: int) -> Step[Collecting]:
        """Take a piece of a masked vector; the last one adds all to the running sum."""
        if sender not in state.dealt:
            raise self.refuse(sender, "did not share its keys")
        if sender in state.links:
            raise self.refuse(sender, "uploaded twice")
        have = (*self.earlier_pieces(state.pieces, sender, upload.index), upload.packed)
        pieces = self.parameters.pieces
        self._check_piece(state, upload, sender)
        if len(have) < len(pieces):
            return Step(replace(state, pieces={**state.pieces, sender: have}))
        for at, packed in zip(pieces, have, strict=True):
            state.total.add_packed(packed, start=at.start, count=at.stop - at.start)
        rest = {party: parts for party, parts in state.pieces.items() if party != sender}
        return Step(replace(state, links={**state.links, sender: upload.links}, pieces=rest))

    def _survivors(self, state: Collecting) -> dict[int, tuple[int, ...]]:
        """U3, and for each member who of its neighbours and itself is in it."""
        self._require(state.links, self.parameters.floor, "uploaded")
        graph = self._graph(state)
        near = {u: tuple(sorted({u, *graph[u]} & state.links.keys())) for u in sorted(state.links)}
        for u, there in near.items():
            if len(there) < self.parameters.threshold:
                raise self._abort(
                    f"client {u} uploaded, but only {len(there)} holders of its shares"
                )
        return near

    # Stage 4: unmask

    @receives(Unmasking, UnmaskAnswer)
    def take_answer(self, state: Unmasking, answer: UnmaskAnswer, sender: int) -> Step[Unmasking]:
        """Take the shares that a survivor holds: exactly those it was asked for."""
        if sender not in state.asked:
            raise self.refuse(sender, "was not asked: it did not upload and confirm")
        if sender in state.answers:
            raise self.refuse(sender, "answered twice")
        near = {sender, *self._graph(state)[sender]} & state.dealt.keys()
        survivors = len(near & state.links.keys())
        try:
            check_shares(answer.self_shares, survivors)
            check_shares(answer.mask_shares, len(near) - survivors)
        except DecodeError as error:
            raise self.refuse(sender, str(error)) from None
        return Step(replace(state, answers={**state.answers, sender: answer}))

    @on(Unmasking, RoundClosed)
    def finish(self, state: Unmasking, _event: RoundClosed) -> Step[Finished]:
        """Reconstruct the seeds, take all masks off, and check the canary."""
        self._require(state.answers, self.parameters.threshold, "answered the unmask request")
        recovery = Recovery(self.parameters, self._graph(state), state)
        recovery.unmask()
        return Step(
            Finished(
                state.total.head(self.parameters.length),
                tuple(sorted(state.links)),
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
            party: tuple(v for v in matrix[party - 1].tolist() if v in state.members)
            for party in state.members
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

    def _check_piece(self, state: Collecting, upload: Upload, sender: int) -> None:
        """Of the right length, with links in the last one only."""
        pieces = self.parameters.pieces
        piece, last = pieces[upload.index], upload.index == len(pieces) - 1
        try:
            check_packed(upload.packed, self.parameters.modulus_bits, piece.stop - piece.start)
        except DecodeError as error:
            raise self.refuse(sender, str(error)) from None
        higher = higher_neighbours(self._graph(state)[sender], sender, state.dealt)
        if len(upload.links) != (DIGEST_BYTES * len(higher) if last else 0):
            raise self.refuse(sender, f"{len(upload.links)} bytes of links in piece {upload.index}")

    def _dropped(self, state: Unmasking) -> dict[int, str]:
        """The first stage in which each client was missing."""
        stages: Iterable[tuple[str, Collection[int]]] = (
            ("unmask", state.answers),
            ("consistency", state.asked),
            ("upload", state.links),
            ("share", state.dealt),
            ("advertise", state.members),
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

    def _check_advert(self, advert: Keys) -> None:
        """What a mode asks of an advert. Raises DecodeError."""
        if advert.signature:
            raise DecodeError("a signature in a session without any")


class Server(BaseServer):
    """The server that unmasks for clients which trust it to keep to the protocol."""

    role = "masking server"
    receivable = Advert | Shares | Upload | UnmaskAnswer
    states = Advertising | Sharing | Prepared | Collecting | Unmasking | Finished | Aborted

    @on(Collecting, RoundClosed)
    def fix_survivors(self, state: Collecting, _event: RoundClosed) -> Step[Unmasking]:
        """Fix U3 and ask its members for shares."""
        near = self._survivors(state)
        requests = ((u, UnmaskRequest(state.bound, there, len(near))) for u, there in near.items())
        asked = frozenset(near)
        return Step(Unmasking(*state.carried, asked, {}), requests)


def higher_neighbours(
    neighbours: Collection[int], party: int, sharers: Collection[int]
) -> list[int]:
    """The neighbours in U2 whose links `party` publishes, in order."""
    return [v for v in neighbours if v > party and v in sharers]


def _deliveries(
    posted: Mapping[int, Shares], to: int, graph: Adjacency, sharers: frozenset[int]
) -> tuple[Delivered, ...]:
    """What the neighbours of `to` in U2 have for it. Rows are sorted, so `to` is found fast."""
    senders = [u for u in graph[to] if u in sharers]
    return tuple(Delivered(u, posted[u].sealed[bisect_left(graph[u], to)]) for u in senders)
