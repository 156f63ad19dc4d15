"""The suite of attacks: its verdicts, its reference, and what happens when a protocol is weak.

Every attack must succeed on the reference, and say INVALID once its mistake is repaired; every
protected cell must turn when the protection is taken away.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from benchmarks.cli import bench
from benchmarks.security import (
    active_server,
    inconsistency,
    inversion,
    malformed,
    page,
    pictures,
    replay,
    suite,
    timing,
    weak_seed,
)
from benchmarks.security.attack import Attack, Effort
from benchmarks.security.stats import bootstrap, bootstrap_auc, clopper_pearson, welch, wilson
from benchmarks.security.targets import REFERENCE, ForgetfulJournal, Target, reference, targets
from benchmarks.security.verdict import Measured, Row, Rule, Verdict, judge
from benchmarks.security.vulnerable import MISTAKES
from benchmarks.security.vulnerable.compare import equal
from benchmarks.security.vulnerable.masks import splitmix
from protocols.base import Step
from protocols.committee import CommitteeParameters
from protocols.driver import Fault
from protocols.he import holder
from protocols.he.holder import KeyHolder
from protocols.he.messages import Aggregate
from protocols.masking import ActiveClient
from protocols.masking.client import BaseClient
from protocols.registry import PROTOCOLS, load
from secagg.context import bound_context
from secagg.ring import RingVector
from secagg.vshare import candidates

QUICK = Effort(quick=True)
KNOWN = {target.name: target for target in targets()}
PLAIN, SEMI, ACTIVE = (KNOWN[n] for n in ("plain", "masking, semi-honest", "masking, active"))


def only(attack: Attack, *settings: str) -> Attack:
    """The attack with these settings."""
    cases = tuple(case for case in attack.cases if case.setting in settings)
    assert len(cases) == len(settings)
    return Attack(attack.name, attack.about, attack.source, attack.metric, cases)


def verdict(attack: Attack, setting: str, target: Target, weak: Target | None = None) -> str:
    """What the suite says of one cell."""
    rows = suite.run([only(attack, setting)], QUICK, [target], weak)
    (row,) = [row for row in rows if row.target == target.name]
    return row.verdict


# --- statistics and verdicts -------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "hits", "trials", "low", "high"),
    [
        (wilson, 0, 10, 0.0, 0.2775),
        (wilson, 10, 10, 0.7225, 1.0),
        (wilson, 5, 10, 0.2366, 0.7634),
        (clopper_pearson, 0, 10, 0.0, 0.3085),
        (clopper_pearson, 5, 10, 0.1871, 0.8129),
        (clopper_pearson, 20, 20, 0.8316, 1.0),
    ],
)
def test_intervals_of_proportions(interval: Callable, hits, trials, low, high) -> None:
    assert interval(hits, trials) == pytest.approx((low, high), abs=1e-4)
    with pytest.raises(ValueError, match="hits"):
        interval(trials + 1, trials)


def test_bootstrap_and_welch() -> None:
    values = np.random.default_rng(0).normal(3, 1, 400)
    low, high = bootstrap(values)
    assert low < values.mean() < high
    assert (low, high) == bootstrap(values)
    assert high - low == pytest.approx(4 * 0.049, rel=0.15)
    scores, positive = np.arange(40.0), np.arange(40) >= 20
    assert bootstrap_auc(scores, positive) == (1.0, 1.0)
    assert welch(values, values + 1) < -10
    assert welch(np.ones(3), np.ones(3)) == 0
    assert welch(np.ones(3), np.zeros(3)) == np.inf


def found(value: float, half: float = 0.1) -> Measured:
    return Measured(value, value - half, value + half, "bootstrap")


ABOVE = Rule(bar=0.5, baseline=0.1)
BELOW = Rule(bar=0.2, baseline=0.9, wins="below", scope="beyond")


@pytest.mark.parametrize(
    ("rule", "value", "reference", "expected"),
    [
        (ABOVE, 0.0, 1.0, Verdict.PROTECTS),
        (ABOVE, 0.45, 1.0, Verdict.DOES_NOT),  # the interval reaches over the bar
        (ABOVE, 0.9, 1.0, Verdict.DOES_NOT),
        (ABOVE, 0.0, 0.4, Verdict.INVALID),
        (ABOVE, 0.9, 0.4, Verdict.INVALID),
        (BELOW, 1.0, 0.0, Verdict.PROTECTS),
        (BELOW, 0.25, 0.0, Verdict.OUT_OF_SCOPE),
        (BELOW, 0.1, 0.0, Verdict.OUT_OF_SCOPE),
        (BELOW, 1.0, 0.3, Verdict.INVALID),
    ],
)
def test_a_verdict_follows_from_interval_bar_and_reference(rule, value, reference, expected):
    assert judge(rule, found(value), found(reference)) is expected


def test_a_reference_no_better_than_guessing_is_invalid() -> None:
    assert judge(Rule(0.5, 0.45), found(0.0), found(0.52)) is Verdict.INVALID
    assert judge(ABOVE, found(0.0), None) is Verdict.INVALID


def test_by_value_the_interval_does_not_count() -> None:
    rule = Rule(4.5, 0.0, by="value")
    assert judge(rule, found(4.0, 2.0), found(100)) is Verdict.PROTECTS
    assert judge(rule, found(4.6, 2.0), found(100)) is Verdict.DOES_NOT


# --- the reference -----------------------------------------------------------------------


@pytest.mark.parametrize("attack", suite.ATTACKS, ids=lambda attack: attack.name)
def test_every_attack_succeeds_on_the_reference(attack: Attack) -> None:
    rows = list(suite.run([attack], QUICK, among=[]))
    of_reference = {row.setting: row for row in rows if row.target == REFERENCE}
    assert of_reference
    assert all(row.verdict != Verdict.INVALID for row in rows), rows
    controls = {case.control or case.setting for case in attack.cases}
    for setting in controls & of_reference.keys():
        assert of_reference[setting].verdict in (Verdict.DOES_NOT, Verdict.OUT_OF_SCOPE)
    assert controls <= of_reference.keys()


REPAIRED = [
    ("both_shares", active_server.ATTACK, "asks for both shares of a client"),
    ("swapped_keys", active_server.ATTACK, "swaps the keys for its own"),
    ("downgrade", active_server.ATTACK, "offers a lower threshold"),
    ("downgrade", active_server.ATTACK, "offers a smaller modulus"),
    ("unbound_model", inconsistency.ATTACK, "one dead layer"),
    ("reuse", replay.ATTACK, "after a restart, or from an old copy"),
    ("weak_seeds", weak_seed.ATTACK, "search of 2^28 seeds"),
    ("silent", malformed.ATTACK, "messages and vectors"),
]


@pytest.mark.parametrize(("switch", "attack", "setting"), REPAIRED)
def test_without_its_mistake_the_reference_holds_and_the_cell_is_invalid(switch, attack, setting):
    repaired = reference(**{switch: False})
    assert verdict(attack, setting, repaired, repaired) == Verdict.INVALID
    assert verdict(attack, setting, SEMI, repaired) == Verdict.INVALID


def test_every_mistake_has_an_attack() -> None:
    assert {switch for switch, *_ in REPAIRED} | {"early_exit"} == set(MISTAKES)


def test_a_comparison_is_measured_on_guesses_that_are_all_wrong() -> None:
    """What a comparison says is public: only where two guesses differ may not show."""
    late, early = timing.guesses(np.random.default_rng(0))
    assert late[:-1] == timing._SECRET[:-1]
    assert early[0] != timing._SECRET[0]
    assert not timing._compare(late)
    assert not timing._compare(early)


def test_the_worst_run_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two quiet runs do not outvote a third, and the number of calls is the announced one."""
    asked = []

    def of(_operation, _secrets, count, seed):
        asked.append(count)
        return (1.0, 9.0, 2.0)[seed]

    monkeypatch.setattr(timing, "t_of", of)
    assert timing._measure("links", PLAIN, Effort()).value == 9.0
    assert asked == [timing.FULL_CALLS] * 3
    case = next(case for case in timing.ATTACK.cases if case.setting == "links")
    measured = timing._measure("links", PLAIN, QUICK)
    assert judge(case.rule, measured, found(100)) is Verdict.DOES_NOT
    assert asked[3:] == [timing.QUICK_CALLS] * 3


def test_what_is_claimed_to_be_constant_time_is_measured_and_the_rest_is_not_protected() -> None:
    page = (Path(__file__).parents[1] / "docs" / "threat-models.md").read_text("utf-8")
    table = page.split("| measured as |", 1)[1].split("\n\n", 1)[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    claimed = [name for line in lines for name in line.split(" | ")[-1].strip("| ").split("; ")]
    assert len(lines) == 10
    assert sorted(claimed) == sorted(set(timing.OPERATIONS) - {*timing.BAD, *timing.UNCLAIMED})
    for case in timing.ATTACK.cases:
        verdicts = {judge(case.rule, found(t), found(100)) for t in (1.0, 9.0)}
        free = case.setting in timing.UNCLAIMED
        assert verdicts == ({Verdict.NO_CLAIM} if free else {Verdict.PROTECTS, Verdict.DOES_NOT})


@pytest.mark.parametrize("name", timing.OPERATIONS)
def test_the_secrets_of_an_operation_vary(name: str) -> None:
    """A fixed secret beside others, of one length, and the operation takes them all."""
    operation, secrets, _slow = timing.OPERATIONS[name]
    random = np.random.default_rng(0)
    drawn = [secrets(random) for _ in range(3)]
    assert len({fixed for fixed, _ in drawn}) == 1
    assert all(fixed != varied for fixed, varied in drawn)
    if secrets not in (timing.one_of_two, timing.numbers):
        assert len({varied for _, varied in drawn}) == 3
    for each in drawn[0]:
        operation(each)


@pytest.mark.parametrize(("early_exit", "seen"), [(True, True), (False, False)])
def test_an_early_exit_is_seen_and_only_that(
    monkeypatch: pytest.MonkeyPatch, early_exit: bool, seen: bool
) -> None:
    """On a clock that the operation moves: by the bytes it looks at, and some noise."""
    clock, noise = SimpleNamespace(now=0), np.random.default_rng(1)
    fake = SimpleNamespace(perf_counter_ns=lambda: clock.now)
    monkeypatch.setattr(timing, "time", fake)

    def compare(raw: bytes) -> None:
        same = next(i for i, byte in enumerate(raw) if byte != timing._SECRET[i])
        clock.now += int(noise.integers(500, 700)) + (same if early_exit else timing.LONG)

    t = timing.t_of(compare, timing.guesses, 1000, 0)
    assert (t > timing.LIMIT) == seen


def test_the_comparison_without_its_mistake() -> None:
    assert equal(b"a", b"a")
    assert not equal(b"a", b"b")
    assert not equal(b"a", b"b", early_exit=False)


@pytest.mark.parametrize("repaired", [False, True])
def test_the_reference_sums_exactly_with_and_without_its_mistakes(repaired: bool) -> None:
    target = reference(**dict.fromkeys(MISTAKES, not repaired))
    parameters = target.parameters(5, 7, 20)
    random = np.random.default_rng(1)
    inputs = {u: random.integers(0, 2**16, 7, dtype=np.uint64) for u in range(1, 6)}
    faults = {(4, "upload"): Fault.VANISH, (5, "share"): Fault.VANISH}
    outcome = target.simulation(parameters, inputs, faults=faults).run()
    assert outcome.result is not None, outcome.abort
    assert outcome.result.contributors == (1, 2, 3)
    assert outcome.result.total.tolist() == sum(inputs[u] for u in (1, 2, 3)).tolist()


def test_the_seed_search_finds_exactly_the_seed() -> None:
    stream = splitmix(123_457, 20)
    assert splitmix(123_457, 4, start=16).tolist() == stream[16:].tolist()
    assert weak_seed.search(stream[16:] & np.uint64(2**32 - 1), 32, 16, 18) == 123_457
    assert weak_seed.search(stream[15:19] & np.uint64(2**32 - 1), 32, 16, 18) == -1


# --- protection, and protection taken away -----------------------------------------------

LIES = [case.setting for case in active_server.ATTACK.cases]


@pytest.mark.parametrize("setting", LIES)
def test_active_mode_withstands_every_lie(setting: str) -> None:
    assert verdict(active_server.ATTACK, setting, ACTIVE) == Verdict.PROTECTS


OTHERS = ("lattice", "lattice, active", "committee", "ckks", "bfv")
ALONE, TWICE = LIES[:2]


@pytest.mark.parametrize("name", OTHERS)
def test_what_the_others_withstand_of_a_server_that_lies(name: str) -> None:
    opened = Verdict.DOES_NOT if name in ("ckks", "bfv") else Verdict.PROTECTS
    assert verdict(active_server.ATTACK, ALONE, KNOWN[name]) == opened
    assert verdict(active_server.ATTACK, TWICE, KNOWN[name]) == Verdict.PROTECTS
    assert verdict(inconsistency.ATTACK, "one dead layer", KNOWN[name]) == opened


def test_what_semi_honest_masking_does_not_promise_is_said() -> None:
    swapped = "swaps the keys for its own"
    assert verdict(active_server.ATTACK, swapped, SEMI) == Verdict.DOES_NOT
    assert verdict(active_server.ATTACK, LIES[0], PLAIN) == Verdict.DOES_NOT


def weakened(target: Target, **changes: object) -> Target:
    """The target with one of its protections gone."""
    fields = {**{f: getattr(target, f) for f in target.__dataclass_fields__}, **changes}
    return Target(**fields)


@pytest.mark.parametrize("name", ["masking, semi-honest", "lattice"])
def test_a_low_threshold_turns_the_split_view(name: str) -> None:
    target = KNOWN[name]
    low = weakened(target, options={**target.options, "threshold": 2})
    assert verdict(active_server.ATTACK, "tells each another set of survivors", low) == "does not"


@pytest.mark.parametrize(("setting", "options"), [(ALONE, {"floor": 1}), (TWICE, {"threshold": 2})])
def test_without_floor_or_majority_a_committee_opens_one_client(
    monkeypatch: pytest.MonkeyPatch, setting: str, options: dict[str, int]
) -> None:
    monkeypatch.setattr(CommitteeParameters, "check", lambda _parameters: None)
    weak = weakened(KNOWN["committee"], options=options)
    assert verdict(active_server.ATTACK, setting, weak) == Verdict.DOES_NOT


@pytest.mark.parametrize("name", ["ckks", "bfv"])
def test_a_key_holder_that_opens_twice_turns_the_second_opening(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def open_again(machine, state, piece, sender):
        sent = list(KeyHolder.open(machine, state, piece, sender).send)
        zeros = RingVector.zeros(machine.parameters.modulus_bits, machine.parameters.length)
        return Step(replace(state, total=zeros), sent)

    monkeypatch.setattr(
        KeyHolder, "table", {**KeyHolder.table, (holder.Holding, Aggregate): open_again}
    )
    forgetful = weakened(KNOWN[name], journal=ForgetfulJournal)
    assert verdict(active_server.ATTACK, TWICE, forgetful) == Verdict.DOES_NOT


def test_no_policy_turns_the_downgrade() -> None:
    credulous = weakened(SEMI, policy=False)
    assert verdict(active_server.ATTACK, "offers a lower threshold", credulous) == "does not"


def test_unchecked_signatures_turn_the_key_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActiveClient, "_check_adverts", lambda *_: None)
    assert verdict(active_server.ATTACK, "swaps the keys for its own", ACTIVE) == "does not"


def test_no_masks_turn_the_inversion(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = "one client's message"
    assert verdict(inversion.ATTACK, setting, SEMI) == Verdict.PROTECTS
    real = BaseClient._masked_pieces

    def bare(machine, state, values):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("secagg.ring.RingVector.add_masks", lambda *_args, **_more: None)
            sent = list(real(machine, state, values))
        return iter(sent)

    monkeypatch.setattr(BaseClient, "_masked_pieces", bare)
    monkeypatch.setattr("protocols.masking.recovery.Recovery.unmask", lambda _recovery: None)
    monkeypatch.setattr("protocols.masking.recovery.Recovery.bad_answers", (), raising=False)
    assert verdict(inversion.ATTACK, setting, SEMI) == Verdict.DOES_NOT


def test_a_journal_that_forgets_turns_the_replay() -> None:
    forgetful = weakened(SEMI, journal=ForgetfulJournal)
    setting = "after a restart, or from an old copy"
    assert verdict(replay.ATTACK, setting, SEMI) == Verdict.PROTECTS
    assert verdict(replay.ATTACK, setting, forgetful) == Verdict.DOES_NOT


@pytest.mark.parametrize("name", ["masking, semi-honest", "lattice", "committee"])
def test_an_unbound_context_turns_the_inconsistency(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def forgets(context1, _application):
        return bound_context(context1, bytes(32))

    target = KNOWN[name]
    assert verdict(inconsistency.ATTACK, "one dead layer", target) == Verdict.PROTECTS
    for module in ("masking.client", "masking.server", "committee.messages"):
        monkeypatch.setattr(f"protocols.{module}.bound_context", forgets)
    assert verdict(inconsistency.ATTACK, "one dead layer", target) == Verdict.DOES_NOT


def test_a_wrong_share_is_only_found_where_it_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(malformed.wrong_shares(KNOWN[name], 0) for name in OTHERS[:3])
    assert not any(malformed.wrong_shares(KNOWN[name], 0) for name in ("ckks", "bfv"))
    monkeypatch.setattr("secagg.vshare.candidates", _first_only)
    assert not malformed.wrong_shares(KNOWN["committee"], 0)


def _first_only(answers, threshold, degree, bound):
    """Blames nobody, whatever the answers."""
    for keys, _wrong in candidates(answers, threshold, degree, bound):
        yield keys, frozenset()


@pytest.mark.parametrize("name", ["ckks", "bfv"])
def test_under_the_seal_only_another_key_is_not_seen(name: str) -> None:
    found = malformed.wrong_messages(KNOWN[name], 0, malformed.UnderSeal)
    assert [what for what, ok in found if not ok] == ["under another session's key"]
    assert len(found) == 10


# --- the suite ---------------------------------------------------------------------------


def test_every_protocol_of_the_registry_is_a_target() -> None:
    assert {target.family for target in KNOWN.values()} == {*PROTOCOLS, REFERENCE}
    assert all(load(name).name == name for name in PROTOCOLS)


def test_the_settings_with_noise_are_controlled_by_those_without() -> None:
    for attack in suite.ATTACKS:
        settings = [case.setting for case in attack.cases]
        assert len(set(settings)) == len(settings)
        for case in attack.cases:
            assert not case.control or case.control in settings
            assert case.control or "noise" not in case.setting


@pytest.fixture(scope="module")
def content() -> dict:
    rows = list(suite.run([only(weak_seed.ATTACK, "search of 2^28 seeds")], QUICK, [PLAIN]))
    return suite.parse(suite.to_json(rows, quick=True, seconds=1.0))


def test_the_file_is_read_back(content: dict) -> None:
    assert all(isinstance(row, Row) for row in content["rows"])
    again = suite.parse(suite.to_json(content["rows"], quick=True, seconds=1.0))
    assert again == content
    assert {each["name"] for each in content["attacks"]} == {a.name for a in suite.ATTACKS}


def test_the_pages_say_first_what_is_not_covered(
    content: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = pictures.pictures()
    monkeypatch.setattr(pictures, "pictures", lambda: drawn)
    assert [len(picture.strips) for picture in drawn] == [7, 4]
    text = page.write_page(content, tmp_path).read_text()
    assert text.index("does not cover") < text.index("How to read") < text.index("<table>")
    for name in ("inversion", "imprint"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert text.count("data:image/png;base64,") == 2
    assert "http://" not in text
    monkeypatch.setattr(page, "DOCS", tmp_path)
    (tmp_path / "run.json").write_text(suite.to_json(content["rows"], quick=False, seconds=1.0))
    page.main([str(tmp_path / "run.json")])
    markdown = (tmp_path / "security.md").read_text()
    assert markdown.startswith("# Attacks\n\n## What secure aggregation does not cover")
    assert (tmp_path / "security" / "inversion.png").exists()


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    done = CliRunner().invoke(
        bench, ["security", "--quick", "--only", "malformed", "--json", str(file)]
    )
    assert done.exit_code == 0, done.output
    assert "does not cover" in done.output
    written = json.loads(file.read_text())
    rows = [row for row in written["rows"] if row["target"] != REFERENCE]
    assert {row["target"] for row in rows} == set(KNOWN) - {REFERENCE}
    fails = {(row["setting"], row["target"]) for row in rows if row["verdict"] != "protects"}
    unproved = ("shares that were not dealt", "ciphertexts under the seal")
    assert fails == {(setting, name) for setting in unproved for name in ("ckks", "bfv")}
    reasons = next(a["absent"] for a in written["attacks"] if a["name"] == rows[0]["attack"])
    there = {(row["setting"], row["target"]) for row in written["rows"]}
    for setting in {row["setting"] for row in rows}:
        for name, target in KNOWN.items():
            assert ((setting, name) in there) != (target.family in reasons.get(setting, {}))
    content = suite.parse(file.read_text())
    assert "– because nobody is dealt a share" in page.render(content, [])
