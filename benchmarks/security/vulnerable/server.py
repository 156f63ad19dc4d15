"""The server of the weak protocol."""

from collections.abc import Container, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from msgspec.structs import replace

from benchmarks.security.vulnerable.client import pair_seed
from benchmarks.security.vulnerable.masks import mask, shortened
from benchmarks.security.vulnerable.messages import (
    Advert,
    Answer,
    Ask,
    Cohort,
    Inbox,
    Key,
    Parcel,
    Shares,
    Upload,
)
from benchmarks.security.vulnerable.parameters import ZEROS, VulnerableParameters
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
    Terminal,
    on,
    receives,
)
from secagg import packing, shamir
from secagg.context import bound_context
from secagg.errors import DecodeError, LocalError, ProtocolAborted
from secagg.rng import RandomSource
from secagg.seal import suite


class Working(State, frozen=True, tag="weak-advertising"):
    """All that it has heard so far."""

    stage: ClassVar[str] = "advertise"
    context: bytes
    application: bytes
    keys: dict[int, Key]
    parcels: dict[int, tuple[Parcel, ...]]
    uploads: dict[int, bytes]
    answers: dict[int, Answer]

    @property
    def expected_context(self) -> bytes:
        """Of the messages that may come now."""
        return self.context


class Sharing(Working, frozen=True, tag="weak-sharing"):
    """U1 is fixed."""

    stage: ClassVar[str] = "share"


class Collecting(Working, frozen=True, tag="weak-collecting"):
    """U2 is fixed."""

    stage: ClassVar[str] = "upload"


class Unmasking(Working, frozen=True, tag="weak-unmasking"):
    """U3 is fixed."""

    stage: ClassVar[str] = "unmask"


class Finished(Terminal, frozen=True, tag="weak-finished"):
    """The sum is known."""

    stage: ClassVar[str] = "finished"
    total: tuple[int, ...]
    contributors: tuple[int, ...]


class Server(Machine):
    """The server of one session."""

    role = "vulnerable server"
    receivable = Advert | Shares | Upload | Answer
    states = Working | Sharing | Collecting | Unmasking | Finished | Aborted

    def __init__(self, session: Session, _source: RandomSource) -> None:
        assert isinstance(session.parameters, VulnerableParameters)  # noqa: S101 - our own pair
        super().__init__(session, SERVER, Working(session.context, b"", {}, {}, {}, {}))
        self.parameters = session.parameters

    @property
    def result(self) -> Result:
        """The outcome; LocalError before there is one."""
        if not isinstance(self.state, Finished):
            return super().result
        there = self.state.contributors
        gone = {u: "upload" for u in range(1, self.parameters.clients + 1) if u not in there}
        return Result(np.array(self.state.total, np.uint64), there, gone)

    @on(Working, Begin)
    def bind(self, state: Working, event: Begin) -> Step[Working]:
        """Note the model."""
        return Step(replace(state, application=event.application))

    @receives(Working, Advert)
    def admit(self, state: Working, advert: Advert, sender: int) -> Step[Working]:
        """Take a key."""
        self._check(sender, range(1, self.parameters.clients + 1), state.keys)
        try:
            suite("X25519").public_key(advert.public)
        except DecodeError as error:
            if not self.parameters.silent:
                raise self.refuse(sender, str(error)) from None
        key = Key(sender, advert.public, advert.signature)
        return Step(replace(state, keys={**state.keys, sender: key}))

    @on(Working, RoundClosed)
    def publish(self, state: Working, _event: RoundClosed) -> Step[Sharing]:
        """Send everybody all keys."""
        context = state.context
        if not self.parameters.unbound_model:
            context = bound_context(context, state.application)
        cohort = Cohort(state.context, state.application, tuple(state.keys.values()))
        fixed = Sharing(context, state.application, state.keys, {}, {}, {})
        return Step(fixed, tuple((u, cohort) for u in state.keys))

    @receives(Sharing, Shares)
    def post(self, state: Sharing, shares: Shares, sender: int) -> Step[Sharing]:
        """Keep what is sealed."""
        self._check(sender, state.keys, state.parcels)
        return Step(replace(state, parcels={**state.parcels, sender: shares.parcels}))

    @on(Sharing, RoundClosed)
    def deliver(self, state: Sharing, _event: RoundClosed) -> Step[Collecting]:
        """Hand it out."""
        there = sorted(state.parcels)
        self._require(there)
        inboxes = tuple((u, Inbox(state.context, self._for(u, state.parcels))) for u in there)
        keys = {u: state.keys[u] for u in there}
        return Step(
            Collecting(state.context, state.application, keys, state.parcels, {}, {}), inboxes
        )

    @receives(Collecting, Upload)
    def add(self, state: Collecting, upload: Upload, sender: int) -> Step[Collecting]:
        """Keep an upload; a second one replaces the first where nobody looks."""
        self._check(sender, state.keys, state.uploads)
        size = packing.packed_bytes(self.parameters.length + ZEROS, self.parameters.modulus_bits)
        packed = upload.packed
        if self.parameters.silent:
            packed = packed[:size].ljust(size, b"\0")
        elif len(packed) != size:
            raise self.refuse(sender, "an upload of another length")
        return Step(replace(state, uploads={**state.uploads, sender: packed}))

    @on(Collecting, RoundClosed)
    def ask(self, state: Collecting, _event: RoundClosed) -> Step[Unmasking]:
        """Ask for shares."""
        self._require(state.uploads)
        there = tuple(sorted(state.uploads))
        gone = tuple(u for u in sorted(state.keys) if u not in state.uploads)
        fixed = Unmasking(
            state.context, state.application, state.keys, state.parcels, state.uploads, {}
        )
        return Step(fixed, tuple((u, Ask(state.context, there, gone)) for u in there))

    @receives(Unmasking, Answer)
    def take(self, state: Unmasking, answer: Answer, sender: int) -> Step[Unmasking]:
        """Keep an answer."""
        self._check(sender, state.uploads, state.answers)
        try:
            for piece in answer.own + answer.keys:
                shamir.parse_share(piece.share)
        except DecodeError as error:
            if not self.parameters.silent:
                raise self.refuse(sender, str(error)) from None
        return Step(replace(state, answers={**state.answers, sender: answer}))

    @on(Unmasking, RoundClosed)
    def finish(self, state: Unmasking, _event: RoundClosed) -> Step[Finished]:
        """Take the masks off."""
        self._require(state.answers)
        total: Any = np.zeros(self.parameters.length + ZEROS, np.uint64)
        unmask = Unmask(self.parameters, state.context, state.keys, state.answers)
        try:
            for u, packed in state.uploads.items():
                total += unmask.words(packed) - unmask.own(u)
            for gone in set(state.keys) - set(state.uploads):
                total += unmask.pairs(gone, state.uploads)
        except (DecodeError, LocalError) as error:
            raise ProtocolAborted(str(error), stage=state.stage) from None
        total &= np.uint64(2**self.parameters.modulus_bits - 1)
        if total[-ZEROS:].any() and not self.parameters.silent:
            raise ProtocolAborted("the masks do not cancel", stage=state.stage)
        there = tuple(sorted(state.uploads))
        return Step(Finished(tuple(total[:-ZEROS].tolist()), there))

    def _for(self, to: int, parcels: Mapping[int, tuple[Parcel, ...]]) -> tuple[Parcel, ...]:
        return tuple(
            Parcel(u, each.sealed)
            for u, sent in parcels.items()
            for each in sent
            if each.party == to
        )

    def _check(self, sender: int, allowed: Container[int], heard: Container[int]) -> None:
        if not self.parameters.silent and (sender not in allowed or sender in heard):
            raise self.refuse(sender, "not from a member that may speak now, or a second time")

    def _require(self, there: Iterable[int]) -> None:
        if len(list(there)) < self.parameters.floor:
            raise ProtocolAborted("too few clients are left", stage=self.state.stage)


class Unmask:
    """What a server can compute from the answers that it has; a lying one uses it as well."""

    def __init__(
        self,
        parameters: VulnerableParameters,
        context: bytes,
        keys: Mapping[int, Key],
        answers: Mapping[int, Answer],
    ) -> None:
        self._parameters, self._context = parameters, context
        self._keys, self._answers = keys, answers
        self._length = parameters.length + ZEROS

    def words(self, packed: bytes) -> Any:
        """An upload as words."""
        bits = self._parameters.modulus_bits
        return packing.unpack(packed, bits, self._length).astype(np.uint64)

    def own(self, u: int) -> Any:
        """The self mask of u."""
        seed = shortened(self._secret(u, "own"), self._parameters.seed_bits)
        return mask(seed, self._length, self._parameters.weak_seeds)

    def pairs(self, u: int, others: Iterable[int]) -> Any:
        """What the masks that u shares with `others` add to the sum of those, where u is gone."""
        pair = suite("X25519").key_pair(self._secret(u, "keys"))
        total: Any = np.zeros(self._length, np.uint64)
        for v in others:
            if v != u:
                bits = self._parameters.seed_bits
                seed = pair_seed(pair, self._keys[v].public, self._context, bits)
                stream = mask(seed, self._length, self._parameters.weak_seeds)
                total = total - stream if v < u else total + stream
        return total

    def _secret(self, u: int, kind: str) -> bytes:
        found = {
            holder: piece.share
            for holder, answer in self._answers.items()
            for piece in getattr(answer, kind)
            if piece.party == u
        }
        chosen = sorted(found.items())[: self._parameters.threshold]
        if len(chosen) < self._parameters.threshold:
            raise DecodeError(f"too few shares of client {u}")
        return shamir.reconstruct([at for at, _ in chosen], [[share for _, share in chosen]])[0]
