"""`secagg keys` and `secagg roster`, and the files behind them."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fl import identity_files as files
from fl import keys_cli
from fl.cli import app
from secagg.errors import LocalError, SecaggError
from secagg.identity import SCHEMES, Card, Identity
from secagg.rng import SystemSource

TODAY = "2026-11-24"
PASSPHRASE = "correct horse"  # noqa: S105 - of this test only


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keys_cli, "today", lambda: TODAY)
    return tmp_path


def run(*arguments: str) -> None:
    app(list(arguments), standalone_mode=False)


def refused(*arguments: str) -> str:
    """Why the command refuses; and that it changes nothing at all."""
    before = contents()
    with pytest.raises(SecaggError) as error:
        run(*arguments)
    assert contents() == before
    return str(error.value)


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}


def mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_from_keys_to_a_roster_that_is_good(
    scheme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("keys", "new", "Clinic Zürich [red]", "--scheme", scheme)
    run("keys", "new", "b", "--expires", TODAY)
    assert mode("Clinic-Zürich-red.key.pem") == 0o600
    assert load_pem_private_key(Path("b.key.pem").read_bytes(), None)
    run("roster", "add", "roster.json", "Clinic-Zürich-red.member.json")
    run("roster", "add", "roster.json", "b.member.json")
    digest = files.load_roster(Path("roster.json")).digest().hex()
    capsys.readouterr()
    run("roster", "check", "roster.json", "--key", "b.key.pem", "--digest", digest.upper())
    shown = capsys.readouterr().out
    assert "b.key.pem is the key of member 2, b" in shown
    assert "Clinic Zürich [red]  " + scheme in shown
    assert digest in shown
    assert "2 members, each exactly as its own key signed it." in shown
    assert "The digest is the one that you gave." in shown
    fingerprint = files.load_roster(Path("roster.json")).member(1).public.fingerprint
    assert fingerprint in shown
    run("roster", "show", "roster.json")
    assert fingerprint in capsys.readouterr().out
    assert not list(Path().glob(".secagg-*"))


def test_a_passphrase_protects_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("pass").write_text(f"{PASSPHRASE}\r\nsecond line\n", "utf-8")
    run("keys", "new", "a", "--passphrase-file", "pass")
    run("roster", "add", "r.json", "a.member.json")
    assert b"ENCRYPTED" in Path("a.key.pem").read_bytes()
    check = ("roster", "check", "r.json", "--key", "a.key.pem")
    monkeypatch.setenv("RIGHT", PASSPHRASE)
    monkeypatch.setenv("WRONG", PASSPHRASE + "s")
    run(*check, "--passphrase-env", "RIGHT")
    assert "a.key.pem: the passphrase is wrong" in refused(*check, "--passphrase-env", "WRONG")
    assert "NONE is empty or not set" in refused(*check, "--passphrase-env", "NONE")
    assert "not in both" in refused(*check, "--passphrase-env", "X", "--passphrase-file", "pass")
    assert "no terminal to ask on" in refused(*check)


def test_guessing_a_passphrase_costs_scrypt() -> None:
    """The passphrase itself does not open the PKCS#8: the salted, stretched one does."""
    identity = Identity.draw("Ed25519", SystemSource())
    pems = [files.protected_pem(identity, PASSPHRASE, SystemSource()) for _ in range(2)]
    assert pems[0].splitlines()[0] != pems[1].splitlines()[0]
    with pytest.raises(ValueError, match=r".*"):
        load_pem_private_key(pems[0], PASSPHRASE.encode())
    Path("swapped.pem").touch(0o600)
    Path("swapped.pem").write_bytes(
        b"".join([pems[1].splitlines(True)[0], *pems[0].splitlines(True)[1:]])
    )
    with pytest.raises(SecaggError, match="the passphrase is wrong"):
        files.load_identity(Path("swapped.pem"), lambda: PASSPHRASE)


def test_a_key_that_another_tool_protected_is_read() -> None:
    identity = Identity.draw("Ed25519", SystemSource())
    files.write_new(Path("k.pem"), identity.to_pem("größer".encode()), 0o600)
    assert files.load_identity(Path("k.pem"), lambda: "gro\u0308ßer") == identity


def test_passphrases_are_asked_for_unseen_and_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", lambda text, **how: asked.update(how) or PASSPHRASE)
    run("keys", "new", "a", "--passphrase")
    assert asked == {"hide_input": True, "confirmation_prompt": True}
    assert files.is_protected(Path("a.key.pem").read_bytes())
    monkeypatch.setattr("typer.prompt", lambda text, **how: "short")
    assert "8 characters or more" in refused("keys", "new", "b", "--passphrase")


def test_nothing_is_ever_written_over() -> None:
    run("keys", "new", "a")
    assert "a.member.json exists and is left as it is" in refused("keys", "new", "a")
    Path("a.member.json").unlink()
    assert "a.key.pem exists and is left as it is" in refused("keys", "new", "a")
    Path("b.key.pem").symlink_to("nowhere")
    assert "b.key.pem exists" in refused("keys", "new", "b")
    with pytest.raises(LocalError, match="cannot be written"):
        run("keys", "new", "c", "--out", "no/such/folder")
    assert not list(Path().glob(".secagg-*"))


def test_a_key_without_its_card_is_not_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    write = files.write_new

    def full(path: Path, data: bytes, mode: int) -> None:
        if path.suffix == ".json":
            raise LocalError("disk full")
        write(path, data, mode)

    monkeypatch.setattr(files, "write_new", full)
    assert refused("keys", "new", "a") == "disk full"
    assert not contents()


def test_what_a_roster_refuses() -> None:
    for name in ("a", "b", "c"):
        run("keys", "new", name)
    run("roster", "add", "r.json", "a.member.json", "b.member.json")
    assert "member 'a' is listed twice" in refused("roster", "add", "r.json", "a.member.json")
    assert "'c' is listed twice" in refused("roster", "add", "r.json", *["c.member.json"] * 2)
    foreign = json.loads(Path("b.member.json").read_text("utf-8"))
    foreign["member"]["name"] = "mallory"
    Path("m.member.json").write_text(json.dumps(foreign), "utf-8")
    assert "m.member.json: the card of 'mallory' is not signed by its own key" in refused(
        "roster", "add", "r.json", "m.member.json"
    )
    same_key = Card.signed("again", files.load_identity(Path("b.key.pem"), str))
    files.write_new(Path("s.member.json"), files.card_to_json(same_key), 0o644)
    assert "'again' has the key of 'b'" in refused("roster", "add", "r.json", "s.member.json")
    assert "no.json: No such file" in refused("roster", "show", "no.json")
    assert "r.json: not a secagg member file" in refused("roster", "add", "r.json", "r.json")
    stranger = ("roster", "check", "r.json", "--key", "c.key.pem")
    assert "c.key.pem: this key belongs to nobody in the roster" in refused(*stranger)
    assert "the digest is not 00ff" in refused("roster", "check", "r.json", "--digest", "00ff")
    Path("b.key.pem").chmod(0o640)
    assert "others can read" in refused("roster", "check", "r.json", "--key", "b.key.pem")


def test_damaged_and_newer_rosters_are_refused_by_name_and_kept() -> None:
    run("keys", "new", "a")
    run("keys", "new", "b")
    run("roster", "add", "r.json", "a.member.json")
    good = Path("r.json").read_bytes()
    for bad, reason in (
        (good[:-9], "r.json: not a secagg roster file: damaged, or cut off"),
        (
            good.replace(b'"version": 2', b'"version": 3'),
            "r.json: a secagg roster file of version 3",
        ),
        (good.replace(b'"key": "', b'"key": "00'), "r.json: member 'a': an Ed25519 public key has"),
        (b"", "r.json: not a secagg roster"),
    ):
        Path("r.json").write_bytes(bad)
        for command in (
            ("add", "r.json", "b.member.json"),
            ("show", "r.json"),
            ("check", "r.json"),
        ):
            assert reason in refused("roster", *command)


CHANGES = {
    "renamed": ("name", '"b"', '"mallory"', "the card of 'mallory' is not signed by its own key"),
    "another last day": ("expires", '"2031-01-01"', '""', "the card of 'b' is not signed"),
    "another key": ("key", "", "", "the card of 'b' is not signed by its own key"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_roster_that_somebody_changed_is_refused_by_name(case: str) -> None:
    field, before, after, reason = CHANGES[case]
    for name in ("a", "b", "c"):
        run("keys", "new", name, "--expires", "2031-01-01")
    run("roster", "add", "r.json", "a.member.json")
    run("roster", "add", "r.json", "b.member.json")
    body = json.loads(Path("r.json").read_text("utf-8"))
    entry = body["members"][1]["member"]
    stranger = json.loads(Path("c.member.json").read_text("utf-8"))["member"]
    assert not before or json.dumps(entry[field]) == before
    entry[field] = json.loads(after) if after else stranger[field]
    Path("r.json").write_text(json.dumps(body), "utf-8")
    for command in (("check", "r.json"), ("show", "r.json"), ("add", "r.json", "c.member.json")):
        assert f"r.json: {reason}" in refused("roster", *command)


def test_check_says_what_only_the_members_can_compare(capsys: pytest.CaptureFixture[str]) -> None:
    """A member whose entry another key signed anew is in a roster that verifies."""
    run("keys", "new", "a")
    run("roster", "add", "r.json", "a.member.json")
    capsys.readouterr()
    run("roster", "check", "r.json")
    shown = capsys.readouterr().out
    assert "each exactly as its own key signed it" in shown
    assert "only comparing the digest, or every fingerprint, with the other members does" in shown


def test_a_roster_of_version_1_is_read_and_said_to_have_no_proofs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("a", "b"):
        run("keys", "new", name)
    old = {"format": "secagg roster", "version": 1}
    old["members"] = [json.loads(Path("a.member.json").read_text("utf-8"))["member"]]
    Path("r.json").write_text(json.dumps(old), "utf-8")
    run("roster", "check", "r.json")
    run("roster", "add", "r.json", "b.member.json")
    run("roster", "check", "r.json", "--key", "b.key.pem")
    shown = capsys.readouterr().out
    assert shown.count("of version 1 and keeps no proofs") == 3
    assert "exactly as its own key signed it" not in shown
    assert json.loads(Path("r.json").read_text("utf-8"))["version"] == 1
    run("roster", "add", "new.json", "a.member.json", "b.member.json")
    assert files.load_roster(Path("new.json")) == files.load_roster(Path("r.json"))
    assert "of version 1" not in capsys.readouterr().out


def test_expired_keys_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "the last day 2026-11-23 is over" in refused(
        "keys", "new", "a", "--expires", "2026-11-23"
    )
    assert "no such day" in refused("keys", "new", "a", "--expires", "2026-11-31")
    run("keys", "new", "a", "--expires", TODAY)
    run("roster", "add", "r.json", "a.member.json")
    monkeypatch.setattr(keys_cli, "today", lambda: "2026-11-25")
    assert "'a' on 2026-11-24; they need new keys" in refused("roster", "check", "r.json")
    assert "'a' on 2026-11-24" in refused("roster", "add", "s.json", "a.member.json")
    capsys.readouterr()
    run("roster", "show", "r.json")
    assert "until 2026-11-24 (EXPIRED)" in capsys.readouterr().out


def test_refusals_are_one_sentence_on_stderr() -> None:
    code = "import sys; from fl.cli import main; sys.argv[0] = 'secagg'; main()"
    command = [sys.executable, "-c", code, "roster", "show", "[bold]no.json"]
    ran = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr == "secagg: [bold]no.json: No such file or directory\n"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def test_a_private_key_is_written_whole_or_not_at_all() -> None:
    """SIGKILL between every two system calls of the write: no file, or a whole one of 0600."""
    code = (
        "import os, sys; from pathlib import Path; from fl import identity_files as f\n"
        "steps = int(sys.argv[1])\n"
        "def hook(event, args):\n"
        "    global steps\n"
        "    if '.secagg' in str(args):\n"
        "        steps -= 1\n"
        "        if steps == 0: os.kill(os.getpid(), 9)\n"
        "sys.addaudithook(hook)\n"
        "f.write_new(Path('k.pem'), b'x' * 100_000, 0o600)\n"
    )
    ended = []
    for steps in range(1, 9):
        Path("k.pem").unlink(missing_ok=True)
        ended.append(
            subprocess.run(
                [sys.executable, "-c", code, str(steps)],
                env=environment(),
                check=False,
            ).returncode
        )
        if Path("k.pem").exists():
            assert Path("k.pem").read_bytes() == b"x" * 100_000
            assert mode("k.pem") == 0o600
        if ended[-1] == 0:
            break
    assert ended[-1] == 0
    assert ended.count(-9) >= 3
