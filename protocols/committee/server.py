"""The server of `committee`: one running sum of ciphertexts, and a committee that opens it.

It fixes who uploaded, and then U3, once each, by `RoundClosed`. Whatever is wrong with a
message is found before anything of it is added.
"""

from collections.abc import Collection, Mapping
from typing import ClassVar

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from protocols.base import (
    SERVER,
    Aborted,
    BadAnswer,
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
from protocols.committee.messages import (
    Announcement,
    Answer,
    Committee,
    DecryptorKey,
    Delivered,
    Delivery,
    OpenRequest,
    Report,
    Upload,
    context_of,
)
from protocols.committee.parameters import CommitteeParameters
from secagg import rlwe, vshare
from secagg.codec import Bytes32
from secagg.errors import DecodeError, LocalError, ProtocolAborted
from secagg.gaussian import BOUND
from secagg.ring import RingVector
from secagg.rng import RandomSource
from secagg.seal import suite


class Convening(State, frozen=True, tag="convening"):
    """Collecting the decryptors' keys. `application` is empty until it is known."""

    stage: ClassVar[str] = "keys"
    context: Bytes32
    application: bytes
    keys: dict[int, bytes]

    @property
    def expected_context(self) -> bytes:
        """`context0`."""
        return self.context


class Fixed(State, frozen=True):
    """Base of the states after the committee is fixed."""

    context: Bytes32
    total: RingVector

    @property
    def expected_context(self) -> bytes:
        """`context2`."""
        return self.context


class Collecting(Fixed, frozen=True, tag="collecting"):
    """Taking uploads. `pieces`: of those that are not complete yet, none of which is in the
    sum; `sealed`: by client, what it sealed for each decryptor.
    """

    stage: ClassVar[str] = "upload"
    application: Bytes32
    keys: tuple[DecryptorKey, ...]
    pieces: dict[int, tuple[bytes, ...]]
    sealed: dict[int, tuple[bytes, ...]]


class Reporting(Fixed, frozen=True, tag="reporting"):
    """Hearing which sealed shares opened."""

    stage: ClassVar[str] = "report"
    uploaded: frozenset[int]
    asked: frozenset[int]
    reports: dict[int, frozenset[int]]


class Opening(Fixed, frozen=True, tag="opening"):
    """U3 is fixed; waiting for the sums of shares."""

    stage: ClassVar[str] = "open"
    survivors: frozenset[int]
    asked: frozenset[int]
    answers: dict[int, bytes]


class Finished(Terminal, frozen=True, tag="finished"):
    """The sum is known."""

    stage: ClassVar[str] = "finished"
    total: RingVector
    contributors: tuple[int, ...]
    bad_answers: tuple[BadAnswer, ...]


class Server(Machine):
    """The server of one session."""

    role = "committee server"
    receivable = Announcement | Upload | Report | Answer
    states = Convening | Collecting | Reporting | Opening | Finished | Aborted

    def __init__(self, session: Session, _source: RandomSource) -> None:
        assert isinstance(session.parameters, CommitteeParameters)  # noqa: S101 - the registry's
        super().__init__(session, SERVER, Convening(session.context, b"", {}))
        self.parameters = session.parameters
        self._plan = session.parameters.plan
        self._suite = suite(session.parameters.suite)

    @property
    def result(self) -> Result:
        """The outcome; LocalError before there is one."""
        if not isinstance(self.state, Finished):
            return super().result
        done = self.state
        missing = sorted({*self._clients} - {*done.contributors})
        dropped = dict.fromkeys(missing, "upload")
        return Result(done.total.values(), done.contributors, dropped, done.bad_answers)

    @property
    def waits_for(self) -> frozenset[int]:
        """The parties that may still answer in this stage."""
        match self.state:
            case Convening(keys=keys):
                return frozenset(self.parameters.committee) - keys.keys()
            case Collecting(sealed=sealed):
                return frozenset(self._clients) - sealed.keys()
            case Reporting(asked=asked, reports=reports):
                return asked - reports.keys()
            case Opening(asked=asked, answers=answers):
                return asked - answers.keys()
        return frozenset()

    @property
    def unfinished(self) -> frozenset[int]:
        """The clients in the middle of an upload."""
        return frozenset(self.state.pieces if isinstance(self.state, Collecting) else {})

    def fits(self, state: State) -> bool:
        """A stored sum must be one of ours."""
        match state:
            case Fixed(total=total):
                return rlwe.is_sum(self._plan, total.words)
            case Finished(total=total):
                return total.fits(self.parameters.modulus_bits, self.parameters.length)
        return True

    # Stage keys

    @on(Convening, Begin)
    def bind(self, state: Convening, event: Begin) -> Step[Convening]:
        """Fix what is trained; needed before the committee is."""
        if state.application:
            raise LocalError("Begin is said once")
        return Step(replace(state, application=event.application))

    @receives(Convening, Announcement)
    def admit(self, state: Convening, body: Announcement, sender: int) -> Step[Convening]:
        """Take a decryptor's key, which must be valid, and its own."""
        if sender not in self.parameters.committee:
            raise self.refuse(sender, "not a member of the committee")
        if sender in state.keys:
            raise self.refuse(sender, "announced a key twice")
        try:
            self._suite.public_key(body.public)
        except DecodeError as error:
            raise self.refuse(sender, str(error)) from None
        if body.public in state.keys.values():
            raise self.refuse(sender, "a public key that is not its own")
        return Step(replace(state, keys={**state.keys, sender: body.public}))

    @on(Convening, RoundClosed)
    def convene(self, state: Convening, _event: RoundClosed) -> Step[Collecting]:
        """Fix the committee and tell every client."""
        if not state.application:
            raise LocalError("say Begin, with the application digest, before closing the stage")
        self._require(state.keys, self.parameters.threshold, "decryptors have keys")
        keys = tuple(DecryptorKey(*each) for each in sorted(state.keys.items()))
        context2 = context_of(state.context, state.application, keys)
        total = RingVector(32, rlwe.zero_sum(self._plan))
        message = Committee(state.context, state.application, keys)
        following = Collecting(context2, total, state.application, keys, {}, {})
        return Step(following, ((party, message) for party in self._clients))

    # Stage upload

    @receives(Collecting, Upload)
    def add(self, state: Collecting, upload: Upload, sender: int) -> Step[Collecting]:
        """Take a piece of a ciphertext; the last one adds all to the running sum."""
        if sender not in self._clients:
            raise self.refuse(sender, "not a member of the roster")
        if sender in state.sealed:
            raise self.refuse(sender, "uploaded twice")
        have = (*self.earlier_pieces(state.pieces, sender, upload.index), upload.packed)
        self._check_piece(state, upload, len(have), sender)
        if len(have) < len(self.parameters.pieces):
            return Step(replace(state, pieces={**state.pieces, sender: have}))
        for chunks, packed in zip(self.parameters.pieces, have, strict=True):
            rlwe.add_chunks(self._plan, state.total.words, chunks, packed)
        rest = {party: parts for party, parts in state.pieces.items() if party != sender}
        sealed = {**state.sealed, sender: upload.sealed}
        return Step(replace(state, pieces=rest, sealed=sealed))

    @on(Collecting, RoundClosed)
    def deliver(self, state: Collecting, _event: RoundClosed) -> Step[Reporting]:
        """Fix who uploaded, and hand every decryptor what was sealed for it."""
        self._require(state.sealed, self.parameters.floor, "clients uploaded")
        uploads = sorted(state.sealed.items())
        deliveries = (
            (
                key.party,
                Delivery(
                    self.session.context,
                    state.application,
                    state.keys,
                    tuple(Delivered(party, sealed[place]) for party, sealed in uploads),
                ),
            )
            for place, key in enumerate(state.keys)
        )
        asked = frozenset(key.party for key in state.keys)
        following = Reporting(state.context, state.total, frozenset(state.sealed), asked, {})
        return Step(following, deliveries)

    # Stage report

    @receives(Reporting, Report)
    def hear(self, state: Reporting, report: Report, sender: int) -> Step[Reporting]:
        """Take a decryptor's word for whose shares opened."""
        self._check_asked(state.asked, state.reports, sender)
        opened = frozenset(report.opened)
        if list(report.opened) != sorted(opened) or not opened <= state.uploaded:
            raise self.refuse(sender, "a report about others than those who uploaded, in order")
        return Step(replace(state, reports={**state.reports, sender: opened}))

    @on(Reporting, RoundClosed)
    def fix_survivors(self, state: Reporting, _event: RoundClosed) -> Step[Opening]:
        """Fix U3, which must be everyone who is in the sum of ciphertexts."""
        self._require(state.reports, self.parameters.threshold, "decryptors reported")
        able = frozenset(v for v, opened in state.reports.items() if opened == state.uploaded)
        if len(able) < self.parameters.threshold:
            raise self._unopened(state)
        request = OpenRequest(state.context, tuple(sorted(state.uploaded)))
        following = Opening(state.context, state.total, state.uploaded, able, {})
        return Step(following, ((party, request) for party in sorted(able)))

    # Stage open

    @receives(Opening, Answer)
    def take_answer(self, state: Opening, answer: Answer, sender: int) -> Step[Opening]:
        """Take the sum of a decryptor's shares."""
        self._check_asked(state.asked, state.answers, sender)
        try:
            vshare.check(answer.total, self._plan.ring.degree)
        except DecodeError as error:
            raise self.refuse(sender, str(error)) from None
        return Step(replace(state, answers={**state.answers, sender: answer.total}))

    @on(Opening, RoundClosed)
    def finish(self, state: Opening, _event: RoundClosed) -> Step[Finished]:
        """Interpolate the sum of the short keys, check it, and open the sum of the updates."""
        self._require(state.answers, self.parameters.threshold, "decryptors answered")
        count, bits = len(state.survivors), self.parameters.modulus_bits
        keys, wrong = self._interpolated(state, count)
        try:
            values = rlwe.open_sum(self._plan, state.total.words, state.context, keys, count, bits)
        except DecodeError as error:
            raise ProtocolAborted(str(error), stage=state.stage) from None
        bad = tuple(BadAnswer(SERVER, party, "sum of shares") for party in sorted(wrong))
        contributors = tuple(sorted(state.survivors))
        return Step(Finished(RingVector.of(bits, values), contributors, bad))

    def _interpolated(self, state: Opening, count: int) -> tuple[NDArray[np.int64], frozenset[int]]:
        """The sum of the short keys that is within its bound and fits the canary, and whose
        answers are wrong.
        """
        threshold, degree = self.parameters.threshold, self._plan.ring.degree
        found = vshare.candidates(state.answers, threshold, degree, count * BOUND)
        for keys, wrong in found:
            if rlwe.is_key_sum(self._plan, state.total.words, state.context, keys, count):
                return keys, wrong
        raise ProtocolAborted(
            f"the answers of {len(state.answers)} decryptors do not give the sum of short keys, "
            f"and with a threshold of {threshold} it cannot be said whose is wrong",
            stage=state.stage,
        )

    @property
    def _clients(self) -> range:
        return range(1, self.parameters.clients + 1)

    def _check_piece(self, state: Collecting, upload: Upload, count: int, sender: int) -> None:
        pieces, size = self.parameters.pieces, self.parameters.sealed_bytes
        expected = [size] * len(state.keys) if count == len(pieces) else []
        if [len(each) for each in upload.sealed] != expected:
            raise self.refuse(sender, "sealed shares that are not one for each decryptor")
        try:
            rlwe.check_piece(self._plan, pieces[upload.index], upload.packed)
        except DecodeError as error:
            raise self.refuse(sender, str(error)) from None

    def _check_asked(self, asked: frozenset[int], there: Mapping[int, object], sender: int) -> None:
        if sender not in asked:
            raise self.refuse(sender, "was not asked")
        if sender in there:
            raise self.refuse(sender, "answered twice")

    def _unopened(self, state: Reporting) -> ProtocolAborted:
        """The sum of ciphertexts cannot lose one again, so whoever spoils it is named: clients
        whose shares more reporters could not open than may be lying.
        """
        failures = {
            party: sum(party not in opened for opened in state.reports.values())
            for party in state.uploaded
        }
        named = [u for u, count in failures.items() if count > self.parameters.corrupt_decryptors]
        why = "too few decryptors could open all shares; run a session without the clients named"
        return ProtocolAborted(why, stage=state.stage, blame=named)

    def _require(self, there: Collection[int], need: int, what: str) -> None:
        if len(there) < need:
            why = f"only {len(there)} {what}, fewer than {need}"
            raise ProtocolAborted(why, stage=self.state.stage)
