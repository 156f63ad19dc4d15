"""The client's side: one mod, first in `ClientApp(mods=[…])`.

It answers the server's steps with what its machine says, and calls the app only when the
machine asks for a vector. An unprotected training or evaluation message is refused.

A SuperNode runs the app that its SuperLink gives it, this mod included. So a server cannot turn
the protection off only where nodes run apps that somebody else has vetted: docs/flower.md.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from logging import WARNING

from flwr.app import Context, Error, Message, MessageType, RecordDict
from flwr.common import log

from fl.flower.digests import application_of, attempted, model_of
from fl.flower.protection import Protection
from fl.flower.roles import CLIENT, HELPER, Role, configured_role, is_helper
from fl.flower.state import Memory
from fl.flower.store import Where, configured_store
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
    shared_out,
    unpack,
    without_ours,
)
from fl.kernel_cache import use_private_cache
from protocols.base import SERVER, Begin, Contribute, Envelope, Join, Local, Received, Session
from protocols.journal import Party
from secagg import kernels
from secagg.codec import encode
from secagg.errors import ParameterError, PeerError, ProtocolAborted, SecaggError
from secagg.prg import Words
from secagg.rng import SystemSource
from secagg.seal import SystemSealer
from secagg.signing import Identity

REFUSED = 6
"""Flower's code for a mod whose conditions are not met."""

App = Callable[[Message, Context], Message]
Mod = Callable[[Message, Context, App], Message]
Signer = Identity | Callable[[Context], Identity] | None


@cache
def _private_cache() -> None:
    """Each message may have a process of its own: no kernel is to be compiled anew in each, or to
    be loaded for little.
    """
    if "secagg.kernels._jit" not in sys.modules:  # else somebody chose already
        use_private_cache()
        kernels.postpone()


def secure_mod(
    protection: Protection,
    *,
    identity: Signer = None,
    role: Role = configured_role,
    store: Where = configured_store,
) -> Mod:
    """The mod. identity: this member's key in active mode, or where to get it from; role: `client`
    or `helper`, and store: this node's own file or folder, by default both what the node's
    configuration says (fl.flower.store says what a node without a store cannot know).

    Put it first, so that clipping and noise of other mods act before the protection.
    """

    own = _Own(protection, identity, role, store)

    def mod(message: Message, context: Context, app: App) -> Message:
        if category(message.metadata.message_type) == MessageType.QUERY:
            return app(message, context)
        memory = Memory(context)
        turn = _Turn(own, memory, _Call(message, context, app))
        try:
            content = turn.content()
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


@dataclass(frozen=True)
class _Own:
    """What the node has from its own app and configuration."""

    protection: Protection
    identity: Signer
    role: Role
    store: Where


class _Turn:
    """One message's worth of work."""

    def __init__(self, own: _Own, memory: Memory, call: "_Call") -> None:
        self._protection, self._identity, self._role = own.protection, own.identity, own.role
        self._store, self._memory, self._call = own.store, memory, call
        self._source = SystemSource()
        self._schema: Schema | None = None
        self._sent: dict[bytes, tuple[int, list[bytes]]] = {}

    def content(self) -> RecordDict:
        """The reply's records. Raises SecaggError."""
        helper = is_helper(self._role, self._call.context)
        if not is_ours(self._call.message.content):
            raise Refusal(
                f"this {HELPER if helper else CLIENT} takes part in secure aggregation only; start "
                "the strategy with grid=fl.flower.secure(strategy, grid, PROTECTION)"
            )
        request, data = unpack(self._call.message.content, Request)
        if request.session:
            _private_cache()
            store = self._store
            self._memory.open(store(self._call.context) if callable(store) else store)
            self._memory.keep(request.open, request.failed)
            self._serve(request, data)
        parcels = tuple(Parcel(s, n, len(sent)) for s, (n, sent) in self._sent.items())
        flat = (data for _, sent in self._sent.values() for data in sent)
        return pack(Reply(VERSION, helper, parcels, self._schema), flat)

    def _serve(self, request: Request, data: tuple[bytes, ...]) -> None:
        """Every session that is spoken of, the current one first. What fails in a later one is no
        reason to lose the answer in this one.
        """
        offers = {offer.session: offer for offer in request.offers}
        parts = shared_out(request.steps, data)
        steps = {step.session: part for step, part in zip(request.steps, parts, strict=True)}
        for session in sorted(offers.keys() | steps, key=lambda each: each != request.session):
            try:
                if session in offers:
                    self._join(offers[session])
                if session in steps:
                    self._advance(session, steps[session], request)
            except SecaggError as error:
                if session == request.session:
                    raise
                self._sent.pop(session, None)
                log(WARNING, "secagg: not taking part in a later round: %s", error)

    def _join(self, offer: Offer) -> None:
        """Take part in a session that we agree with, as the number that is ours."""
        if kept := self._memory.joined(offer):
            self._sent[offer.session] = (kept.number, list(kept.joined or ()))
            return
        number = self._agree(offer)
        self._memory.add(offer, number)
        party = self._party(offer.session)
        sent = [envelope.data for envelope in party.handle(Join())]
        self._sent[offer.session] = (number, sent)
        snapshot = party.machine.snapshot()
        self._memory.update(offer.session, snapshot=snapshot, joined=tuple(sent))

    def _advance(self, session: bytes, data: Sequence[bytes], request: Request) -> None:
        """A step of a session that was joined. Who fails in one is out of its round."""
        number = self._memory.find(session).number
        _, sent = self._sent.setdefault(session, (number, []))
        try:
            for envelope in self._step(session, data, request):
                sent.append(envelope.data)
        except BaseException:
            self._memory.forget(session)
            raise

    def _step(self, session: bytes, data: Sequence[bytes], request: Request) -> Iterator[Envelope]:
        party = self._party(session)
        model = request.attempt > 0 and session == request.session
        begun = False
        for each in (None, *data):
            if each is not None:
                yield from self._handle(party, Received(SERVER, each))
            if model and Begin in party.machine.accepts:
                yield from self._handle(party, Begin(self._begun(session, request)))
                begun = True
        if Contribute in party.machine.accepts:
            if not begun:
                raise Refusal("an update is asked for without the model that it is of")
            vector = Contribute(self._vector(session))
            yield from self._handle(party, vector, request.attempt)
        self._memory.update(session, snapshot=party.machine.snapshot(), joined=None)

    def _handle(
        self, party: Party, event: Received | Local, attempt: int = 0
    ) -> tuple[Envelope, ...]:
        """What the machine says, recorded together with what it spends: with the last word our
        update may be known in a sum. attempt: the one that an upload is for.
        """
        session = party.machine.session.session_id
        with self._memory.together():
            if attempt:
                self._memory.upload(session, attempt)
            sent = party.handle(event)
            if party.machine.finished:
                self._memory.spend(session)
        return sent

    def _begun(self, session: bytes, request: Request) -> bytes:
        """What this session trains, by our own hash of what we received."""
        kind, received = self._call.kind, self._call.received
        terms, attempt = self._protection.terms, request.attempt
        application = attempted(application_of(kind, received, terms), attempt)
        if application != request.application:
            raise Refusal(
                "the model or its configuration is not what this session was bound to; send the "
                "same message to all clients, and import the same Protection in both apps"
            )
        self._memory.begin(session, model_of(kind, received), attempt)
        return application

    def _vector(self, session: bytes) -> Words:
        """What the app returns for the model that this session is bound to, encoded."""
        received = self._call.received
        parameters = self._session_of(self._memory.find(session).offer).parameters
        layout = Layout(self._protection, self._call.kind, parameters.clients, received)
        if layout.length != parameters.length:
            raise Refusal(
                f"a model for vectors of {layout.length}, in a session of {parameters.length}"
            )
        report = encode_reply(self._call.app_reply(), layout, self._source)
        self._schema = report.schema
        return report.words

    def _agree(self, offer: Offer) -> int:
        """Our number in a session that is what we are configured for. Raises Refusal."""
        ours = self._protection
        if offer.protocol != ours.protocol:
            raise Refusal(
                f"protocol {offer.protocol!r}, and this client has {ours.protocol!r}; import the "
                "same Protection in both apps"
            )
        if encode(self._session_of(offer).parameters) != offer.parameters:
            raise Refusal(
                f"parameters that are not those of this client's Protection for {offer.length} "
                "values; import the same Protection in both apps"
            )
        if ours.roster is not None:
            ours.roster.check_expiry(date.today().isoformat())
            return ours.roster.number(self._signer().public)  # type: ignore[union-attr]
        if len(offer.nodes) < ours.min_clients:
            raise Refusal(
                f"a round of {len(offer.nodes)} clients, and this client wants "
                f"{ours.min_clients}; sample more nodes, or lower Protection.min_clients"
            )
        self._check_place(offer)
        return offer.number

    def _check_place(self, offer: Offer) -> None:
        """Who takes part, and as what. Raises Refusal."""
        everyone = (*offer.nodes, *offer.helpers)
        for nodes in (offer.nodes, offer.helpers):
            if sorted(set(nodes)) != list(nodes) or len(set(everyone)) != len(everyone):
                raise Refusal("nodes that are not distinct and in order")
        if len(offer.helpers) != self._session_of(offer).parameters.helpers:
            raise Refusal(f"a round with {len(offer.helpers)} helpers, which is not our number")
        if everyone[offer.number - 1 : offer.number] != (self._call.context.node_id,):
            raise Refusal("this node is not where the server says it is in the cohort")
        if (offer.number > len(offer.nodes)) != is_helper(self._role, self._call.context):
            raise Refusal(
                f"this node is configured as the other of {CLIENT!r} and {HELPER!r}: name the "
                "helpers' nodes, and no others, in secure(…, helpers=…)"
            )

    def _session_of(self, offer: Offer) -> Session:
        """The session that this offer makes of our own Protection."""
        return self._protection.session(offer.session, offer.nodes, offer.length, offer.helpers)

    def _signer(self) -> Identity | None:
        identity = (
            self._identity(self._call.context) if callable(self._identity) else self._identity
        )
        if self._protection.roster is not None and identity is None:
            raise Refusal("this client has no identity; give secure_mod its identity=")
        return identity

    def _party(self, session: bytes) -> Party:
        kept = self._memory.find(session)
        signer = self._signer() if self._protection.roster is not None else None
        machine = self._protection.machines.party(
            self._session_of(kept.offer), kept.number, self._source, SystemSealer(), signer
        )
        if kept.snapshot:
            machine.restore(kept.snapshot)
        return Party(machine, self._memory)


@dataclass(frozen=True)
class _Call:
    """What Flower hands to a mod."""

    message: Message
    context: Context
    app: App

    @property
    def kind(self) -> str:
        """The message's type."""
        return str(self.message.metadata.message_type)

    @property
    def received(self) -> RecordDict:
        """The server's own message to the app."""
        return without_ours(self.message.content)

    def app_reply(self) -> RecordDict:
        """What the app, and the mods behind ours, return for it."""
        original, self.message.content = self.message.content, self.received
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
