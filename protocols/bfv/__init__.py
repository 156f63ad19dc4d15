"""BFV with a key holder: the server adds ciphertexts, a party of its own opens the sum, once.

Fan, Vercauteren, "Somewhat Practical Fully Homomorphic Encryption", ePrint 2012/144, with
TenSEAL. Exact. See docs/ckks-bfv.md.
"""

from protocols.base import Protocol, Session
from protocols.bfv.engine import engine_of
from protocols.bfv.parameters import BfvParameters, configure
from protocols.he.client import Client
from protocols.he.holder import KeyHolder
from protocols.he.server import Server
from secagg.rng import RandomSource
from secagg.seal import Sealer


def client(session: Session, me: int, _source: RandomSource, sealer: Sealer) -> Client:
    """Client `me`; its randomness is TenSEAL's and the sealer's."""
    return Client(session, me, sealer, engine_of(session.parameters))


def server(session: Session, source: RandomSource) -> Server:
    """The server."""
    return Server(session, source, engine_of(session.parameters))


def key_holder(session: Session, me: int, _source: RandomSource, _sealer: Sealer) -> KeyHolder:
    """The key holder, with a new key pair."""
    return KeyHolder(session, me, engine_of(session.parameters))


PROTOCOL = Protocol(
    name="bfv",
    parameters=BfvParameters,
    configure=configure,
    client=client,
    server=server,
    helper=key_holder,
)

__all__ = ["PROTOCOL", "BfvParameters", "client", "configure", "engine_of", "key_holder", "server"]
