"""`vulnerable_reference`: pairwise masking with every mistake that the suite looks for.

Never use it. Each mistake is a switch of `VulnerableParameters`; with all of them off it is a
plain, slow SecAgg against a semi-honest server, and the attacks fail on it.
"""

from benchmarks.security.vulnerable.client import Client
from benchmarks.security.vulnerable.parameters import MISTAKES, VulnerableParameters, configure
from benchmarks.security.vulnerable.server import Server
from protocols.base import Protocol

PROTOCOL = Protocol(
    name="vulnerable_reference",
    parameters=VulnerableParameters,
    configure=configure,
    client=Client,
    server=Server,
)

__all__ = ["MISTAKES", "PROTOCOL", "Client", "Server", "VulnerableParameters", "configure"]
