"""Cohorts of real machines and of the reference: what either sends, the other understands."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vectors.parties import plain_client, plain_server, real_client, real_server
from tests.vectors.play import Played, Script, play
from tests.vectors.rounds import HYBRID, X, active, complete, script

Who = Callable[[int], bool]
SERVERS = {"real server": real_server, "reference server": plain_server}
MIXES: dict[str, Who] = {
    "odd real": lambda u: u % 2 == 1,
    "even real": lambda u: u % 2 == 0,
    "one reference": lambda u: u != 2,
    "one real": lambda u: u == 1,
    "all real": lambda u: True,
    "all reference": lambda u: False,
}
STAGES = ("advertise", "share", "upload", "unmask")


def mixed(of: Script, server: Any, is_real: Who) -> Played:
    """Sealed and signed for real: with coins of the library, and hedged signatures."""
    clients = {u: (real_client if is_real(u) else plain_client)(of, u) for u in of.seeds}
    return play(of, clients, server(of))


def check(of: Script, played: Played) -> None:
    """The exact sum over those who uploaded, and who was lost where."""
    assert played.abort is None
    assert played.refusals == []
    assert played.result is not None
    there = [u for u in of.values if not of.gone(u, "upload")]
    modulus = 2**of.session.parameters.modulus_bits
    columns = zip(*(of.values[u] for u in there), strict=True)
    assert played.result["total"] == [sum(column) % modulus for column in columns]
    assert played.result["contributors"] == there
    assert played.result["dropped"] == dict(of.absent)
    assert played.result["bad"] == []


def scripts() -> dict[str, Script]:
    one: Mapping[int, str] = {2: "upload"}
    gone = {1: "share", 4: "upload", 6: "unmask"}
    late = {1: "upload", 5: "consistency", 6: "unmask"}
    both = ("Ed25519", "ML-DSA-65")
    return {
        "semi-honest": script("mixed a", complete(7, 3), absent=gone),
        "semi-honest, hybrid": script("mixed b", complete(4, 3, suite=HYBRID), absent=one),
        "semi-honest, sparse": script(
            "mixed c", complete(9, 4, degree=4, floor=7), absent={4: "upload"}
        ),
        "active": script("mixed d", active(9, 6, corrupt=2), absent=late, schemes=both),
        "active, hybrid": script("mixed e", active(4, 3, suite=HYBRID), absent=one, schemes=both),
        "in pieces": script(
            "mixed f", complete(4, 2, length=50, modulus_bits=20, chunk=16), absent=one
        ),
    }


@pytest.mark.parametrize("of", scripts().values(), ids=scripts())
@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
@pytest.mark.parametrize("is_real", MIXES.values(), ids=MIXES)
def test_a_mixed_cohort_gets_the_exact_sum(of: Script, server: Any, is_real: Who) -> None:
    check(of, mixed(of, server, is_real))


@settings(max_examples=25)
@given(data=st.data())
def test_any_mix_with_any_dropouts(data: st.DataObject) -> None:
    """Chosen at random: size, modulus, mode, who is real, and who leaves when."""
    n, lying = data.draw(st.integers(3, 7)), data.draw(st.booleans())
    t = n // 2 + 1
    stages = (*STAGES[:3], "consistency", "unmask") if lying else STAGES
    lost = data.draw(st.lists(st.integers(1, n), unique=True, max_size=n - t))
    absent = {u: data.draw(st.sampled_from(stages)) for u in lost}
    bits = data.draw(st.sampled_from([1, 5, 16, 31, 32, 33, 63, 64]))
    make = active if lying else complete
    parameters = make(n, t, modulus_bits=bits, length=data.draw(st.integers(1, 20)), chunk=8)
    of = script(f"random {data.draw(st.integers(0, 2**32))}", parameters, absent=absent)
    real = data.draw(st.sets(st.integers(1, n)))
    server = data.draw(st.sampled_from([real_server, plain_server]))
    check(of, mixed(of, server, lambda u: u in real))


def test_another_application_is_refused_across_implementations() -> None:
    of = script("mixed model", complete(4, 3))
    for server in SERVERS.values():
        clients: dict[int, Any] = {1: plain_client(of, 1), 2: real_client(of, 2)}
        other = script("mixed model", complete(4, 3))
        object.__setattr__(other, "application", bytes(32))
        clients |= {3: real_client(other, 3), 4: plain_client(other, 4)}
        played = play(of, clients, server(of))
        assert [(who, e.peer) for who, e in played.refusals] == [(0, 3), (0, 4)]
        assert all(e.reason.endswith("of another session") for _, e in played.refusals)
        assert played.abort is not None
        assert played.abort.reason == "only 2 clients uploaded, fewer than 3"


def test_the_suites_are_both_met() -> None:
    met = {of.session.parameters.suite for of in scripts().values()}
    assert met == {X, HYBRID}
