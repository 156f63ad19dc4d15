"""Primitives of secure aggregation. Knows nothing of protocols, training or networks."""
