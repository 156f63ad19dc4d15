"""The commands `secagg keys` and `secagg roster`: make identities, and agree on members."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fl import identity_files as files
from secagg.errors import ParameterError
from secagg.identity import Card, Identity, Roster, checked_date, checked_name
from secagg.rng import SystemSource

keys = typer.Typer(no_args_is_help=True, help="Make the long-lived key of a member.")
roster = typer.Typer(no_args_is_help=True, help="Keep the list of all members and their keys.")

DEFAULT_SCHEME = "Ed25519"
FEWEST_CHARACTERS = 8

Prompt = Annotated[bool, typer.Option("--passphrase", help="ask for a passphrase, unseen")]
FromFile = Annotated[
    Path | None, typer.Option("--passphrase-file", help="the passphrase is this file's first line")
]
FromEnvironment = Annotated[
    str, typer.Option("--passphrase-env", help="the passphrase is in this environment variable")
]
RosterFile = Annotated[Path, typer.Argument(metavar="ROSTER", help="the roster's file")]


UNPROVEN = (
    "This file is of version 1 and keeps no proofs: a name, key or last day that somebody changed "
    "in it goes unnoticed. `secagg roster add` makes a new file from the members' cards."
)
ONLY_COMPARING = (
    "That all members have this same roster, no file can show: only comparing the digest, or "
    "every fingerprint, with the other members does, over the telephone for example."
)


@keys.callback()
def _keys() -> None:
    """Keep `new` a sub-command."""


@keys.command()
def new(
    name: Annotated[str, typer.Argument(help="the member's name, as the roster will show it")],
    scheme: Annotated[str, typer.Option(help="Ed25519 or ML-DSA-65")] = DEFAULT_SCHEME,
    expires: Annotated[str, typer.Option(help="the key's last day, YYYY-MM-DD")] = "",
    out: Annotated[Path, typer.Option(help="the folder for the two files")] = Path(),
    passphrase: Prompt = False,
    passphrase_file: FromFile = None,
    passphrase_env: FromEnvironment = "",
) -> None:
    """Make a private key, for this machine only, and the card that goes to the roster."""
    checked_name(name)
    if expires and checked_date(expires) < today():
        raise ParameterError(f"the last day {expires} is over; choose one from {today()} on")
    identity = Identity.draw(scheme, SystemSource())
    secret = _new_passphrase(passphrase, passphrase_file, passphrase_env)
    pem = files.protected_pem(identity, secret, SystemSource())
    made = files.create(out, Card.signed(name, identity, expires), identity, pem)
    kept = "protected by the passphrase" if secret else "not protected by a passphrase"
    _print(f"private key   {made.key} ({kept}; it stays on this machine)")
    _print(f"card          {made.card} (for `secagg roster add`)")
    _print(f"fingerprint   {identity.public.fingerprint}")


@roster.command()
def add(
    path: RosterFile,
    cards: Annotated[list[Path], typer.Argument(metavar="CARD...", help="what `keys new` made")],
) -> None:
    """Append members by their cards; the file is made where there is none."""
    before = files.load_roster(path) if path.exists() else None
    added = [files.load_card(card) for card in cards]
    Roster.of(added).check_expiry(today())
    after = _appended(before, added)
    files.save_roster(path, after, new=before is None)
    for number, card in enumerate(added, start=len(after) - len(added) + 1):
        _print(f"{number:>4}  {card.member.name}  {card.member.public.fingerprint}")
    _print(f"roster digest   {after.digest().hex()}")
    if not after.proofs:
        _print(UNPROVEN)
    _print("Every party needs this file: compare the digest over the telephone.")


@roster.command()
def show(path: RosterFile) -> None:
    """List the members."""
    _show(files.load_roster(path))


@roster.command()
def check(
    path: RosterFile,
    key: Annotated[Path | None, typer.Option(help="a private key that must be a member's")] = None,
    digest: Annotated[str, typer.Option(help="what the roster's digest must be")] = "",
    passphrase: Prompt = False,
    passphrase_file: FromFile = None,
    passphrase_env: FromEnvironment = "",
) -> None:
    """Verify a roster: every member's proof, the keys' last days, that our own key is in it."""
    members = files.load_roster(path)
    _show(members)
    if digest and digest.strip().lower() != members.digest().hex():
        raise ParameterError(
            f"{path}: the digest is not {digest[:64]}: another roster, or a changed one"
        )
    members.check_expiry(today())
    if key is not None:
        given = _given(passphrase_file, passphrase_env)
        del passphrase  # a protected key's passphrase is asked for anyway
        identity = files.load_identity(key, lambda: given or _ask(confirm=False))
        number = files.named(key, lambda: members.number(identity.public))
        _print(f"{key} is the key of member {number}, {members.member(number).name}")
    proven = f"{len(members)} members, each exactly as its own key signed it."
    _print(proven if members.proofs else UNPROVEN)
    _print("The digest is the one that you gave." if digest else ONLY_COMPARING)


def today() -> str:
    """The day, in UTC, as YYYY-MM-DD."""
    return datetime.now(UTC).date().isoformat()


def _appended(before: Roster | None, added: list[Card]) -> Roster:
    """With all proofs, or with none where those of the members before are not known."""
    if before is None or before.proofs:
        return Roster.of([*(before.cards if before else ()), *added])
    return Roster([*before.members, *(card.member for card in added)])


def _show(members: Roster) -> None:
    day = today()
    for number, each in enumerate(members.members, start=1):
        until = f"until {each.expires}" if each.expires else "no last day"
        until += " (EXPIRED)" if each.expired(day) else ""
        _print(f"{number:>4}  {each.name}  {each.public.scheme}, {until}")
        _print(f"      {each.public.fingerprint}")
    _print(f"roster digest   {members.digest().hex()}")


def _new_passphrase(prompt: bool, path: Path | None, variable: str) -> str:
    if not (prompt or path or variable):
        return ""
    secret = _given(path, variable) or _ask(confirm=True)
    if len(secret) < FEWEST_CHARACTERS:
        raise ParameterError(f"a passphrase has {FEWEST_CHARACTERS} characters or more")
    return secret


def _given(path: Path | None, variable: str) -> str:
    """The passphrase from where the options say, empty where they say nothing."""
    if path is not None and variable:
        raise ParameterError("the passphrase is in a file or in a variable, not in both")
    if path is not None:
        return _first_line(path)
    if variable and not os.environ.get(variable):
        raise ParameterError(f"the environment variable {variable} is empty or not set")
    return os.environ.get(variable, "")


def _first_line(path: Path) -> str:
    try:
        line = files.read(path).decode().split("\n", maxsplit=1)[0].rstrip("\r")
    except UnicodeDecodeError:
        raise ParameterError(f"{path}: a passphrase is text in UTF-8") from None
    if not line:
        raise ParameterError(f"{path}: its first line is empty")
    return line


def _ask(*, confirm: bool) -> str:
    if not sys.stdin.isatty():
        raise ParameterError(
            "a passphrase is needed and there is no terminal to ask on; use --passphrase-file"
        )
    answer: str = typer.prompt("passphrase", hide_input=True, confirmation_prompt=confirm)
    return answer


def _print(line: str) -> None:
    Console().print(line, highlight=False, markup=False, soft_wrap=True)
