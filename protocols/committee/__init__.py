"""One message a client, opened by t of n decryptors.

The ciphertext of `lattice`, whose short key each client shares among a committee: any t of its
members open the sum, once, and fewer learn nothing. After Willow (Bell-Clark et al.) and OPA
(Karthikeyan and Polychroniadou), both CRYPTO 2025, with plain Shamir sharing.
"""

from protocols.base import Protocol
from protocols.committee.client import Client
from protocols.committee.decryptor import Decryptor
from protocols.committee.parameters import CommitteeParameters, configure
from protocols.committee.server import Server

PROTOCOL = Protocol(
    name="committee",
    parameters=CommitteeParameters,
    configure=configure,
    client=Client,
    server=Server,
    helper=Decryptor,
)

__all__ = ["PROTOCOL", "Client", "CommitteeParameters", "Decryptor", "Server", "configure"]
