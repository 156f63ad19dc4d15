"""The journal on disk: SQLite in WAL mode, one file a party, fsync before every answer."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protocols.base import Envelope
from protocols.journal import CLOSED, Claim, Stored, already_claimed
from secagg.errors import LocalError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS claim (
    session BLOB NOT NULL, party INTEGER NOT NULL, stage TEXT NOT NULL, digest BLOB NOT NULL,
    PRIMARY KEY (session, party, stage)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (
    session BLOB NOT NULL, party INTEGER NOT NULL, snapshot BLOB NOT NULL,
    PRIMARY KEY (session, party)
);
CREATE TABLE IF NOT EXISTS outbox (
    session BLOB NOT NULL, sender INTEGER NOT NULL, position INTEGER NOT NULL,
    recipient INTEGER NOT NULL, stage TEXT NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (session, sender, position)
);
"""
_CLOSE_OTHERS = (
    "DELETE FROM state WHERE party = :party AND session <> :session",
    "DELETE FROM outbox WHERE sender = :party AND session <> :session",
    f"""INSERT OR IGNORE INTO claim SELECT DISTINCT session, party, '{CLOSED}', x'' FROM claim
        WHERE party = :party AND session <> :session""",  # noqa: S608 - two constants of ours
)
SPENT = "spent"


class SqliteJournal:
    """A `protocols.journal.Journal` in the file `path`, readable by its owner only.

    A claim and the state it leads to are one transaction. What a state replaces is
    overwritten in the file (`secure_delete`), and the log that would still hold it is folded
    back, at the latest when the file is opened again; the disk below may keep more. Raises
    LocalError where the disk or the file fails, with nothing half-written.
    """

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        path.chmod(0o600)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA secure_delete = ON")
        self._db.executescript(_SCHEMA)
        self._fold()

    def commit(self, claim: Claim, stored: Stored) -> None:
        """See `protocols.journal.Journal`."""
        with self._transaction():
            if self._claimed(claim):
                raise already_claimed(claim)
            self._db.execute("INSERT INTO claim VALUES (?, ?, ?, ?)", claim)
            self._store(claim.session, claim.party, stored)

    def close(self, session: bytes, party: int, snapshot: bytes) -> None:
        """See `protocols.journal.Journal`."""
        with self._transaction():
            closed = (session, party, CLOSED, b"")
            self._db.execute("INSERT OR IGNORE INTO claim VALUES (?, ?, ?, ?)", closed)
            self._store(session, party, Stored(snapshot, ()))

    def latest(self, session: bytes, party: int) -> Stored | None:
        """See `protocols.journal.Journal`."""
        key = (session, party)
        query = "SELECT snapshot FROM state WHERE session = ? AND party = ?"
        found = self._db.execute(query, key).fetchone()
        if found is None:
            return None
        query = """SELECT sender, recipient, stage, data FROM outbox
                   WHERE session = ? AND sender = ? ORDER BY position"""
        return Stored(found[0], tuple(Envelope(*row) for row in self._db.execute(query, key)))

    def close_others(self, session: bytes, party: int) -> None:
        """Close every other session of this party: what it still holds there is of no use to
        it any more, and of much to a thief.
        """
        key = {"session": session, "party": party}
        with self._transaction():
            for statement in _CLOSE_OTHERS:
                self._db.execute(statement, key)

    def spend(self, model: bytes, party: int) -> None:
        """Record that this party's update of a model (its digest) may be known in a sum."""
        claim = (model, party, SPENT, b"")
        with self._transaction():
            self._db.execute("INSERT OR IGNORE INTO claim VALUES (?, ?, ?, ?)", claim)

    def is_spent(self, model: bytes, party: int) -> bool:
        """Whether `spend` was said of this model, ever."""
        query = "SELECT 1 FROM claim WHERE session = ? AND party = ? AND stage = ?"
        return self._db.execute(query, (model, party, SPENT)).fetchone() is not None

    def _claimed(self, claim: Claim) -> bool:
        query = "SELECT 1 FROM claim WHERE session = ? AND party = ? AND stage IN (?, ?)"
        return self._db.execute(query, (*claim[:3], CLOSED)).fetchone() is not None

    def _store(self, session: bytes, party: int, stored: Stored) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (session, party, stored.snapshot)
        )
        self._db.execute("DELETE FROM outbox WHERE session = ? AND sender = ?", (session, party))
        self._db.executemany(
            "INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?)",
            ((session, party, i, e.to, e.stage, e.data) for i, e in enumerate(stored.outbox)),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
            self._fold()
        except sqlite3.Error as error:
            raise LocalError(f"the journal cannot be written: {error}") from None
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _fold(self) -> None:
        """Move the log into the file, where overwriting is overwriting."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
