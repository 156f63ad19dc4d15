"""The journal on disk: what it keeps, for whom, and across a real crash."""

import multiprocessing as mp
import os
import signal
import stat
from pathlib import Path

import pytest

from fl.journal import SqliteJournal
from protocols.base import Envelope
from protocols.journal import Claim, Stored
from secagg.errors import LocalError

SESSION = bytes(range(32))
OUTBOX = (Envelope(3, 0, "upload", b"masked"),)


def claim(stage: str = "upload", digest: bytes = bytes(32)) -> Claim:
    return Claim(SESSION, 3, stage, digest)


def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    SqliteJournal(path).commit(claim(), Stored(b"state", OUTBOX))
    assert SqliteJournal(path).latest(SESSION, 3) == Stored(b"state", OUTBOX)
    assert SqliteJournal(path).latest(SESSION, 4) is None


@pytest.mark.parametrize("digest", [bytes(32), b"\1" * 32])
def test_a_stage_is_claimed_once_and_the_state_stays(tmp_path: Path, digest: bytes) -> None:
    journal = SqliteJournal(tmp_path / "j.sqlite")
    journal.commit(claim(), Stored(b"first", OUTBOX))
    with pytest.raises(LocalError, match="already sent its messages of stage upload"):
        SqliteJournal(tmp_path / "j.sqlite").commit(claim(digest=digest), Stored(b"second", ()))
    assert journal.latest(SESSION, 3) == Stored(b"first", OUTBOX)


def test_closing_wipes_the_outbox_and_the_secrets(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    journal = SqliteJournal(path)
    journal.commit(claim(), Stored(b"a very secret state", OUTBOX))
    journal.close(SESSION, 3, b"done")
    assert journal.latest(SESSION, 3) == Stored(b"done", ())
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"secret" not in kept
    assert b"masked" not in kept
    with pytest.raises(LocalError):
        journal.commit(claim(), Stored(b"again", ()))


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    SqliteJournal(tmp_path / "j.sqlite")
    assert stat.S_IMODE((tmp_path / "j.sqlite").stat().st_mode) == 0o600


def _commit_and_die(path: Path) -> None:
    SqliteJournal(path).commit(claim(), Stored(b"state", OUTBOX))
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_claim_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    process = mp.get_context("forkserver").Process(target=_commit_and_die, args=(path,))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(LocalError, match="already sent"):
        SqliteJournal(path).commit(claim(), Stored(b"other", ()))


def test_closing_the_others_leaves_nothing_of_them_but_their_claims(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j.sqlite")
    journal.commit(claim(), Stored(b"a secret of an old session", OUTBOX))
    other = b"\7" * 32
    journal.close_others(other, 3)
    assert journal.latest(SESSION, 3) is None
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"secret" not in kept
    for stage in ("upload", "unmask"):
        with pytest.raises(LocalError, match="or closed it"):
            journal.commit(claim(stage), Stored(b"again", ()))
    journal.commit(Claim(other, 3, "upload", bytes(32)), Stored(b"the new one", ()))
    journal.close_others(other, 3)
    assert journal.latest(other, 3) == Stored(b"the new one", ())


def test_what_is_spent_stays_spent(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j.sqlite")
    assert not journal.is_spent(b"model", 3)
    journal.spend(b"model", 3)
    journal.spend(b"model", 3)
    again = SqliteJournal(tmp_path / "j.sqlite")
    assert again.is_spent(b"model", 3)
    assert not again.is_spent(b"model", 4)
    assert not again.is_spent(b"other", 3)


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    path.touch()
    path.chmod(0o644)
    SqliteJournal(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_cannot_be_written_is_a_local_error_and_nothing_is_half_there(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j.sqlite")
    journal._db.execute("DROP TABLE outbox")
    with pytest.raises(LocalError, match="cannot be written"):
        journal.commit(claim(), Stored(b"state", OUTBOX))
    assert journal._db.execute("SELECT count(*) FROM claim").fetchone() == (0,)
    assert not journal._db.in_transaction
