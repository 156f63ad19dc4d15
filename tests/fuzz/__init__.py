"""Fuzzing: seeded mutation of everything that a peer, or a file, can bring.

A target is a function of a random generator. It mutates something honest, hands it over, and
checks what came out; a child of `SecaggError` is an answer, any other exception is a finding.
Run i of a target always does the same, so a finding is its name and its number:

    python -m tests.fuzz                  50,000 runs of every target, 10,000 of dear ones
    python -m tests.fuzz --only NAME --runs 1 --first 1234

Nothing guides the mutation but structure: a message is taken apart as MessagePack and changed
at a random place, or changed as bytes.
"""
