"""A federation in active mode: real processes with identities of their own, and a roster."""

from pathlib import Path

import pytest

from fl.identity_files import load_roster, save_roster, write_new
from fl.runner.events import RoundEnded, Trouble
from fl.runner.federation import Federation
from fl.runner.membership import Membership, enroll
from fl.runner.pool import Pool, RunnerError
from fl.settings import Settings
from secagg.errors import LocalError, ParameterError
from secagg.identity import Member, Roster
from secagg.rng import SystemSource
from secagg.signing import ED25519, Identity

NAMES = ("north", "south")


def active(**options: object) -> Settings:
    return Settings("opt", suite="X25519", adversary="active", **options)


def enrolled(folder: Path) -> tuple[Membership, Membership]:
    files = tuple(folder / f"{name}.pem" for name in NAMES)
    enroll(NAMES, folder / "roster.json", files)
    first, second = (Membership(file, folder / "roster.json") for file in files)
    return first, second


@pytest.mark.parametrize("protocol", ["masking", "lattice"])
def test_a_round_in_which_members_sign_has_the_exact_sum_of_the_survivors(protocol: str) -> None:
    settings = active(protocol=protocol, rounds=2, drops={"consistency": 1})
    with Pool(settings, observed=True) as pool:
        events = list(Federation(settings, pool, observed=True).rounds())
        modes = {pool.file(f"party-{who}.pem").stat().st_mode & 0o777 for who in (1, 2, 3, 4)}
    assert modes == {0o600}
    first, second = (event for event in events if isinstance(event, RoundEnded))
    for each in (first, second):
        assert each.result is not None
        assert each.result.contributors == (1, 2, 3, 4)
        assert each.verdict is not None
        assert each.verdict.max_abs_error == 0
    assert set(second.result.dropped.values()) == {"consistency"}


def test_a_client_whose_key_is_not_in_the_roster_takes_no_part() -> None:
    settings = active(rounds=1)
    with Pool(settings, observed=False) as pool:
        stranger = Identity.draw(ED25519, SystemSource())
        pool.file("party-2.pem").unlink()
        write_new(pool.file("party-2.pem"), stranger.to_pem(), 0o600)
        events = list(Federation(settings, pool).rounds())
    (end,) = (event for event in events if isinstance(event, RoundEnded))
    assert end.result is not None
    assert end.result.dropped == {2: "advertise"}
    assert any(isinstance(e, Trouble) and e.client == 2 for e in events)


def test_a_client_with_another_roster_takes_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another digest is another context: it and the server do not speak about one session."""
    monkeypatch.setattr("fl.runner.federation.STAGE_DEADLINE", 3.0)
    settings = active(rounds=1)
    with Pool(settings, observed=False) as pool:
        federation = Federation(settings, pool)
        members = list(load_roster(pool.roster).members)
        members[3] = Member("impostor", Identity.draw(ED25519, SystemSource()).public)
        save_roster(pool.roster, Roster(members), new=False)
        events = list(federation.rounds())
    (end,) = (event for event in events if isinstance(event, RoundEnded))
    assert end.result is None
    assert "only 0 clients advertised" in end.reason


def test_a_client_whose_identity_is_missing_says_so() -> None:
    settings = active(rounds=1)
    with Pool(settings, observed=False) as pool:
        pool.file("party-3.pem").unlink()
        with pytest.raises(RunnerError, match=r"client 3 cannot start: .*party-3\.pem"):
            list(Federation(settings, pool).rounds())


def test_a_membership_is_two_files(tmp_path: Path) -> None:
    first, second = enrolled(tmp_path)
    (one, roster), (other, same) = first.load(), second.load()
    assert roster.digest() == same.digest()
    assert [member.public for member in roster.members] == [one.public, other.public]
    with pytest.raises(LocalError, match=r"north\.pem"):
        enroll(NAMES, tmp_path / "roster.json", (first.identity, second.identity))


def test_an_expired_member_is_refused_by_name(tmp_path: Path) -> None:
    first, _ = enrolled(tmp_path)
    north, south = load_roster(first.roster).members
    old = Member(south.name, south.public, "2020-02-29")
    save_roster(first.roster, Roster([north, old]), new=False)
    with pytest.raises(LocalError, match="the key of 'south' expired"):
        first.load()


@pytest.mark.parametrize("protocol", ["plain", "ckks", "bfv", "committee"])
def test_a_protocol_without_an_active_mode_is_refused(protocol: str) -> None:
    with pytest.raises(ParameterError, match="no active mode; choose masking, lattice"):
        active(protocol=protocol)


def test_the_command_says_that_members_sign() -> None:
    assert "--adversary active" in active().command
    assert "--adversary" not in Settings("opt").command
