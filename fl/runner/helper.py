"""What runs in a helper's process: a key holder or a decryptor, with its own keys and journal.

It has no records and never sees the model: what it takes part in is the session.
"""

import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from fl.data import find
from fl.journal import SqliteJournal
from fl.models import build, to_vector
from fl.runner.frames import (
    Deliver,
    Failed,
    Ready,
    Refused,
    Sent,
    Stop,
    Summon,
    ToHelper,
    receive,
    send,
)
from fl.settings import Settings
from fl.training import configure
from protocols.base import SERVER, Envelope, Join, Machine, Received, Session
from protocols.journal import Party
from secagg.errors import PeerError, ProtocolAborted, SecaggError
from secagg.rng import SystemSource
from secagg.seal import SystemSealer


@dataclass(frozen=True)
class HelperConfig:
    """A helper's own configuration; it takes none of this from the server."""

    me: int
    settings: Settings
    journal: Path


def main(config: HelperConfig, server: Connection) -> None:
    """Serve rounds until told to stop or the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    configure(threads=1)
    try:
        _Helper(config, server).serve()
    except SecaggError as error:
        send(server, Failed(str(error)))
    except (EOFError, OSError):
        return  # the server is gone, and with it the reason to exist


class _Helper:
    def __init__(self, config: HelperConfig, server: Connection) -> None:
        settings = config.settings
        self._me = config.me
        self._settings = settings
        self._server = server
        self._journal = SqliteJournal(config.journal, config.me, settings.roster_digest)
        model = build(find(settings.data).widths, settings.seed)
        self._parameters = settings.parameters(to_vector(model).size)
        self._party: Party | None = None

    def serve(self) -> None:
        send(self._server, Ready())
        while True:
            frame = receive(self._server, ToHelper)
            if isinstance(frame, Stop):
                return
            try:
                self._obey(frame)
            except SecaggError as error:
                self._refuse(error)

    def _obey(self, frame: Summon | Deliver) -> None:
        match frame:
            case Summon(session_id=session_id):
                self._party = None
                self._journal.close_others(session_id)
                self._party = Party(self._machine(session_id), self._journal)
                self._send(self._party.handle(Join()))
            case Deliver(data=data):
                if self._party is not None:  # or of a round that we do not take part in
                    self._send(self._party.handle(Received(SERVER, data)))

    def _machine(self, session_id: bytes) -> Machine:
        session = Session(
            self._settings.protocol, self._parameters, session_id, self._settings.roster_digest
        )
        return self._settings.machines.party(session, self._me, SystemSource(), SystemSealer())

    def _refuse(self, error: SecaggError) -> None:
        """A code goes back, and the helper sits out the rest of the round."""
        peer = error.peer if isinstance(error, PeerError) else SERVER
        send(self._server, Refused(error.code, getattr(error, "stage", ""), peer))
        if isinstance(error, ProtocolAborted):
            self._party = None

    def _send(self, envelopes: tuple[Envelope, ...]) -> None:
        for envelope in envelopes:
            send(self._server, Sent(envelope.stage, envelope.data))
