"""Pairwise masking: the server learns the sum over the clients that uploaded, and who they are.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS
2017 (complete graph: SecAgg); Bell et al., "Secure Single-Server Aggregation with
(Poly)Logarithmic Overhead", CCS 2020 (k-regular graph: SecAgg+). Against a semi-honest server,
or on the complete graph against one that lies.

The server's half is loaded when it is used: a client's process may live for one message.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from protocols.base import Machine, Protocol, Session
from protocols.masking.active_client import ActiveClient
from protocols.masking.client import Client
from protocols.masking.parameters import MaskingParameters, configure, sparse
from secagg.errors import LocalError
from secagg.rng import RandomSource
from secagg.seal import Sealer
from secagg.signing import Identity

if TYPE_CHECKING:
    from protocols.masking.active_server import ActiveServer
    from protocols.masking.server import Server

_HOMES = {"ActiveServer": "active_server", "Server": "server"}


def new_client(
    session: Session, me: int, source: RandomSource, sealer: Sealer, signer: Identity | None = None
) -> Machine:
    """The client for the session's adversary. LocalError: active mode without an identity."""
    if not _active(session):
        return Client(session, me, source, sealer)
    if signer is None:
        raise LocalError(f"client {me} needs its identity: the session is in active mode")
    return ActiveClient(session, me, source, sealer, signer)


def new_server(session: Session, source: RandomSource) -> Machine:
    """The server for the session's adversary."""
    name = "ActiveServer" if _active(session) else "Server"
    machine: Machine = __getattr__(name)(session, source)
    return machine


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def _active(session: Session) -> bool:
    return isinstance(session.parameters, MaskingParameters) and session.parameters.active


PROTOCOL = Protocol(
    name="masking",
    parameters=MaskingParameters,
    configure=configure,
    client=new_client,
    server=new_server,
)

__all__ = [
    "PROTOCOL",
    "ActiveClient",
    "ActiveServer",
    "Client",
    "MaskingParameters",
    "Server",
    "configure",
    "new_client",
    "new_server",
    "sparse",
]
