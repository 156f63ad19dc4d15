"""What `ckks` and `bfv` have in common: machines, messages, packing, bounds, and TenSEAL.

No protocol of its own. A key holder, party n + 1, has the only decryption key; the server adds
ciphertexts up and has the sum opened, once; clients seal their uploads for the server, so that
the key holder cannot decrypt what it may see on the wire. See docs/ckks-bfv.md.
"""
