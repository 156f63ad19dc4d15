"""A second implementation of `masking`, in plain Python, written from docs/spec.md.

Slow on purpose, and independent: it imports nothing of `secagg` or `protocols`, no numpy and
no numba, only `cryptography` for AES, X25519, ML-KEM and signatures. A test holds it to that.
"""
