"""BFV with a key holder: the server adds ciphertexts, a party of its own opens the sum, once.

Fan, Vercauteren, "Somewhat Practical Fully Homomorphic Encryption", ePrint 2012/144, with
TenSEAL. Exact. See docs/ckks-bfv.md.
"""

from protocols.bfv.engine import engine_of
from protocols.bfv.parameters import BfvParameters, configure
from protocols.he.protocol import with_key_holder

PROTOCOL = with_key_holder("bfv", BfvParameters, configure, engine_of)

__all__ = ["PROTOCOL", "BfvParameters", "configure", "engine_of"]
