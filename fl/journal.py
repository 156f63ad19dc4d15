"""The journal on disk: SQLite in WAL mode, one file a party, fsync before every answer.

What is kept. `claim` is a chain: every entry is sealed together with the seal before it, and
`head` has the last one, so that no claim can be changed, moved or left out unseen. An entry
names the content that its session's `item`s had with it: the parts of the state and what was
sent, each a row with its digest, with the bytes in `chunk`s. A long vector is written from
the memory that it is in and read into the memory that it will be in, chunk by chunk.

What is refused, by name and with nothing overwritten: another file, a newer version, the
store of another party or roster, and one that was cut off or changed. Without a `key` the
seals find accidents; with one, kept elsewhere, they find everything but the return of an
older copy of the whole file. Nothing inside a file can find that: never put a store back from
a backup.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from fl.identity_files import write_new
from protocols.base import Envelope
from protocols.journal import CLOSED, Claim, Stored, already_claimed
from secagg.errors import LocalError, ProtocolAborted
from secagg.kdf import DIGEST_BYTES, derive, digest

APPLICATION = 0x5E_CA_66_01
VERSION = 1
SPENT, BOUND = "spent", "bound"
"""The stages of marks: entries that belong to no session, and never close."""
CHUNK = 4 * 1024 * 1024
PATIENCE = 5.0
"""Seconds to wait for another process that is at work in the file."""
_MAGIC = b"SQLite format 3\0"
_SCHEMA = f"""
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
CREATE TABLE head (party INTEGER NOT NULL, roster BLOB NOT NULL, seal BLOB NOT NULL);
CREATE TABLE claim (
    number INTEGER PRIMARY KEY, session BLOB NOT NULL, stage TEXT NOT NULL,
    digest BLOB NOT NULL, content BLOB NOT NULL, seal BLOB NOT NULL, UNIQUE (session, stage)
);
CREATE TABLE item (
    session BLOB NOT NULL, kind TEXT NOT NULL, position INTEGER NOT NULL,
    recipient INTEGER NOT NULL, stage TEXT NOT NULL, size INTEGER NOT NULL, digest BLOB NOT NULL,
    PRIMARY KEY (session, kind, position)
);
CREATE TABLE chunk (
    session BLOB NOT NULL, kind TEXT NOT NULL, position INTEGER NOT NULL,
    offset INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (session, kind, position, offset)
);
"""
_STATE, _VECTOR, _ENVELOPE = "state", "vector", "envelope"
_ITEMS = """SELECT kind, position, recipient, stage, size, digest FROM item
            WHERE session = ? ORDER BY kind, position"""


_DELETE = (
    "DELETE FROM chunk WHERE (session, kind, position) = (?, ?, ?)",
    "DELETE FROM item WHERE (session, kind, position) = (?, ?, ?)",
)
_Part = tuple[int, str, bytes | bytearray | memoryview]
"""Recipient, stage and data: of a state or a vector, the data only."""


class _Item(NamedTuple):
    """One row of `item`, without its session."""

    kind: str
    position: int
    recipient: int
    stage: str
    size: int
    digest: bytes


class SqliteJournal:
    """A `protocols.journal.Journal` in the file `path`, readable by its owner only.

    party: whose it is, no other's; roster: 32 bytes, the federation that it is for; key: 32
    bytes for the seals, empty for none. A claim and the state it leads to are one transaction.
    The log is folded into the file before a claim counts as kept: what stands in the log alone
    could be cut off unseen, and what a state replaces would outlive it there (in the file it is
    overwritten, by `secure_delete`; the disk below may keep more). Raises LocalError where the
    disk or the file fails, with nothing half-written.
    """

    def __init__(self, path: Path, party: int, roster: bytes, *, key: bytes = b"") -> None:
        self._path = path
        self._party = party
        self._key = key or bytes(DIGEST_BYTES)
        self._first = derive(self._key, "journal", party, roster)
        if not path.exists():
            write_new(path, _empty(party, roster, self._first), 0o600)
        _check_header(path)
        with self._reading():
            self._db = sqlite3.connect(path, isolation_level=None)
            self._check_owner(party, roster)
            path.chmod(0o600)
            for name, value in (
                ("journal_mode", "WAL"),
                ("synchronous", "FULL"),
                ("fullfsync", "ON"),
                ("secure_delete", "ON"),
            ):
                self._run(f"PRAGMA {name} = {value}")
            self._fold()
            self._verify()

    def commit(self, claim: Claim, stored: Stored) -> None:
        """See `protocols.journal.Journal`."""
        self._check_party(claim.party)
        with self._transaction():
            if self._claimed(claim.session, claim.stage):
                raise already_claimed(claim)
            content = self._store(claim.session, stored)
            self._append(claim.session, claim.stage, claim.digest, content)

    def close(self, session: bytes, party: int, last: Stored) -> None:
        """See `protocols.journal.Journal`."""
        self._check_party(party)
        with self._transaction():
            if not self._claimed(session, CLOSED):
                self._append(session, CLOSED, b"", self._store(session, last))

    def latest(self, session: bytes, party: int) -> Stored | None:
        """See `protocols.journal.Journal`. LocalError where it is not what was stored."""
        self._check_party(party)
        with self._reading():
            query = "SELECT content FROM claim WHERE session = ? ORDER BY number DESC LIMIT 1"
            found = self._run(query, (session,)).fetchone()
            items = self._items(session)
            if (found[0] if found else b"") != _content(items):
                raise self._damaged("a stored state is not the one that was claimed")
            parts = {item[:2]: self._load(session, item) for item in items}
        if not items:
            return None
        outbox = (
            Envelope(party, item.recipient, item.stage, bytes(parts[item[:2]]))
            for item in items
            if item.kind == _ENVELOPE
        )
        vectors = (parts[item[:2]] for item in items if item.kind == _VECTOR)
        return Stored(bytes(parts[_STATE, 0]), tuple(outbox), tuple(vectors))

    def close_others(self, session: bytes) -> None:
        """Close every other session: what is still held there is of no use to this party any
        more, and of much to a thief.
        """
        others = """SELECT session FROM claim WHERE session <> ? AND stage NOT IN (?, ?, ?)
                    EXCEPT SELECT session FROM claim WHERE stage = ?"""
        with self._transaction():
            for (other,) in self._run(others, (session, CLOSED, SPENT, BOUND, CLOSED)).fetchall():
                self._append(other, CLOSED, b"", self._put(other, {}))

    def bind(self, session: bytes, model: bytes) -> None:
        """Record that this party's upload of this session is an update of this model (a digest).

        Raises LocalError where it is one of another model.
        """
        with self._transaction():
            if self._mark(BOUND, session, model) != model:
                raise LocalError("in this session an update of another model was uploaded")

    def bound_to(self, session: bytes) -> bytes | None:
        """The model whose update was uploaded in this session, or None where there was none."""
        return self._marked(BOUND, session)

    def spend(self, what: bytes, session: bytes) -> None:
        """Record that this party's update of a model (its digest) may be known in a sum of this
        session, and must be in no other.
        """
        with self._transaction():
            self._mark(SPENT, what, session)

    def is_spent(self, what: bytes, session: bytes) -> bool:
        """Whether `spend` was ever said of it in another session than this."""
        return self._marked(SPENT, what) not in (None, session)

    def _mark(self, kind: str, what: bytes, value: bytes) -> bytes:
        """The value that this mark of `what` has: this one, unless it had one before."""
        if (before := self._marked(kind, what)) is not None:
            return before
        self._append(_mark_key(kind, what), kind, value, b"")
        return value

    def _marked(self, kind: str, what: bytes) -> bytes | None:
        query = "SELECT digest FROM claim WHERE session = ? AND stage = ?"
        with self._reading():
            found: tuple[bytes] | None = self._run(query, (_mark_key(kind, what), kind)).fetchone()
        return found[0] if found else None

    # --- the chain of claims

    def _claimed(self, session: bytes, stage: str) -> bool:
        query = "SELECT 1 FROM claim WHERE session = ? AND stage IN (?, ?)"
        return self._run(query, (session, stage, CLOSED)).fetchone() is not None

    def _append(self, session: bytes, stage: str, sent: bytes, content: bytes) -> None:
        (before,) = self._run("SELECT seal FROM head").fetchone()
        (count,) = self._run("SELECT coalesce(max(number), 0) FROM claim").fetchone()
        seal = self._seal(before, count + 1, session, stage, sent, content)
        entry = (count + 1, session, stage, sent, content, seal)
        self._run("INSERT INTO claim VALUES (?, ?, ?, ?, ?, ?)", entry)
        self._run("UPDATE head SET seal = ?", (seal,))

    def _seal(self, before: bytes, *entry: Any) -> bytes:
        try:
            return derive(self._key, "journal claim", before, *entry)
        except LocalError:
            raise self._damaged("a value of another type") from None

    def _verify(self) -> None:
        """Every entry follows from the one before it, from the owner to the head: one reading, as
        another process may be writing. Claims are looked up by an index, so it has to have all.
        """
        seal = self._first
        self._run("BEGIN")
        if self._run("PRAGMA integrity_check(claim)").fetchall() != [("ok",)]:
            raise self._damaged("claims and their index differ")
        (head,) = self._run("SELECT seal FROM head").fetchall()
        for place, entry in enumerate(self._run("SELECT * FROM claim ORDER BY number"), start=1):
            seal = self._seal(seal, *entry[:-1])
            if entry[0] != place or entry[-1] != seal:
                raise self._damaged(f"claim {place} does not verify")
        self._run("COMMIT")
        if head != (seal,):
            raise self._damaged("a claim is missing, or it is sealed under another key")

    # --- states and messages, in chunks

    def _store(self, session: bytes, stored: Stored) -> bytes:
        """Replace what is stored of a session; returns the digest of all of it."""
        parts: dict[tuple[str, int], _Part] = {(_STATE, 0): (0, "", stored.snapshot)}
        parts |= {(_VECTOR, i): (0, "", each) for i, each in enumerate(stored.vectors)}
        parts |= {(_ENVELOPE, i): (e.to, e.stage, e.data) for i, e in enumerate(stored.outbox)}
        return self._put(session, parts)

    def _put(self, session: bytes, parts: Mapping[tuple[str, int], _Part]) -> bytes:
        """What is the same stays where it is: a long vector is often stored twice in a row."""
        views = {where: memoryview(data).cast("B") for where, (_, _, data) in parts.items()}
        items = [
            _Item(*where, to, stage, len(views[where]), sha256(views[where]).digest())
            for where, (to, stage, _) in sorted(parts.items())
        ]
        before = self._items(session)
        for item in set(before) - set(items):
            key = (session, item.kind, item.position)
            for delete in _DELETE:
                self._run(delete, key)
        for item in sorted(set(items) - set(before)):
            self._run("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?)", (session, *item))
            self._write(session, item, views[item[:2]])
        return _content(items)

    def _write(self, session: bytes, item: _Item, data: memoryview) -> None:
        for offset in range(0, item.size, CHUNK):
            row = (session, item.kind, item.position, offset, data[offset : offset + CHUNK])
            self._run("INSERT INTO chunk VALUES (?, ?, ?, ?, ?)", row)

    def _items(self, session: bytes) -> list[_Item]:
        return [_Item(*row) for row in self._run(_ITEMS, (session,))]

    def _load(self, session: bytes, item: _Item) -> bytearray:
        query = """SELECT offset, data FROM chunk WHERE (session, kind, position) = (?, ?, ?)
                   ORDER BY offset"""
        whole = bytearray(item.size)
        for offset, data in self._run(query, (session, item.kind, item.position)):
            whole[offset : offset + len(data)] = data
        if len(whole) != item.size or sha256(whole).digest() != item.digest:
            raise self._damaged("stored bytes are not those that were claimed")
        return whole

    # --- the file

    def _check_party(self, party: int) -> None:
        if party != self._party:
            raise LocalError(f"{self._path} is the journal of party {self._party}, not {party}")

    def _check_owner(self, party: int, roster: bytes) -> None:
        found = self._run("SELECT party, roster FROM head").fetchone() or (None, b"")
        if found[0] != party:
            raise LocalError(f"{self._path} is the journal of party {found[0]}, not {party}")
        if found[1] != roster:
            raise LocalError(f"{self._path} is a journal for another roster; use one file for each")

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """Every statement goes through here."""
        return self._db.execute(statement, values)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What SQLite reads may have any type: a value of the wrong one is damage, too."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._damaged(str(error)) from None
        except (TypeError, ValueError, OverflowError):
            raise self._damaged("a value of another type") from None

    def _damaged(self, why: str) -> LocalError:
        return LocalError(
            f"the journal {self._path} is damaged or was changed ({why}); it is left as it is, and "
            "its party sits out until it has a new one"
        )

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is recorded within the block is one transaction: all of it or nothing, on disk
        when the block ends. An abort is an outcome like any other: it is recorded, and raised.
        """
        abort = None
        with self._transaction():
            try:
                yield
            except ProtocolAborted as aborted:
                abort = aborted
        if abort:
            raise abort

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """One transaction, or a part of the one that is open. Raises LocalError."""
        if self._db.in_transaction:
            yield
            return
        before = self._db.total_changes
        try:
            self._run("BEGIN IMMEDIATE")
            yield
            self._run("COMMIT")
            if self._db.total_changes != before:
                self._fold()
        except sqlite3.Error as error:
            raise LocalError(f"the journal {self._path} cannot be written: {error}") from None
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _fold(self) -> None:
        """Move the log into the file: all of it, or LocalError. Of two that do so at once SQLite
        turns one away without waiting, so this one tries again.
        """
        until = time.monotonic() + PATIENCE
        while self._run("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > until:
                raise LocalError(
                    f"the journal {self._path} is in use by another process; end that one"
                )
            time.sleep(0.002)


def _mark_key(kind: str, what: bytes) -> bytes:
    """Where the mark of `what` stands: no session has this number."""
    return digest("journal mark", kind, what)


def _content(items: Iterable[_Item]) -> bytes:
    """32 bytes that stand for all items of a session, empty for none."""
    rows = [part for item in items for part in item]
    try:
        return digest("journal content", *rows) if rows else b""
    except LocalError:
        raise TypeError("a value of another type") from None  # `_reading` names the file


def _empty(party: int, roster: bytes, seal: bytes) -> bytes:
    """A new journal, as the bytes of its file."""
    db = sqlite3.connect(":memory:")
    db.executescript(_SCHEMA)
    with db:
        db.execute("INSERT INTO head VALUES (?, ?, ?)", (party, roster, seal))
    return db.serialize()


def _check_header(path: Path) -> None:
    """Refuse another file before SQLite touches it (its file format, 1.3)."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise LocalError(f"{path}: {error.strerror}") from None
    version, application = (int.from_bytes(header[i : i + 4], "big") for i in (60, 68))
    if len(header) < 100 or not header.startswith(_MAGIC) or application != APPLICATION:
        raise LocalError(f"{path} is not a journal, or was cut off; it is left as it is")
    if version != VERSION:
        raise LocalError(
            f"{path} is a journal of version {version}; this program reads {VERSION}: "
            "it is left as it is, use the program that wrote it"
        )
