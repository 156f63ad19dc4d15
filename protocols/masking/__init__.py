"""Pairwise masking: the server learns the sum over the clients that uploaded, and who they are.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS
2017 (complete graph: SecAgg); Bell et al., "Secure Single-Server Aggregation with
(Poly)Logarithmic Overhead", CCS 2020 (k-regular graph: SecAgg+). Semi-honest server.
"""

from protocols.base import Protocol
from protocols.masking.client import Client
from protocols.masking.parameters import MaskingParameters, configure, sparse
from protocols.masking.server import Server

PROTOCOL = Protocol(
    name="masking",
    parameters=MaskingParameters,
    configure=configure,
    client=Client,
    server=Server,
)

__all__ = ["PROTOCOL", "Client", "MaskingParameters", "Server", "configure", "sparse"]
