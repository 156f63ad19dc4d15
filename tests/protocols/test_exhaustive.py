"""Three clients and a server that asks for everything: no client ever gives both shares of
anyone, no two sets of survivors are ever answered, and no sum over fewer than all honest
survivors can be computed from what was sent.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations

import pytest

from protocols.masking.active_client import ActiveClient
from protocols.masking.bitmap import members_of
from protocols.masking.client_state import Confirmed, Done, Unconfirmed
from protocols.masking.parameters import MaskingParameters
from tests.protocols.active_support import active
from tests.protocols.exhaustive import Joint, Search


def small(n: int, corrupt: int, threshold: int) -> MaskingParameters:
    return active(n, n, 8, corrupt=corrupt, threshold=threshold)


A, B = b"a" * 32, b"b" * 32
"""Two models."""


def either_of(n: int) -> dict[int, tuple[bytes, ...]]:
    """Each of n may be shown either model."""
    return dict.fromkeys(range(1, n + 1), (A, B))


def honest_of(n: int, corrupt: int) -> tuple[int, ...]:
    """All but the last."""
    return tuple(range(1, n - corrupt + 1))


# --- what can be computed ------------------------------------------------------------------


def revealed(search: Search, joint: Joint) -> list[tuple[Fraction, ...]]:
    """A basis of the coefficients a for which the server knows the sum of a_u x_u.

    An upload is x_u + (self mask) ± (a mask for each neighbour in U2): a row of unknown masks.
    Masks of recovered seeds and masks shared with corrupt clients are known. What is left is
    independent and uniform, so exactly the combinations in which it cancels reveal anything.
    """
    known = search.recovered(joint)
    uploads = [(n.client, n.of(Unconfirmed)) for n in joint if n.of(Unconfirmed)]
    rows = []
    for u, state in uploads:
        row = {} if ("self", u) in known else {("self", u): Fraction(1)}
        for peer in state.peers:
            v = peer.party
            if v in search.corrupt or {("mask", u), ("mask", v)} & known:
                continue
            row["pair", state.context, frozenset((u, v))] = Fraction(1 if u < v else -1)
        rows.append(row)
    return _left_kernel(rows)


def _left_kernel(rows: list[dict]) -> list[tuple[Fraction, ...]]:
    """Gauss: the combinations of rows that vanish."""
    work = [
        (dict(row), [Fraction(int(i == j)) for j in range(len(rows))]) for i, row in enumerate(rows)
    ]
    kernel = []
    while work:
        row, by = work.pop()
        if not row:
            kernel.append(tuple(by))
            continue
        column, value = next(iter(row.items()))
        for at, (other, their) in enumerate(work):
            if factor := other.get(column, Fraction(0)) / value:
                merged = {k: other.get(k, 0) - factor * row.get(k, 0) for k in {*other, *row}}
                left = {k: v for k, v in merged.items() if v}
                work[at] = (left, [a - factor * b for a, b in zip(their, by, strict=True)])
    return kernel


# --- the search ----------------------------------------------------------------------------


@dataclass
class Found:
    """What was seen, and every rule that was broken."""

    states: int = 0
    answers: int = 0
    sums: set[tuple[int, ...]] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)


def explore(search: Search, most: int | None = None) -> Found:
    found = Found()
    for joint in search.joint_states():
        found.states += 1
        found.answers += sum(isinstance(node.state, Done) for node in joint)
        found.broken.update(broken_rules(search, joint))
        found.sums.update(_summed(search, joint))
        if found.broken and most is not None and found.states > most:
            break
    return found


def broken_rules(search: Search, joint: Joint) -> Iterator[str]:
    for node in joint:
        given = search.given(node)
        if any(("mask", v) in given and ("self", v) in given for v in search.everyone):
            yield "a client gave both shares of somebody"
    answered = search.answered(joint)
    if len(answered) > 1:
        yield "two sets of survivors were answered"
    known = search.recovered(joint)
    if any({("mask", v), ("self", v)} <= known for v in search.honest):
        yield "both seeds of a client are known"
    for _, survivors in answered:
        if any(("mask", v) in known for v in survivors):
            yield "the mask seed of a survivor is known"
    everyone = set(search.honest)
    for members in _summed(search, joint):
        whole = {tuple(sorted(survivors & everyone)) for _, survivors in answered}
        if members not in whole or len(members) < 2:
            yield f"a sum over {len(members)} of the honest survivors is known"


def _summed(search: Search, joint: Joint) -> Iterator[tuple[int, ...]]:
    """Who is in each combination that the server knows, all with the same coefficient."""
    uploaders = [n.client for n in joint if n.of(Unconfirmed)]
    for by in revealed(search, joint):
        used = {u: a for u, a in zip(uploaders, by, strict=True) if a}
        yield tuple(used) if len(set(used.values())) == 1 else (0,)


@pytest.mark.parametrize(
    ("n", "corrupt", "threshold", "seeds", "sums"),
    [
        (3, 0, 2, 1, {(1, 2), (1, 3), (2, 3), (1, 2, 3)}),
        (3, 0, 3, 2, {(1, 2, 3)}),
        (3, 1, 3, 2, {(1, 2)}),
    ],
)
def test_nothing_that_a_server_asks_gives_it_more_than_one_sum(
    n: int, corrupt: int, threshold: int, seeds: int, sums: set[tuple[int, ...]]
) -> None:
    search = Search(small(n, corrupt, threshold), honest_of(n, corrupt), seeds)
    found = explore(search)
    assert found.broken == set()
    assert found.sums == sums, "and everything that it may learn, it can"
    assert found.answers > 0
    assert found.states > 100


def test_nobody_rolled_back_says_anything_twice() -> None:
    """From every state, every machine of the past is taken up over the journal of today. It may
    even be bound to another model: the upload was claimed.
    """
    search = Search(small(3, 0, 3), (1, 2, 3), models=either_of(3))
    for _ in search.joint_states():
        pass
    tried = 0
    for node in list(search.nodes.values()):
        for earlier, event in search.forks(node):
            claimed = len(node.sent) > len(earlier.sent) or node.state.stage == "aborted"
            assert not (claimed and search.speaks(node, earlier, event))
            tried += claimed
    assert tried > 100


@pytest.mark.parametrize(
    ("corrupt", "threshold", "models", "sums"),
    [
        (0, 3, either_of(3), {(1, 2, 3)}),
        (1, 3, either_of(2), {(1, 2)}),
        (0, 2, {1: (A,), 2: (A,), 3: (B,)}, {(1, 2)}),
    ],
)
def test_of_two_models_one_is_answered_for_and_no_sum_has_both(
    corrupt: int, threshold: int, models: dict[int, tuple[bytes, ...]], sums: set[tuple[int, ...]]
) -> None:
    """Whoever is in U3 and was bound to another model is in no sum that can be computed."""
    search = Search(small(3, corrupt, threshold), honest_of(3, corrupt), models=models)
    found = explore(search)
    assert found.broken == set()
    assert found.sums == sums
    assert found.answers > 0


# --- that it would find what is wrong ------------------------------------------------------


def test_a_threshold_that_is_too_low_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """2t > n + c is not for nothing: with t = 2 of 3 and one corrupt, both seeds are known."""
    monkeypatch.setattr(MaskingParameters, "_check_active", lambda _self: None)
    parameters = MaskingParameters(
        clients=3,
        floor=2,
        length=3,
        modulus_bits=8,
        threshold=2,
        degree=2,
        suite="X25519",
        adversary="active",
        corrupt=0,
    )
    found = explore(Search(parameters, (1, 2)), most=5000)
    assert "two sets of survivors were answered" in found.broken
    assert "both seeds of a client are known" in found.broken


def test_an_answer_without_a_proof_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def believe(_self: ActiveClient, state: Confirmed, _proof: object) -> frozenset[int]:
        return members_of(state.survivors, 3)

    monkeypatch.setattr(ActiveClient, "_proved", believe)
    found = explore(Search(small(3, 0, 2), (1, 2, 3)), most=5000)
    assert "two sets of survivors were answered" in found.broken


def test_a_set_that_is_not_checked_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that signs any set takes its own self mask off, alone."""
    monkeypatch.setattr(ActiveClient, "_check_survivors", lambda *_: None)
    found = explore(Search(small(3, 0, 2), (1, 2, 3)), most=5000)
    assert found.broken


def test_the_kernel_is_what_it_says() -> None:
    one, two, three = ({k: Fraction(1)} for k in "abc")
    both = {"a": Fraction(1), "b": Fraction(-1)}
    assert _left_kernel([one, two, three]) == []
    (combination,) = _left_kernel([one, two, both])
    assert [combination[i] / combination[2] for i in range(3)] == [-1, 1, 1]
    assert len(_left_kernel([{}, {}])) == 2
    for rows in combinations([one, two, three], 2):
        assert _left_kernel(list(rows)) == []
