"""The journal on disk: SQLite in WAL mode, one file a party, fsync before every answer."""

import sqlite3
from pathlib import Path

from protocols.base import Envelope
from protocols.journal import Claim, Stored, already_claimed
from secagg.codec import Value, decode, encode

_SCHEMA = """
CREATE TABLE IF NOT EXISTS claim (
    session BLOB NOT NULL, party INTEGER NOT NULL, stage TEXT NOT NULL, digest BLOB NOT NULL,
    PRIMARY KEY (session, party, stage)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stored (
    session BLOB NOT NULL, party INTEGER NOT NULL, snapshot BLOB NOT NULL, outbox BLOB NOT NULL,
    PRIMARY KEY (session, party)
) WITHOUT ROWID;
"""
_STORE = "INSERT OR REPLACE INTO stored VALUES (?, ?, ?, ?)"


class _Row(Value, frozen=True):
    sender: int
    to: int
    stage: str
    data: bytes


class SqliteJournal:
    """A `protocols.journal.Journal` in the file `path`, readable by its owner only.

    A claim and the state it leads to are one transaction. What a state replaces is
    overwritten (`secure_delete`), and the log, which would still hold it, is folded back.
    """

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA secure_delete = ON")
        self._db.executescript(_SCHEMA)

    def commit(self, claim: Claim, stored: Stored) -> None:
        """See `protocols.journal.Journal`."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute("INSERT INTO claim VALUES (?, ?, ?, ?)", claim)
            self._db.execute(_STORE, (claim.session, claim.party, *_row(stored)))
            self._db.execute("COMMIT")
        except sqlite3.IntegrityError:
            self._db.execute("ROLLBACK")
            raise already_claimed(claim) from None
        self._fold()

    def close(self, session: bytes, party: int, snapshot: bytes) -> None:
        """See `protocols.journal.Journal`."""
        self._db.execute(_STORE, (session, party, *_row(Stored(snapshot, ()))))
        self._fold()

    def latest(self, session: bytes, party: int) -> Stored | None:
        """See `protocols.journal.Journal`."""
        query = "SELECT snapshot, outbox FROM stored WHERE session = ? AND party = ?"
        found = self._db.execute(query, (session, party)).fetchone()
        if found is None:
            return None
        rows = decode(found[1], tuple[_Row, ...])
        return Stored(found[0], tuple(Envelope(r.sender, r.to, r.stage, r.data) for r in rows))

    def _fold(self) -> None:
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _row(stored: Stored) -> tuple[bytes, bytes]:
    rows = tuple(_Row(e.sender, e.to, e.stage, e.data) for e in stored.outbox)
    return stored.snapshot, encode(rows)
