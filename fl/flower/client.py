"""The client's side: one mod, first in `ClientApp(mods=[…])`.

It answers the server's steps with what its machine says, and calls the app only when the
machine asks for a vector. An unprotected training or evaluation message is refused: the
server cannot turn the protection off.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from logging import WARNING

from flwr.app import Context, Error, Message, MessageType, RecordDict
from flwr.common import log

from fl.flower.digests import application_of, model_of
from fl.flower.protection import Protection
from fl.flower.state import Kept, Memory
from fl.flower.values import Layout, category, encode_reply
from fl.flower.wire import (
    VERSION,
    Offer,
    Parcel,
    Refusal,
    Reply,
    Request,
    Schema,
    is_ours,
    pack,
    unpack,
    without_ours,
)
from fl.kernel_cache import use_private_cache
from protocols.base import SERVER, Begin, Contribute, Envelope, Join, Received, Session
from protocols.journal import Party
from secagg.codec import encode
from secagg.errors import ParameterError, PeerError, ProtocolAborted, SecaggError
from secagg.prg import Words
from secagg.rng import SystemSource
from secagg.seal import HpkeSealer
from secagg.signing import Identity

REFUSED = 6
"""Flower's code for a mod whose conditions are not met."""

App = Callable[[Message, Context], Message]
Mod = Callable[[Message, Context, App], Message]
Signer = Identity | Callable[[Context], Identity] | None


@cache
def _private_cache() -> None:
    """Each message may have a process of its own: its kernels must not be compiled anew."""
    if "secagg.kernels._jit" not in sys.modules:  # else somebody chose already
        use_private_cache()


def secure_mod(protection: Protection, *, identity: Signer = None) -> Mod:
    """The mod. identity: this member's key in active mode, or where to get it from.

    Put it first, so that clipping and noise of other mods act before the protection.
    """

    def mod(message: Message, context: Context, app: App) -> Message:
        if category(message.metadata.message_type) == MessageType.QUERY:
            return app(message, context)
        memory = Memory(context)
        step = _Step(protection, identity, memory, _Call(message, context, app))
        try:
            content = step.content()
        except _AppFailed as failed:
            return failed.reply
        except SecaggError as error:
            log(WARNING, "secagg: %s", error)
            return Message(Error(REFUSED, f"secagg: {_told(error)}"), reply_to=message)
        finally:
            memory.save()
        return Message(content, reply_to=message)

    return mod


class _AppFailed(SecaggError):  # noqa: N818 - an outcome, not a fault of ours
    """The app, or a mod behind ours, answered with an error of its own."""

    def __init__(self, reply: Message) -> None:
        super().__init__("the app answered with an error")
        self.reply = reply


class _Step:
    """One message's worth of work."""

    def __init__(
        self, protection: Protection, identity: Signer, memory: Memory, call: "_Call"
    ) -> None:
        self._protection, self._identity = protection, identity
        self._memory, self._call = memory, call
        self._source = SystemSource()
        self._schema: Schema | None = None
        self._sent: dict[bytes, tuple[int, list[bytes]]] = {}

    def content(self) -> RecordDict:
        """The reply's records. Raises SecaggError."""
        if not is_ours(self._call.message.content):
            raise Refusal(
                "this client takes part in secure aggregation only; start the strategy with "
                "grid=fl.flower.secure(strategy, grid, PROTECTION)"
            )
        request, data = unpack(self._call.message.content, Request)
        for offer in request.offers:
            if offer.session == request.session or not request.session:
                self._join(offer)
        if request.session:
            _private_cache()
            self._advance(request, data)
            self._join_ahead(request)
        parcels = tuple(Parcel(s, n, len(sent)) for s, (n, sent) in self._sent.items())
        flat = (data for _, sent in self._sent.values() for data in sent)
        return pack(Reply(VERSION, parcels, self._schema), flat)

    def _join_ahead(self, request: Request) -> None:
        """Later sessions; one that we refuse now is no reason to lose this one's answer."""
        for offer in request.offers:
            if offer.session != request.session:
                try:
                    self._join(offer)
                except SecaggError as error:
                    log(WARNING, "secagg: not joining the next round: %s", error)

    def _join(self, offer: Offer) -> None:
        """Take part in a session that we agree with, as the number that is ours."""
        if kept := self._memory.joined(offer):
            self._sent[offer.session] = (kept.number, list(kept.advert))
            return
        number = self._agree(offer)
        party = self._party(self._memory.add(offer, number))
        sent = [envelope.data for envelope in party.handle(Join())]
        self._sent[offer.session] = (number, sent)
        snapshot = party.machine.snapshot()
        self._memory.update(offer.session, snapshot=snapshot, advert=tuple(sent))

    def _advance(self, request: Request, data: tuple[bytes, ...]) -> None:
        """A step of a session that was joined. Who fails in one is out of its round."""
        kept = self._memory.find(request.session)
        _, before = self._sent.get(request.session, (kept.number, []))
        sent: list[Envelope] = []
        try:
            self._step(kept, request, data, sent)
        except BaseException:
            self._memory.forget(request.session)
            raise
        said = [*before, *(envelope.data for envelope in sent)]
        self._sent[request.session] = (kept.number, said)

    def _step(
        self, kept: Kept, request: Request, data: tuple[bytes, ...], sent: list[Envelope]
    ) -> None:
        party, session = self._party(kept), request.session
        if kept.snapshot:
            party.resume()
        if Begin in party.machine.accepts:
            self._memory.update(session, application=request.application)
            sent += party.handle(Begin(request.application))
        for each in data:
            sent += party.handle(Received(SERVER, each))
        if Contribute in party.machine.accepts:
            sent += party.handle(Contribute(self._vector(session)))
        self._memory.update(session, snapshot=party.machine.snapshot())
        if party.machine.finished:
            self._memory.spend(session)  # stored with this answer: it may be known in a sum now

    def _vector(self, session: bytes) -> Words:
        """What the app returns for the model that this session is bound to, encoded."""
        kept, kind = self._memory.find(session), self._call.message.metadata.message_type
        received = without_ours(self._call.message.content)
        if application_of(kind, received, self._protection.terms) != kept.application:
            raise Refusal(
                "the model or its configuration is not what this session was bound to; the "
                "same message must go to all clients"
            )
        self._memory.bind(session, model_of(kind, received))
        parameters = self._session_of(kept.offer).parameters
        layout = Layout(self._protection, kind, parameters.clients, received)
        if layout.length != parameters.length:
            raise Refusal(
                f"a model for vectors of {layout.length}, in a session of {parameters.length}"
            )
        report = encode_reply(self._call.app_reply(received), layout, self._source)
        self._schema = report.schema
        return report.words

    def _agree(self, offer: Offer) -> int:
        """Our number in a session that is what we are configured for. Raises Refusal."""
        ours = self._protection
        if offer.protocol != ours.protocol:
            raise Refusal(f"protocol {offer.protocol!r}, and this client has {ours.protocol!r}")
        if encode(self._session_of(offer).parameters) != offer.parameters:
            raise Refusal(
                f"parameters that are not those of this client's Protection for {offer.length} "
                "values; import the same Protection in both apps"
            )
        if ours.roster is not None:
            return ours.roster.number(self._signer().public)  # type: ignore[union-attr]
        if len(offer.nodes) < ours.min_clients:
            raise Refusal(
                f"a round of {len(offer.nodes)} clients, and this client wants "
                f"{ours.min_clients}; sample more nodes, or lower Protection.min_clients"
            )
        if sorted(set(offer.nodes)) != list(offer.nodes):
            raise Refusal("nodes that are not distinct and in order")
        if offer.nodes[offer.number - 1 : offer.number] != (self._call.context.node_id,):
            raise Refusal("this node is not where the server says it is in the cohort")
        return offer.number

    def _session_of(self, offer: Offer) -> Session:
        """The session that this offer makes of our own Protection."""
        return self._protection.session(offer.session, offer.nodes, offer.length)

    def _signer(self) -> Identity | None:
        identity = (
            self._identity(self._call.context) if callable(self._identity) else self._identity
        )
        if self._protection.roster is not None and identity is None:
            raise Refusal("this client has no identity; give secure_mod its identity=")
        return identity

    def _party(self, kept: Kept) -> Party:
        session = self._session_of(kept.offer)
        signer = self._signer() if self._protection.roster is not None else None
        machine = self._protection.machines.party(
            session, kept.number, self._source, HpkeSealer(), signer
        )
        return Party(machine, self._memory)


@dataclass(frozen=True)
class _Call:
    """What Flower hands to a mod."""

    message: Message
    context: Context
    app: App

    def app_reply(self, received: RecordDict) -> RecordDict:
        """What the app, and the mods behind ours, return for the server's own message."""
        original, self.message.content = self.message.content, received
        try:
            reply = self.app(self.message, self.context)
        finally:
            self.message.content = original
        if reply.has_error():
            raise _AppFailed(reply)
        return reply.content


def _told(error: SecaggError) -> str:
    """What the server may know of it: our own refusals in full, a machine's as code and stage."""
    if isinstance(error, Refusal | ParameterError):
        return str(error)
    stage = f" at stage {error.stage}" if isinstance(error, PeerError | ProtocolAborted) else ""
    return f"{error.code}{stage}; the client's own log says why"
