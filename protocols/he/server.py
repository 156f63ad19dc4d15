"""The server of `ckks` and `bfv`: it adds ciphertexts up and never sees what is in them."""

from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar

from msgspec.structs import replace

from protocols.base import (
    SERVER,
    Aborted,
    Begin,
    Machine,
    Message,
    Result,
    RoundClosed,
    Session,
    State,
    Step,
    Terminal,
    on,
    receives,
)
from protocols.he import keys
from protocols.he.engine import Engine
from protocols.he.messages import Aggregate, Batch, Offer, Opened, Present, PublicKey, Upload
from protocols.he.parameters import HeParameters
from secagg.codec import Bytes32, decode
from secagg.errors import DecodeError, LocalError, ProtocolAborted
from secagg.packing import check_packed
from secagg.ring import RingVector
from secagg.rng import RandomSource
from secagg.seal import suite

Pieces = tuple[tuple[bytes, ...], ...]


class Joining(State, frozen=True, tag="joining"):
    """Collecting who is there, and the key."""

    stage: ClassVar[str] = "join"
    context: Bytes32
    seed: Bytes32
    application: bytes
    key: bytes
    present: frozenset[int]

    @property
    def expected_context(self) -> bytes:
        """`context0`."""
        return self.context


class Collecting(State, frozen=True, tag="collecting"):
    """One running sum of ciphertexts; `pieces` keeps what came of uploads not yet complete."""

    stage: ClassVar[str] = "upload"
    context: Bytes32
    seed: Bytes32
    key: bytes
    present: frozenset[int]
    uploaded: frozenset[int]
    pieces: dict[int, Pieces]
    total: Pieces

    @property
    def expected_context(self) -> bytes:
        """`context2`."""
        return self.context


class Opening(State, frozen=True, tag="opening"):
    """The ciphertexts are with the key holder; `packed` is what it answered, or empty."""

    stage: ClassVar[str] = "open"
    context: Bytes32
    present: frozenset[int]
    uploaded: frozenset[int]
    packed: bytes

    @property
    def expected_context(self) -> bytes:
        """Session and key."""
        return self.context


class Finished(Terminal, frozen=True, tag="finished"):
    """The sum is known."""

    stage: ClassVar[str] = "finished"
    total: RingVector
    present: frozenset[int]
    uploaded: frozenset[int]


class Server(Machine):
    """The server of one session. It draws the seed of its sealing key, and nothing else."""

    role = "homomorphic server"
    receivable = Present | PublicKey | Upload | Opened
    states = Joining | Collecting | Opening | Finished | Aborted

    def __init__(self, session: Session, source: RandomSource, engine: Engine) -> None:
        assert isinstance(session.parameters, HeParameters)  # noqa: S101 - the registry's pair
        first = Joining(session.context, source.seed(), b"", b"", frozenset())
        super().__init__(session, SERVER, first)
        self.parameters = session.parameters
        self._suite = suite(session.parameters.suite)
        self._engine = engine

    @property
    def result(self) -> Result:
        """The outcome; LocalError before there is one."""
        if not isinstance(self.state, Finished):
            return super().result
        done = self.state
        everyone = range(1, self.parameters.clients + 1)
        dropped = {
            party: "upload" if party in done.present else "join"
            for party in everyone
            if party not in done.uploaded
        }
        return Result(done.total.values(), tuple(sorted(done.uploaded)), dropped)

    @property
    def waits_for(self) -> frozenset[int]:
        """The parties that may still answer in this stage."""
        holder = self.parameters.holder
        match self.state:
            case Joining(key=key, present=present):
                missing = frozenset(range(1, self.parameters.clients + 1)) - present
                return missing if key else missing | {holder}
            case Collecting(present=present, uploaded=uploaded):
                return present - uploaded
            case Opening(packed=b""):
                return frozenset({holder})
        return frozenset()

    @property
    def unfinished(self) -> frozenset[int]:
        """The clients in the middle of an upload."""
        return frozenset(self.state.pieces if isinstance(self.state, Collecting) else ())

    def fits(self, state: State) -> bool:
        """A stored sum must be one of ours."""
        match state:
            case Collecting(total=total):
                return len(total) in {0, len(self.parameters.pieces)}
            case Finished(total=total):
                return total.fits(self.parameters.modulus_bits, self.parameters.length)
        return True

    # Stage join

    @on(Joining, Begin)
    def bind(self, state: Joining, event: Begin) -> Step[Joining]:
        """Fix what is trained; needed before the key goes out."""
        if state.application:
            raise LocalError("Begin is said once")
        return Step(replace(state, application=event.application))

    @receives(Joining, Present)
    def admit(self, state: Joining, _present: Present, sender: int) -> Step[Joining]:
        """Note a member of the roster."""
        if not 1 <= sender <= self.parameters.clients:
            raise self.refuse(sender, "not a member of the roster")
        if sender in state.present:
            raise self.refuse(sender, "said twice that it is there")
        return Step(replace(state, present=state.present | {sender}))

    @receives(Joining, PublicKey)
    def take_key(self, state: Joining, message: PublicKey, sender: int) -> Step[Joining]:
        """Take the key holder's key, once."""
        self._check_holder(sender)
        if state.key:
            raise self.refuse(sender, "a second key")
        try:
            self._engine.check_public(message.key)
        except DecodeError as error:
            raise self.refuse(sender, str(error)) from None
        return Step(replace(state, key=message.key))

    @on(Joining, RoundClosed)
    def offer(self, state: Joining, _event: RoundClosed) -> Step[Collecting]:
        """Fix who is there, and hand out both keys."""
        if not state.application:
            raise LocalError("say Begin, with the application digest, before closing the stage")
        if not state.key:
            raise self._abort("the key holder sent no key", blame=(self.parameters.holder,))
        self._require(state.present, "joined")
        sealing_key = keys.sealing_keys(self._suite, state.seed, state.context).public.raw
        offer = Offer(state.context, state.application, state.key, sealing_key)
        context2 = keys.upload_context(state.context, state.application, state.key, sealing_key)
        fixed = Collecting(
            context2, state.seed, state.key, state.present, frozenset(), {}, total=()
        )
        return Step(fixed, tuple((party, offer) for party in sorted(state.present)))

    # Stage upload

    @receives(Collecting, Upload)
    def add(self, state: Collecting, upload: Upload, sender: int) -> Step[Collecting]:
        """Take a piece; the last one adds the whole upload to the running sum."""
        if sender not in state.present:
            raise self.refuse(sender, "did not join")
        if sender in state.uploaded:
            raise self.refuse(sender, "uploaded twice")
        before = self.earlier_pieces(state.pieces, sender, upload.index)
        have = (*before, self._ciphertexts(state, upload, sender))
        if len(have) < len(self.parameters.pieces):
            return Step(replace(state, pieces={**state.pieces, sender: have}))
        total = self._sum(state.total, have, sender)
        rest = {party: parts for party, parts in state.pieces.items() if party != sender}
        uploaded = state.uploaded | {sender}
        return Step(replace(state, uploaded=uploaded, pieces=rest, total=total))

    @on(Collecting, RoundClosed)
    def ask(self, state: Collecting, _event: RoundClosed) -> Step[Opening]:
        """Fix who is in the sum and have it opened."""
        self._require(state.uploaded, "uploaded")
        context = keys.opening_context(self.session.context, state.key)
        opening = Opening(context, state.present, state.uploaded, b"")
        return Step(opening, self._aggregates(context, state))

    # Stage open

    @receives(Opening, Opened)
    def take_sum(self, state: Opening, opened: Opened, sender: int) -> Step[Opening]:
        """Take the key holder's answer, once."""
        self._check_holder(sender)
        if state.packed:
            raise self.refuse(sender, "a second sum")
        try:
            check_packed(opened.packed, self.parameters.modulus_bits, self.parameters.length)
        except DecodeError as error:
            raise self.refuse(sender, str(error)) from None
        return Step(replace(state, packed=opened.packed))

    @on(Opening, RoundClosed)
    def finish(self, state: Opening, _event: RoundClosed) -> Step[Finished]:
        """The sum is what the key holder says."""
        if not state.packed:
            raise self._abort("the key holder opened no sum", blame=(self.parameters.holder,))
        total = RingVector.zeros(self.parameters.modulus_bits, self.parameters.length)
        total.add_packed(state.packed)
        return Step(Finished(total, state.present, state.uploaded))

    def _ciphertexts(self, state: Collecting, upload: Upload, sender: int) -> tuple[bytes, ...]:
        """What a piece holds, opened and checked one by one."""
        pair = keys.sealing_keys(self._suite, state.seed, self.session.context)
        try:
            clear = pair.open(upload.sealed, keys.sealing_info(state.context, sender, upload.index))
            batch = decode(clear, Batch)
            self._engine.check(batch.ciphertexts, self.parameters.ciphertexts(upload.index))
        except DecodeError as error:
            raise self.refuse(
                sender, str(error), expected="ciphertexts under this session's key, sealed for us"
            ) from None
        return batch.ciphertexts

    def _sum(self, total: Pieces, upload: Pieces, sender: int) -> Pieces:
        if not total:
            return upload
        try:
            pairs = zip(total, upload, strict=True)
            return tuple(self._engine.add(mine, theirs) for mine, theirs in pairs)
        except DecodeError as error:
            raise self.refuse(sender, str(error)) from None

    def _aggregates(self, context: bytes, state: Collecting) -> Iterator[tuple[int, Message]]:
        for index, ciphertexts in enumerate(state.total):
            piece = Aggregate(context, index, len(state.uploaded), ciphertexts)
            yield self.parameters.holder, piece

    def _check_holder(self, sender: int) -> None:
        if sender != self.parameters.holder:
            raise self.refuse(sender, f"only the key holder, {self.parameters.holder}, sends this")

    def _require(self, there: Collection[int], what: str) -> None:
        if len(there) < self.parameters.floor:
            raise self._abort(
                f"only {len(there)} clients {what}, fewer than {self.parameters.floor}"
            )

    def _abort(self, why: str, blame: Sequence[int] = ()) -> ProtocolAborted:
        return ProtocolAborted(why, stage=self.state.stage, blame=blame)
