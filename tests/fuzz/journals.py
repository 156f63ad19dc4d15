"""Target: the journal's file, opened on bytes that are not those that were written.

A journal that opens has every claim that it ever took; what it says was stored was stored. Who
damages the file can make it unusable, with the key or without, and never make a party say
something twice.
"""

import shutil
import tempfile
from atexit import register
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from random import Random

from fl.journal import SqliteJournal
from protocols.base import Envelope
from protocols.journal import Claim, Stored
from secagg.errors import LocalError
from tests.fuzz.decoders import Target
from tests.fuzz.mutate import changed_bytes

PARTY, ROSTER, KEY = 3, b"r" * 32, b"k" * 32
SESSIONS = (bytes(range(32)), b"\7" * 32, b"\x08" * 32)
MODEL = b"m" * 32
CLAIMS = (
    Claim(SESSIONS[0], PARTY, "advertise", b"\1" * 32),
    Claim(SESSIONS[0], PARTY, "upload", b"\2" * 32),
    Claim(SESSIONS[1], PARTY, "upload", b"\3" * 32),
    Claim(SESSIONS[2], PARTY, "upload", b"\4" * 32),
)
PAGE = 4096


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp())
    register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _opened(key: bytes) -> SqliteJournal:
    return SqliteJournal(_folder() / "j.sqlite", PARTY, ROSTER, key=key)


def _put(data: bytes, log: bytes = b"") -> None:
    """The file as it is now, with what is beside it."""
    for name, content in (("", data), ("-wal", log), ("-shm", b"")):
        file = _folder() / f"j.sqlite{name}"
        file.unlink(missing_ok=True)
        if content or not name:
            file.write_bytes(content)


@cache
def honest(key: bytes) -> tuple[bytes, tuple[Stored | None, ...]]:
    """A file with claims of three sessions, of which one is closed; what is stored of each."""
    (_folder() / "j.sqlite").unlink(missing_ok=True)
    journal, outbox = _opened(key), (Envelope(PARTY, 0, "upload", b"masked" * 30),)
    for number, claim in enumerate(CLAIMS):
        stored = Stored(bytes([number]) * 700, outbox, (bytes([number]) * 5000,))
        journal.commit(claim, stored)
    journal.close(SESSIONS[2], PARTY, Stored(b"done", ()))
    journal.bind(SESSIONS[0], MODEL)
    journal.spend(MODEL, SESSIONS[0])
    latest = tuple(journal.latest(session, PARTY) for session in SESSIONS)
    journal._db.close()
    return (_folder() / "j.sqlite").read_bytes(), latest


def journal_file(key: bytes, rng: Random) -> None:
    """Refused when it is opened or read; or all of it is there."""
    data, latest = honest(key)
    _put(_changed(rng, data), _log(rng, data))
    journal = _opened(key)
    try:
        _keeps_its_claims(journal)
        found = tuple(journal.latest(session, PARTY) for session in SESSIONS)
        assert found == latest
    finally:
        journal._db.close()


def _keeps_its_claims(journal: SqliteJournal) -> None:
    for claim in (*CLAIMS, Claim(SESSIONS[2], PARTY, "unmask", b"")):
        try:
            journal.commit(claim, Stored(b"again", ()))
        except LocalError:
            continue
        raise AssertionError(f"a second claim of {claim.stage} was taken")
    assert journal.is_spent(MODEL, SESSIONS[1])
    assert journal.bound_to(SESSIONS[0]) == MODEL


def _changed(rng: Random, data: bytes) -> bytes:
    """Bits and bytes anywhere or at the head of a page; whole pages; or a cut."""
    out, pages = bytearray(data), len(data) // PAGE
    at, other = rng.randrange(pages) * PAGE, rng.randrange(pages) * PAGE
    match rng.randrange(7):
        case 0:
            out[at : at + PAGE] = data[other : other + PAGE]
        case 1:
            out[at : at + PAGE] = bytes(PAGE)
        case 2:
            return data[: rng.choice((at, rng.randrange(len(data))))]
        case 3:
            return changed_bytes(rng, data)
        case 4:
            for _ in range(rng.randrange(1, 5)):
                out[at + rng.randrange(100)] = rng.randrange(256)
        case 5:
            place = rng.choice([i for i in range(len(data) - 3) if data[i : i + 4].strip(b"\0")])
            out[place] ^= 1 << rng.randrange(8)
        case _:
            for _ in range(rng.randrange(1, 9)):
                out[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(out)


def _log(rng: Random, data: bytes) -> bytes:
    """Mostly no log; or one that nobody wrote, with a header that SQLite takes for its own."""
    if rng.random() < 0.8:
        return b""
    head = b"\x37\x7f\x06\x82" + (3007000).to_bytes(4, "big") + PAGE.to_bytes(4, "big")
    page = rng.randrange(len(data) // PAGE) * PAGE
    frame = rng.randrange(1, 9).to_bytes(4, "big") * 2 + rng.randbytes(16)
    return head + rng.randbytes(20) + frame + data[page : page + PAGE]


TARGETS: Mapping[str, Target] = {
    "journal file": partial(journal_file, b""),
    "journal file, with a key": partial(journal_file, KEY),
}
