"""A client's own floors: a session below any of them is refused by name."""

import re

import pytest

from protocols import masking, plain
from protocols.base import Session
from protocols.masking import configure, sparse
from protocols.policy import Policy
from secagg.errors import LocalError
from secagg.identity import Member, Roster
from secagg.rng import SeededSource
from secagg.seal import SystemSealer
from secagg.signing import ED25519, Identity

N = 7


def session(**options: object) -> Session:
    return Session("masking", configure(N, 10, 16, suite="X25519", **options), bytes(32), bytes(32))


def signed_session() -> Session:
    source = SeededSource(b"policy")
    identities = [Identity.draw(ED25519, source) for _ in range(N)]
    roster = Roster(Member(f"member {u}", each.public) for u, each in enumerate(identities))
    parameters = configure(N, 10, 16, suite="X25519", adversary="active", corrupt=1)
    return Session("masking", parameters, bytes(32), roster.digest(), roster)


def test_the_default_admits_what_the_protocols_allow() -> None:
    Policy().admit(session())
    Policy().admit(signed_session())
    Policy().admit(Session("plain", plain.configure(2, 1, 1), bytes(32), bytes(32)))


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Policy(protocols=frozenset({"lattice", "bfv"})), "'masking'; this client allows bfv, lat"),
        (Policy(clients=8), "number of clients is 7, and this client insists on 8"),
        (Policy(floor=6), "clients in a sum is 4, and this client insists on 6"),
        (Policy(corrupt=3), "corrupt clients that is tolerated is 2, and this client insists on 3"),
        (Policy(modulus_bits=17), "modulus_bits is 16, and this client insists on 17"),
        (Policy(signed=True), "a session without signatures"),
    ],
)
def test_what_is_below_a_floor_is_refused_by_name(policy: Policy, reason: str) -> None:
    with pytest.raises(LocalError, match=re.escape(reason)):
        policy.admit(session())


def test_at_the_floor_it_is_admitted() -> None:
    Policy(frozenset({"masking"}), N, 4, 2, 16).admit(session())
    Policy(frozenset({"masking"}), N, 5, 1, 16, signed=True).admit(signed_session())


@pytest.mark.parametrize(("threshold", "tolerated"), [(4, 0), (5, 2), (6, 4), (7, 5)])
def test_active_mode_tolerates_what_cannot_split_a_cohort(threshold: int, tolerated: int) -> None:
    """2t > n + c, and two honest clients in a sum of t."""
    offered = configure(N, 10, 16, suite="X25519", adversary="active", threshold=threshold)
    assert offered.tolerated == tolerated
    configure(N, 10, 16, adversary="active", threshold=threshold, corrupt=tolerated)
    with pytest.raises(ValueError, match=r"corrupt|more than the 7 clients"):
        configure(N, 10, 16, adversary="active", threshold=threshold, corrupt=tolerated + 1)


def test_a_sparse_graph_tolerates_what_it_was_chosen_for() -> None:
    chosen = sparse(200, 1, 16, corrupt=0.1, dropout=0.1, suite="X25519")
    assert not chosen.complete
    assert chosen.tolerated == chosen.corrupt == 20


def test_a_client_without_a_signer_cannot_join_active_mode() -> None:
    with pytest.raises(LocalError, match="needs its identity"):
        masking.new_client(signed_session(), 1, SeededSource(b"x"), SystemSealer())
