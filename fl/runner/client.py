"""What runs in a client's process: it alone has its records, its keys and its journal."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from fl.data import find, load_silo, load_test
from fl.journal import SqliteJournal
from fl.models import build, load_vector, to_vector
from fl.round import RoundConfig, model_bytes, model_vector, round_digest, training_seed
from fl.runner.frames import (
    AloneScore,
    Deliver,
    Evidence,
    Failed,
    Hello,
    Observed,
    PlainModel,
    PlainUpdate,
    Ready,
    Refused,
    Resent,
    Resumed,
    Sent,
    Start,
    Stop,
    ToClient,
    TrainAlone,
    Training,
    receive,
    send,
)
from fl.runner.membership import Membership
from fl.runner.observer import EVIDENCE_ROUND, connect
from fl.settings import Settings
from fl.training import configure, evaluate, train
from fl.updates import encode_update
from protocols.base import SERVER, Begin, Contribute, Envelope, Join, Received, Session
from protocols.journal import Party
from secagg.errors import LocalError, PeerError, SecaggError
from secagg.identity import Roster
from secagg.kdf import digest
from secagg.prg import Words
from secagg.rng import SystemSource
from secagg.seal import SystemSealer
from secagg.signing import Identity

F = TypeVar("F")


@dataclass(frozen=True)
class ClientConfig:
    """A client's own configuration: it takes none of this from the server.

    members: where its identity and the roster are, in a federation whose members sign;
    observer: the socket of the demo's auditor, None in a deployment.
    """

    me: int
    settings: Settings
    journal: Path
    members: Membership | None = None
    observer: Path | None = None


def main(config: ClientConfig, server: Connection) -> None:
    """Serve rounds until told to stop or the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    try:
        _Client(config, server).serve()
    except SecaggError as error:
        send(server, Failed(str(error)))
    except (EOFError, OSError):
        return  # the server is gone, and with it the reason to exist


class _Client:
    def __init__(self, config: ClientConfig, server: Connection) -> None:
        settings = config.settings
        self._config = config
        self._settings = settings
        self._server = server
        clients = len(settings.roster)
        self._silo = load_silo(settings.data, config.me - 1, seed=settings.seed, clients=clients)
        self._signer: Identity | None = None
        self._members: Roster | None = None
        if config.members:
            self._signer, self._members = config.members.load()
        roster = self._members.digest() if self._members else settings.roster_digest
        key = self._signer.derived("journal key") if self._signer else b""
        self._journal = SqliteJournal(config.journal, config.me, roster, key=key)
        self._model = build(find(settings.data).widths, settings.seed)
        self._observer = connect(config.observer) if config.observer else None
        if self._observer:
            send(self._observer, Hello(config.me, os.getpid()))
        self._party: Party | None = None
        self._start: Start | None = None
        self._model_digest = b""
        self._application = b""
        configure()

    def serve(self) -> None:
        send(self._server, Ready())
        while True:
            frame = receive(self._server, ToClient)
            match frame:
                case Start():
                    self._guarded(self._begin, frame)
                case Deliver():
                    self._guarded(self._deliver, frame)
                case TrainAlone():
                    self._train_alone(frame)
                case Stop():
                    return

    def _guarded(self, step: Callable[[F], None], frame: F) -> None:
        """A refusal goes back as a code, and the client sits out the rest of the round: unless a
        peer alone was wrong, what the machine and the journal hold may differ.
        """
        try:
            step(frame)
        except SecaggError as error:
            stage = getattr(error, "stage", "")
            peer = error.peer if isinstance(error, PeerError) else SERVER
            send(self._server, Refused(error.code, stage, peer))
            if not isinstance(error, PeerError):
                self._party = None

    def _begin(self, start: Start) -> None:
        """Bind to our own hash of what was received, and take part."""
        self._party = None
        self._model_digest = digest("model", start.model)
        self._check_start(start)
        machine = self._settings.machines.party(
            self._admitted(start), self._config.me, SystemSource(), SystemSealer(), self._signer
        )
        party = Party(machine, self._journal)
        again = self._journal.latest(start.session_id, self._config.me) is not None
        with self._journal.together():
            self._journal.close_others(start.session_id)
            sent = () if again else party.handle(Join())
        self._party, self._start = party, start
        self._application = round_digest(self._model, start.model, start.config)
        self._send(sent)
        if again:
            self._resume(party)
        self._contribute_if_asked(start)
        send(self._server, Resumed())

    def _admitted(self, start: Start) -> Session:
        """The session, if it is one that this client takes part in. Or LocalError."""
        length = to_vector(self._model).size
        session = self._settings.session(start.session_id, length, self._members)
        self._settings.policy.admit(session)
        return session

    def _check_start(self, start: Start) -> None:
        """One session is of one model, and an update is in one sum. Raises LocalError."""
        if start.config.encoding != self._settings.encoding:
            raise LocalError("the server's round has another encoding than this client's settings")
        if self._journal.bound_to(start.session_id) not in (None, self._model_digest):
            raise LocalError("we uploaded an update of another model in this session")
        if self._journal.is_spent(self._model_digest, start.session_id):
            raise LocalError("our update of this model is spent; wait for another model")

    def _resume(self, party: Party) -> None:
        """After a restart in the middle of a round: say again what is stored, and nothing else."""
        for envelope in party.resume():
            send(self._server, Resent(envelope.stage, envelope.data))

    def _deliver(self, frame: Deliver) -> None:
        if self._party is None or self._start is None:
            return  # a message of a round that we do not take part in
        with self._journal.together():
            sent = self._say(self._party, Received(SERVER, frame.data))
        self._send(sent)
        self._contribute_if_asked(self._start)

    def _say(self, party: Party, event: Received | Contribute) -> tuple[Envelope, ...]:
        """Hand an event over. With our last word, and in one transaction with it, the model is
        spent: our update may be known in a sum from here on, and the same update in another sum
        would be known by the difference.
        """
        sent = party.handle(event)
        if party.machine.finished and self._settings.hides:
            self._journal.spend(self._model_digest, party.machine.session.session_id)
        return sent

    def _contribute_if_asked(self, start: Start) -> None:
        assert self._party is not None  # noqa: S101 - of this very session
        if Begin in self._party.machine.accepts:
            self._send(self._party.handle(Begin(self._application)))
        if Contribute not in self._party.machine.accepts:
            return
        if self._journal.is_spent(self._application, start.session_id):
            raise LocalError("our update of this model and round went into another session")
        send(self._server, Training())
        update, weight = self._trained(start.model, start.config), len(self._silo.y)
        values, clipped = encode_update(update, weight, start.config.encoding, SystemSource())
        self._show_observer(start, update, values, clipped)
        with self._journal.together():
            self._journal.spend(self._application, start.session_id)
            self._journal.bind(start.session_id, self._model_digest)
            sent = self._say(self._party, Contribute(values))
        self._send(sent)

    def _trained(self, model: bytes, config: RoundConfig) -> NDArray[np.float32]:
        """Our update of a model."""
        load_vector(self._model, model_vector(model))
        return train(
            self._model,
            self._silo.x,
            self._silo.y,
            epochs=config.epochs,
            lr=config.lr,
            batch_size=config.batch_size,
            seed=training_seed(config, self._config.me),
        )

    def _show_observer(
        self, start: Start, update: NDArray[np.float32], values: Words, clipped: int
    ) -> None:
        """Tell the demo's auditor what goes in, and train its model in clear as well."""
        if self._observer is None:
            return
        config, weight = start.config, len(self._silo.y)
        raw = model_bytes(update)
        send(self._observer, Observed(config.round, raw, values.tobytes(), weight, clipped))
        if config.round == EVIDENCE_ROUND:
            send(self._observer, Evidence(self._silo.x.astype("<f4").tobytes()))
        plain: PlainModel = receive(self._observer, PlainModel)
        while plain.round < config.round:  # from rounds that we were killed in
            plain = receive(self._observer, PlainModel)
        plain_update = model_bytes(self._trained(plain.model, config))
        send(self._observer, PlainUpdate(config.round, plain_update))

    def _train_alone(self, frame: TrainAlone) -> None:
        """As many epochs as the federation had, on our own records only."""
        vector = to_vector(build(find(self._settings.data).widths, self._settings.seed))
        for number in range(1, frame.rounds + 1):
            self._trained(model_bytes(vector), replace(frame.config, round=number))
            vector = to_vector(self._model)
        clients = len(self._settings.roster)
        score = evaluate(self._model, *load_test(self._settings.data, clients=clients))
        send(self._server, AloneScore(score.accuracy, score.auc))

    def _send(self, envelopes: tuple[Envelope, ...]) -> None:
        for envelope in envelopes:
            send(self._server, Sent(envelope.stage, envelope.data))
