"""CKKS with a key holder: the server adds ciphertexts, a party of its own opens the sum, once.

Cheon et al., "Homomorphic Encryption for Arithmetic of Approximate Numbers", ASIACRYPT 2017,
with TenSEAL. Exact all the same: rounding at the end undoes a noise that is proved small enough.
See docs/ckks-bfv.md.
"""

from protocols.base import Protocol, Session
from protocols.ckks.engine import engine_of
from protocols.ckks.parameters import CkksParameters, configure
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
    name="ckks",
    parameters=CkksParameters,
    configure=configure,
    client=client,
    server=server,
    helper=key_holder,
)

__all__ = ["PROTOCOL", "CkksParameters", "client", "configure", "engine_of", "key_holder", "server"]
