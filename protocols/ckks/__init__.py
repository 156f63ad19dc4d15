"""CKKS with a key holder: the server adds ciphertexts, a party of its own opens the sum, once.

Cheon et al., "Homomorphic Encryption for Arithmetic of Approximate Numbers", ASIACRYPT 2017,
with TenSEAL. Exact all the same: rounding at the end undoes a noise that is proved small enough.
See docs/ckks-bfv.md.
"""

from protocols.ckks.engine import engine_of
from protocols.ckks.parameters import CkksParameters, configure
from protocols.he.protocol import with_key_holder

PROTOCOL = with_key_holder("ckks", CkksParameters, configure, engine_of)

__all__ = ["PROTOCOL", "CkksParameters", "configure", "engine_of"]
