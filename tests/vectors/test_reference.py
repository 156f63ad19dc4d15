"""The reference passes every vector of every file: known answers, and what must be refused.

That it *makes* most files (test_files.py) does not show this: what must be refused, and how,
stands in the generators.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.vectors.checks import CHECKS
from tests.vectors.files import FOLDER, Vectors, load
from tests.vectors.test_files import is_negative, vectors

Section = tuple[str, str]
ANSWERS: dict[Section, tuple[str, ...]] = {  # of negative sections: error and message
    ("kdf", "rfc5869"): ("okm",),
    ("kdf", "label"): ("label", "digest"),
    ("kdf", "derive"): ("out",),
    ("context", "positive"): ("digest",),
    ("merkle", "root"): ("root",),
    ("merkle", "proof"): ("root", "leaf"),
    ("prg", "streams"): ("stream",),
    ("prg", "sums"): ("after",),
    ("packing", "packed"): ("packed",),
    ("shamir", "deal"): ("shares",),
    ("encoding", "encode"): ("encoded", "modulus_bits"),
    ("encoding", "decode"): ("mean",),
    ("seal", "rfc7748"): ("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",),
    ("seal", "rfc9180"): ("enc", "shared", "key", "base_nonce"),
    ("seal", "xwing"): ("shared",),
    ("seal", "key_pair"): ("public",),
    ("seal", "open"): ("public", "plaintext"),
    ("seal", "between"): ("sealed", "plaintext"),
    ("identity", "roster"): ("digest",),
    ("identity", "signature"): ("signature",),
    ("masking", "derived"): ("answer",),
    ("masking", "bitmap"): ("bitmap", "members"),
    ("graph", "graph"): ("neighbours", "ring"),
    ("parameters", "good"): ("encoded",),
    ("messages", "message"): ("encoded", "context"),
    ("rounds", "rounds"): ("transcript", "result"),
    ("refusals", "refusals"): ("error", "reason", "stage", "peer"),
}
UNNAMED: dict[Section, Vectors] = {  # files that name no error: what makes a vector a good one
    ("merkle", "negative"): load("merkle")["proof"][0],
    ("prg", "refused"): {"key": "00" * 16, "iv": "00" * 12, "start": 0},
    ("packing", "refused"): {"packed": "00" * 8, "bits": 20, "length": 3},
    ("packing", "out_of_range"): {"bits": 64},
}


def cases() -> Iterator[tuple[str, str, Vectors]]:
    """(file, section, vector) of all files. A section that is one object is one vector."""
    for path in sorted(FOLDER.glob("*.json")):
        for section, content in load(path.stem).items():
            if isinstance(content, list):
                yield from ((path.stem, section, case) for case in content)
            elif isinstance(content, dict):
                yield path.stem, section, content


CASES = list(cases())
FIRST = {(name, section): case for name, section, case in reversed(CASES)}


@pytest.mark.parametrize(
    ("name", "section", "case"), [pytest.param(*c, id=f"{c[0]} {c[1]}") for c in CASES]
)
def test_the_reference_passes(name: str, section: str, case: Vectors) -> None:
    CHECKS[name, section](case)


def test_no_vector_is_left_out() -> None:
    """As many as test_files.py counts, and the three of seal.json that are published elsewhere."""
    counted = Counter((name, section) for name, section, _ in vectors())
    single = {("seal", name): 1 for name in ("rfc7748", "rfc9180", "xwing")}
    assert Counter((name, section) for name, section, _ in CASES) == counted + Counter(single)
    assert set(FIRST) == set(CHECKS)
    negative = [case for _, section, case in CASES if is_negative(section, case)]
    assert len(CASES) >= 1000
    assert len(negative) >= 700


# --- and the checks can fail -------------------------------------------------------------


def spoilt(value: Any) -> Any:
    """Another value of the same shape."""
    if isinstance(value, str):
        return value[:-1] + ("1" if value[-1:] == "0" else "0")
    if isinstance(value, list):
        return [spoilt(value[0]), *value[1:]] if value else [0]
    if isinstance(value, dict):
        return {name: spoilt(each) for name, each in value.items()}
    return value + 1


def fails(at: Section, case: Vectors) -> bool:
    """A spoilt answer may not even be readable; a key that is missing would be our mistake."""
    try:
        CHECKS[at](case)
    except KeyError:
        return False
    except (Exception, pytest.fail.Exception):
        return True
    return False


@pytest.mark.parametrize("at", FIRST, ids=" ".join)
def test_a_changed_answer_is_noticed(at: Section) -> None:
    """In the first vector of the section, and the first of each thing that it refuses."""
    kinds = {c.get("refused"): c for *where, c in reversed(CASES) if tuple(where) == at}
    for case in kinds.values():
        if at in UNNAMED:
            assert fails(at, case | UNNAMED[at])
        else:
            for answer in ANSWERS.get(at, ("error", "message")):
                assert fails(at, case | {answer: spoilt(case[answer])}), answer
