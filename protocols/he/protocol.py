"""A scheme's parameters and engine, as a protocol with a key holder."""

from collections.abc import Callable
from dataclasses import dataclass

from protocols.base import Parameters, Protocol, Session
from protocols.he.client import Client
from protocols.he.engine import Engine
from protocols.he.holder import KeyHolder
from protocols.he.server import Server
from secagg.rng import RandomSource
from secagg.seal import Sealer


@dataclass(frozen=True)
class _Parties:
    """Machines of one scheme: methods and not closures, which no other process could be sent.

    Their randomness is their sources', the sealer's and, for keys, TenSEAL's.
    """

    engine_of: Callable[[Parameters], Engine]

    def client(self, session: Session, me: int, source: RandomSource, sealer: Sealer) -> Client:
        return Client(session, me, source, sealer, self.engine_of(session.parameters))

    def server(self, session: Session, source: RandomSource) -> Server:
        return Server(session, source, self.engine_of(session.parameters))

    def holder(
        self, session: Session, me: int, _source: RandomSource, _sealer: Sealer
    ) -> KeyHolder:
        return KeyHolder(session, me, self.engine_of(session.parameters))


def with_key_holder(
    name: str,
    parameters: type[Parameters],
    configure: Callable[..., Parameters],
    engine_of: Callable[[Parameters], Engine],
) -> Protocol:
    """The protocol `name`."""
    parties = _Parties(engine_of)
    return Protocol(name, parameters, configure, parties.client, parties.server, parties.holder)
