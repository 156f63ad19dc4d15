"""Key-additive encryption whose short key sum is opened by an inner protocol.

ACORN (Bell et al., USENIX Security 2023) and Willow (Bell-Clark et al., CRYPTO 2025): clients
encrypt under keys of their own, and the server learns the sum of the keys, and so of the
updates, and nothing else. Dropped clients cost the server nothing per value. The inner
protocol is an argument: `registry` names it.
"""

from protocols.lattice.machines import over
from protocols.lattice.parameters import LatticeParameters

PROTOCOL = over
"""A protocol once it is given the inner one: what the registry does."""

__all__ = ["PROTOCOL", "LatticeParameters", "over"]
