"""The journal on disk: what it keeps, for whom, and everything that it refuses."""

import multiprocessing as mp
import os
import signal
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fl import journal as module
from fl.journal import SqliteJournal
from protocols import plain
from protocols.base import SERVER, Begin, Envelope, Received, RoundClosed, Session
from protocols.journal import Claim, Party, Stored
from secagg.errors import LocalError
from secagg.rng import SeededSource

SESSION, OTHER = bytes(range(32)), b"\7" * 32
ROSTER = b"r" * 32
OUTBOX = (Envelope(3, 0, "upload", b"masked"), Envelope(3, 2, "upload", b""))
KEY = b"k" * 32


def opened(folder: Path, party: int = 3, roster: bytes = ROSTER, key: bytes = b"") -> SqliteJournal:
    return SqliteJournal(folder / "j.sqlite", party, roster, key=key)


def claim(stage: str = "upload", digest: bytes = bytes(32), session: bytes = SESSION) -> Claim:
    return Claim(session, 3, stage, digest)


def kept(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    vectors = (bytearray(b"one"), bytearray())
    opened(tmp_path).commit(claim(), Stored(b"state", OUTBOX, vectors))
    assert opened(tmp_path).latest(SESSION, 3) == Stored(b"state", OUTBOX, vectors)
    assert opened(tmp_path).latest(OTHER, 3) is None


@pytest.mark.parametrize("digest", [bytes(32), b"\1" * 32])
def test_a_stage_is_claimed_once_and_the_state_stays(tmp_path: Path, digest: bytes) -> None:
    journal = opened(tmp_path)
    journal.commit(claim(), Stored(b"first", OUTBOX))
    with pytest.raises(LocalError, match="already sent its messages of stage upload"):
        opened(tmp_path).commit(claim(digest=digest), Stored(b"second", ()))
    assert journal.latest(SESSION, 3) == Stored(b"first", OUTBOX)


def test_closing_wipes_the_outbox_and_the_secrets(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.commit(claim(), Stored(b"a very secret state", OUTBOX, (b"secret vector",)))
    journal.close(SESSION, 3, Stored(b"done", ()))
    assert journal.latest(SESSION, 3) == Stored(b"done", ())
    assert b"secret" not in kept(tmp_path)
    assert b"masked" not in kept(tmp_path)
    with pytest.raises(LocalError):
        journal.commit(claim(), Stored(b"again", ()))
    journal.close(SESSION, 3, Stored(b"done differently", ()))
    assert opened(tmp_path).latest(SESSION, 3) == Stored(b"done", ())


@pytest.mark.parametrize("mode", [None, 0o644])
def test_only_the_owner_can_read_it(tmp_path: Path, mode: int | None) -> None:
    opened(tmp_path)
    if mode:
        (tmp_path / "j.sqlite").chmod(mode)
        opened(tmp_path)
    assert stat.S_IMODE((tmp_path / "j.sqlite").stat().st_mode) == 0o600


def _commit_and_die(folder: Path) -> None:
    opened(folder).commit(claim(), Stored(b"state", OUTBOX))
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_claim_survives_sigkill(tmp_path: Path) -> None:
    process = mp.get_context("spawn").Process(target=_commit_and_die, args=(tmp_path,))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(LocalError, match="already sent"):
        opened(tmp_path).commit(claim(), Stored(b"other", ()))


def _deleted(log: Path) -> None:
    log.unlink(missing_ok=True)


def _cut(log: Path) -> None:
    if log.exists() and log.stat().st_size:
        os.truncate(log, log.stat().st_size - 100)


def _flipped(log: Path) -> None:
    raw = bytearray(log.read_bytes()) if log.exists() else bytearray()
    if raw:
        raw[-2000] ^= 1
        log.write_bytes(raw)


@pytest.mark.parametrize("harm", [_deleted, _cut, _flipped])
def test_no_claim_is_lost_with_the_log(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """SQLite ignores a log that ends early or does not verify, and so does not miss it."""
    process = mp.get_context("spawn").Process(target=_commit_and_die, args=(tmp_path,))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    harm(tmp_path / "j.sqlite-wal")
    journal = opened(tmp_path)
    assert journal.latest(SESSION, 3) == Stored(b"state", OUTBOX)
    with pytest.raises(LocalError, match="already sent"):
        journal.commit(claim(), Stored(b"other", ()))


def test_what_cannot_be_folded_is_not_said(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.commit(claim("advertise"), Stored(b"state", ()))
    journal._run("PRAGMA busy_timeout = 1")
    reader = sqlite3.connect(tmp_path / "j.sqlite")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM claim").fetchall()
    with pytest.raises(LocalError, match="in use by another process"):
        journal.commit(claim(), Stored(b"state", OUTBOX))
    reader.close()


def test_closing_the_others_leaves_nothing_of_them_but_their_claims(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.commit(claim(), Stored(b"a secret of an old session", OUTBOX))
    journal.spend(b"model", SESSION)
    journal.close_others(OTHER)
    assert journal.latest(SESSION, 3) is None
    assert b"secret" not in kept(tmp_path)
    for stage in ("upload", "unmask"):
        with pytest.raises(LocalError, match="or closed it"):
            journal.commit(claim(stage), Stored(b"again", ()))
    journal.commit(claim(session=OTHER), Stored(b"the new one", ()))
    journal.close_others(OTHER)
    assert journal.latest(OTHER, 3) == Stored(b"the new one", ())
    assert opened(tmp_path).is_spent(b"model", OTHER)


def test_what_is_spent_stays_spent(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    assert not journal.is_spent(b"model", OTHER)
    journal.spend(b"model", SESSION)
    journal.spend(b"model", SESSION)
    again = opened(tmp_path)
    assert again.is_spent(b"model", OTHER)
    assert not again.is_spent(b"other", OTHER)
    assert not again.is_spent(b"model", SESSION), "in the session that spent it, it goes on"
    again.spend(b"model", OTHER)
    assert again.is_spent(b"model", OTHER)


def test_what_cannot_be_written_is_a_local_error_and_nothing_is_half_there(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal._db.execute("DROP TABLE chunk")
    with pytest.raises(LocalError, match="cannot be written"):
        journal.commit(claim(), Stored(b"state", OUTBOX))
    assert journal._db.execute("SELECT count(*) FROM claim").fetchone() == (0,)
    assert journal._db.execute("SELECT count(*) FROM item").fetchone() == (0,)
    assert not journal._db.in_transaction


# --- long vectors ------------------------------------------------------------------------


def test_long_parts_are_kept_in_chunks_and_what_is_the_same_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 1000)
    journal = opened(tmp_path)
    vector = bytearray(os.urandom(2500))
    whole = (Envelope(3, 0, "upload", bytes(vector[:2001])),)
    journal.commit(claim(), Stored(b"a", whole, (memoryview(vector),)))
    rows = "SELECT kind, position, offset, length(data) FROM chunk ORDER BY 1, 2, 3"
    assert journal._db.execute(rows).fetchall() == [
        ("envelope", 0, 0, 1000), ("envelope", 0, 1000, 1000), ("envelope", 0, 2000, 1),
        ("state", 0, 0, 1),
        ("vector", 0, 0, 1000), ("vector", 0, 1000, 1000), ("vector", 0, 2000, 500),
    ]  # fmt: skip
    written: list[str] = []
    journal._db.set_trace_callback(written.append)
    journal.commit(claim("unmask"), Stored(b"b", (), (memoryview(vector),)))
    journal._db.set_trace_callback(None)
    assert sum("INTO chunk" in statement for statement in written) == 1, "the state alone"
    assert opened(tmp_path).latest(SESSION, 3) == Stored(b"b", (), (vector,))
    vector[1500] ^= 1
    journal.commit(claim("more"), Stored(b"b", (), (memoryview(vector), b"short")))
    assert opened(tmp_path).latest(SESSION, 3) == Stored(b"b", (), (vector, b"short"))


def test_a_servers_sum_is_read_back_into_the_memory_that_it_is_in(tmp_path: Path) -> None:
    """And goes on from there: 1 + 2 before the restart, + 3 after it."""
    parameters = plain.configure(3, 5, 32)
    session = Session("plain", parameters, SESSION, ROSTER)
    journal = opened(tmp_path, SERVER)
    server = Party(plain.PROTOCOL.server(session, SeededSource(b"")), journal)
    server.handle(Begin(bytes(32)))
    uploads = [_upload(session, me) for me in (1, 2, 3)]
    for me in (1, 2):
        server.handle(Received(me, uploads[me - 1]))
    journal.commit(Claim(SESSION, SERVER, "upload", b""), server._stored(()))
    machine = plain.PROTOCOL.server(session, SeededSource(b""))
    again = Party(machine, opened(tmp_path, SERVER))
    assert again.resume() == ()
    assert machine.snapshot() == server.machine.snapshot()
    again.handle(Received(3, uploads[2]))
    again.handle(RoundClosed())
    assert machine.result.total.tolist() == [6] * 5
    assert machine.result.contributors == (1, 2, 3)


def _upload(session: Session, me: int) -> bytes:
    from protocols.base import Contribute, Join  # noqa: PLC0415
    from secagg.seal import SystemSealer  # noqa: PLC0415

    client = plain.PROTOCOL.client(session, me, SeededSource(b""), SystemSealer())
    client.handle(Join())
    client.handle(Begin(bytes(32)))
    (envelope,) = client.handle(Contribute(np.full(5, me, np.uint32)))
    return envelope.data


# --- what is refused ---------------------------------------------------------------------


def filled(folder: Path, key: bytes = b"") -> Path:
    """A journal with claims of two sessions, and nothing in its log."""
    journal = opened(folder, key=key)
    journal.commit(claim("advertise"), Stored(b"first", OUTBOX))
    journal.commit(claim(), Stored(b"state" * 3000, OUTBOX, (b"v" * 9000,)))
    journal.commit(claim(session=OTHER), Stored(b"other", OUTBOX))
    journal.spend(b"m" * 32, SESSION)
    journal._db.close()
    return folder / "j.sqlite"


def refuses(path: Path, reason: str, read: Callable[[], object]) -> None:
    """Named, with the file, which is left byte for byte as it is."""
    before = path.read_bytes()
    with pytest.raises(LocalError, match=reason) as error:
        read()
    assert str(path) in str(error.value)
    assert path.read_bytes() == before


def test_the_store_of_another_party_roster_or_key_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path)
    refuses(path, "the journal of party 3, not 4", lambda: opened(tmp_path, 4))
    refuses(path, "for another roster", lambda: opened(tmp_path, roster=b"s" * 32))
    refuses(path, "does not verify", lambda: opened(tmp_path, key=KEY))
    journal = opened(tmp_path)
    refuses(path, "of party 3, not 4", lambda: journal.latest(SESSION, 4))
    other = Claim(SESSION, 4, "unmask", b"")
    refuses(path, "of party 3, not 4", lambda: journal.commit(other, Stored(b"", ())))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a journal, or was cut off"),
        (b"some notes of mine\n" * 20, "not a journal"),
        (b"SQLite format 3\0" + bytes(84), "not a journal"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "j.sqlite"
    path.write_bytes(content)
    refuses(path, reason, lambda: opened(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["j.sqlite"]


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "j.sqlite")
    db.execute("CREATE TABLE t (x)")
    db.close()
    refuses(tmp_path / "j.sqlite", "not a journal", lambda: opened(tmp_path))


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 2")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    refuses(path, "a journal of version 2; this program reads 1", lambda: opened(tmp_path))


def test_a_session_is_of_one_model(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    assert journal.bound_to(SESSION) is None
    journal.bind(SESSION, b"a model")
    journal.bind(SESSION, b"a model")
    with pytest.raises(LocalError, match="of another model"):
        journal.bind(SESSION, b"another")
    journal.close_others(OTHER)
    assert opened(tmp_path).bound_to(SESSION) == b"a model"


def test_a_session_with_the_number_of_a_model_is_not_confused_with_it(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.commit(claim(), Stored(b"state", OUTBOX))
    journal.spend(SESSION, OTHER)
    journal.bind(OTHER, SESSION)
    assert opened(tmp_path).latest(SESSION, 3) == Stored(b"state", OUTBOX)


def read_all(folder: Path, key: bytes = b"") -> None:
    journal = opened(folder, key=key)
    for session in (SESSION, OTHER):
        journal.latest(session, 3)


def test_a_truncated_store_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    path = filled(tmp_path)
    whole = path.read_bytes()
    assert len(whole) % 4096 == 0
    for size in (*range(0, len(whole), 4096), 50, 99, 5000, len(whole) - 1):
        path.write_bytes(whole[:size])
        path.with_name("j.sqlite-wal").unlink(missing_ok=True)
        refuses(path, r"j.sqlite", lambda: read_all(tmp_path))
    path.write_bytes(whole)
    read_all(tmp_path)


TAMPERED = [
    "DELETE FROM claim WHERE number = 4",
    "DELETE FROM claim WHERE number = 2",
    "DELETE FROM claim",
    "UPDATE claim SET stage = 'uploads' WHERE number = 2",
    "UPDATE claim SET digest = x'00' WHERE number = 1",
    "UPDATE claim SET content = x'' WHERE number = 2",
    "UPDATE claim SET session = zeroblob(32) WHERE number = 4",
    "UPDATE claim SET number = 9 WHERE number = 4",
    "UPDATE head SET seal = zeroblob(32)",
    "DELETE FROM head",
    "INSERT INTO head SELECT * FROM head",
    "DELETE FROM item WHERE kind = 'envelope'",
    "DELETE FROM item WHERE session <> zeroblob(32)",
    "UPDATE item SET recipient = 1 WHERE kind = 'envelope' AND position = 0",
    "UPDATE item SET stage = 'unmask' WHERE kind = 'envelope'",
    "UPDATE item SET digest = zeroblob(32) WHERE kind = 'state'",
    "UPDATE item SET size = size + 1 WHERE kind = 'vector'",
    "UPDATE item SET position = 5 WHERE kind = 'vector'",
    "DELETE FROM chunk WHERE kind = 'vector'",
    "UPDATE chunk SET data = x'00' WHERE kind = 'state'",
    "UPDATE chunk SET offset = 4 WHERE kind = 'vector'",
    "UPDATE chunk SET data = data || x'00' WHERE kind = 'envelope'",
    "UPDATE claim SET digest = 1.5 WHERE number = 1",
    "UPDATE claim SET number = -1 WHERE number = 1",
    "UPDATE item SET digest = 1.5 WHERE kind = 'state'",
    "UPDATE item SET recipient = -1 WHERE kind = 'state'",
    "UPDATE item SET size = 1.5 WHERE kind = 'vector'",
    "DROP TABLE chunk",
    "DROP TABLE claim",
]


@pytest.mark.parametrize("statement", TAMPERED)
def test_a_tampered_store_is_refused(tmp_path: Path, statement: str) -> None:
    path = filled(tmp_path)
    db = sqlite3.connect(path)
    assert db.execute(statement).rowcount != 0
    db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    refuses(
        path, r"is damaged or was changed|the journal of party None", lambda: read_all(tmp_path)
    )


def test_a_claim_that_its_index_does_not_know_is_not_lost(tmp_path: Path) -> None:
    """The chain is read from the table, and a second claim is looked up in the index: where
    that is damaged, all claims would verify and each could be made once more.
    """
    path = filled(tmp_path)
    db = sqlite3.connect(path)
    query = "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_claim_1'"
    (page,) = db.execute(query).fetchone()
    db.close()
    data, cells = bytearray(path.read_bytes()), 4096 * (page - 1) + 3
    data[cells : cells + 2] = bytes(2)
    path.write_bytes(data)
    refuses(path, "claims and their index differ", lambda: opened(tmp_path))


def test_marks_that_cannot_be_read_are_a_local_error(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal._db.execute("DROP TABLE claim")
    for call in (
        lambda: journal.is_spent(b"m" * 32, SESSION),
        lambda: journal.bound_to(SESSION),
        lambda: journal.spend(b"m" * 32, SESSION),
        lambda: journal.bind(SESSION, b"m" * 32),
    ):
        with pytest.raises(LocalError, match=r"j\.sqlite"):
            call()


def test_a_state_of_another_session_is_refused(tmp_path: Path) -> None:
    """What is stored of one session, put in the place of what is stored of another."""
    path = filled(tmp_path)
    db = sqlite3.connect(path)
    for table in ("item", "chunk"):
        db.execute(f"DELETE FROM {table} WHERE session = ?", (OTHER,))  # noqa: S608
        db.execute(f"UPDATE {table} SET session = ?", (OTHER,))  # noqa: S608
    db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    journal = opened(tmp_path)
    refuses(path, "not the one that was claimed", lambda: journal.latest(OTHER, 3))
    refuses(path, "not the one that was claimed", lambda: journal.latest(SESSION, 3))


def test_every_flipped_byte_of_what_matters_is_found(tmp_path: Path) -> None:
    """One bit in every 97th byte of the file: refused, or what is read is what was written."""
    path = filled(tmp_path, KEY)
    whole = path.read_bytes()
    expected = opened(tmp_path, key=KEY).latest(SESSION, 3)
    found = 0
    for place in range(100, len(whole), 97):
        for beside in ("-wal", "-shm"):
            path.with_name("j.sqlite" + beside).unlink(missing_ok=True)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            journal = opened(tmp_path, key=KEY)
            assert journal.latest(SESSION, 3) == expected
            with pytest.raises(LocalError):
                journal.commit(claim(), Stored(b"again", ()))
        except LocalError:
            found += 1
    assert found > 100


def test_with_a_key_no_seal_can_be_made_without_it(tmp_path: Path) -> None:
    """Who can write the file, and computes every digest afresh, is found out by the key."""
    path = filled(tmp_path, KEY)
    forged = tmp_path / "forged"
    forged.mkdir()
    without = opened(forged)
    without.commit(claim("advertise"), Stored(b"mine", ()))
    without._db.close()
    path.write_bytes((forged / "j.sqlite").read_bytes())
    refuses(path, "does not verify", lambda: opened(tmp_path, key=KEY))
