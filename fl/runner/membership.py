"""Who the members are, where they sign: files that a party is given before it starts.

The demo makes all identities in one place, because one person runs it. In a federation every
member makes its own (`secagg keys new`), and all check the same roster (`secagg roster check`).
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from fl.identity_files import load_identity, load_roster, save_roster, write_new
from secagg.errors import LocalError
from secagg.identity import Card, Roster
from secagg.rng import SystemSource
from secagg.signing import ED25519, Identity


@dataclass(frozen=True)
class Membership:
    """Where a member's private key and the roster are."""

    identity: Path
    roster: Path

    def load(self) -> tuple[Identity, Roster]:
        """Both. Raises LocalError, DecodeError or ParameterError, which name the file, and
        LocalError for an identity that has expired.
        """
        roster = load_roster(self.roster)
        today = date.today().isoformat()
        for member in roster.members:
            if member.expired(today):
                raise LocalError(f"{self.roster}: the key of {member.name!r} expired; renew it")
        return load_identity(self.identity, _no_passphrase), roster


def enroll(names: tuple[str, ...], roster: Path, identities: tuple[Path, ...]) -> None:
    """New identities for all members, one file each, and the roster of them."""
    source = SystemSource()
    cards = []
    for name, path in zip(names, identities, strict=True):
        identity = Identity.draw(ED25519, source)
        write_new(path, identity.to_pem(), 0o600)
        cards.append(Card.signed(name, identity))
    save_roster(roster, Roster.of(cards), new=True)


def _no_passphrase() -> str:
    raise LocalError("this identity is protected by a passphrase, and nobody is here to type it")
