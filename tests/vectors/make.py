"""Makes the files of vectors from tests.reference: `python -m tests.vectors.make`.

What cannot be made again (signatures of ML-DSA-65, which are hedged) is taken from the file
where it still verifies. `prg.json` and `packing.json` name their own sources and stay.
"""

import json
from collections.abc import Callable

from tests.vectors import derivations, messages, numbers, primitives, refusals, rounds, sealing
from tests.vectors.files import FOLDER, Vectors, load

GENERATORS: dict[str, Callable[[], Vectors]] = {
    "context": primitives.context_vectors,
    "kdf": primitives.kdf_vectors,
    "merkle": primitives.merkle_vectors,
    "encoding": numbers.encoding_vectors,
    "shamir": numbers.shamir_vectors,
    "seal": sealing.seal_vectors,
    "graph": derivations.graph_vectors,
    "identity": derivations.identity_vectors,
    "masking": derivations.masking_vectors,
    "parameters": derivations.parameter_vectors,
    "messages": messages.message_vectors,
    "rounds": rounds.round_vectors,
    "refusals": lambda: refusals.refusal_vectors(load("rounds")),
}


def text(name: str) -> str:
    """The file's content, byte for byte."""
    return json.dumps(GENERATORS[name](), indent=1) + "\n"


if __name__ == "__main__":
    for each in GENERATORS:
        (FOLDER / f"{each}.json").write_text(text(each), "utf-8")
