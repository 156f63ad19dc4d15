"""No protection: the baseline that every other protocol is compared with.

The server is trusted with every update. Same machines, same ring, one message a client.
"""

from protocols.base import Parameters, Protocol
from protocols.plain.parties import Client, Server, configure

PROTOCOL = Protocol(
    name="plain",
    parameters=Parameters,
    configure=configure,
    client=Client,
    server=Server,
)

__all__ = ["PROTOCOL", "Client", "Server", "configure"]
