"""A node's own store: what it remembers whatever becomes of Flower's Context."""

import sqlite3
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from flwr.app import Context, RecordDict
from flwr.common.serde import context_from_proto
from flwr.proto.message_pb2 import Context as ContextProto

from fl.flower import secure_mod
from fl.flower.state import MOST_REMEMBERED, SHORT, Memory, Short
from fl.flower.store import FILE, STORE, Store, configured_store, warn_without_store
from fl.flower.wire import Offer, Refusal
from fl.journal import SqliteJournal
from protocols.journal import Claim, Stored
from secagg.errors import LocalError
from tests.flower.support import NODES, FakeGrid, toy_app
from tests.flower.test_rounds import MASKING, check_round, messages
from tests.flower.test_state import federation, served


def id_of(number: int) -> bytes:
    return number.to_bytes(16, "big") * 2


def offered(store: Path, number: int) -> tuple[Memory, bytes]:
    """A node in a run of its own, that is offered the session of this number."""
    known = Memory(Context(1, 1, {}, RecordDict(), {}))
    known.open(store)
    known.add(Offer(id_of(number), "masking", b"", 1, (1, 2, 3), (), 1), 1)
    return known, id_of(number)


def bound(
    store: Path, number: int, what: bytes, attempt: int, failed: Collection[bytes] = ()
) -> tuple[Memory, bytes]:
    """As `offered`, and the session is bound to a model; failed: what the server says has."""
    known, session = offered(store, number)
    known.keep([session], failed)
    known.begin(session, what, attempt)
    return known, session


def test_a_store_forgets_no_model(tmp_path: Path) -> None:
    path = tmp_path / "store"
    known, _ = offered(path, 0)
    with known.together():
        for number in range(MOST_REMEMBERED + 2):
            session = id_of(number)
            known._sessions[session] = known._sessions.pop(id_of(max(number - 1, 0)))
            known.begin(session, id_of(number), 1)
            known.upload(session, 1)
            known._use(Short(id_of(number)[:SHORT], 0, spent=True), session)
    assert len(known._used) == MOST_REMEMBERED
    for oldest in (0, 1):
        with pytest.raises(Refusal, match="spent"):
            bound(path, 9999, id_of(oldest), 2)


def test_of_two_runs_at_once_the_later_attempt_wins_and_then_nothing_else(tmp_path: Path) -> None:
    path, what = tmp_path / "store", bytes(32)
    first, one_session = bound(path, 1, what, 1)
    second, other_session = bound(path, 2, what, 2)
    second.upload(other_session, 2)
    with pytest.raises(Refusal, match="higher number"):
        first.upload(one_session, 1)
    second.spend(other_session)
    with pytest.raises(Refusal, match="spent"):
        bound(path, 3, what, 3)


def test_an_upload_closes_the_session_of_the_attempt_before(tmp_path: Path) -> None:
    path, what = tmp_path / "store", bytes(32)
    first, one_session = bound(path, 1, what, 1)
    first.upload(one_session, 1)
    with pytest.raises(Refusal, match="spent"):
        bound(path, 2, what, 2)
    second, other_session = bound(path, 2, what, 2, failed=[one_session])
    second.upload(other_session, 2)
    with pytest.raises(Refusal, match="stage unmask"):
        first.commit(Claim(one_session, 1, "unmask", b""), Stored(b"", ()))
    second.commit(Claim(other_session, 1, "unmask", b""), Stored(b"", ()))


def test_what_fails_together_is_not_recorded(tmp_path: Path) -> None:
    path, what = tmp_path / "store", bytes(32)
    first, session = bound(path, 1, what, 1)
    with suppress(ZeroDivisionError), first.together():
        first.upload(session, 1)
        raise ZeroDivisionError
    bound(path, 2, what, 1)


@pytest.mark.parametrize("last", [False, True])
def test_a_failed_session_is_closed_in_the_store(last: bool, tmp_path: Path) -> None:
    known, session = bound(tmp_path / "store", 1, bytes(32), 1)
    known.close(session, 1, None) if last else known.forget(session)
    again, _ = offered(tmp_path / "store", 1)
    with pytest.raises(Refusal, match="stage advertise"):
        again.commit(Claim(session, 1, "advertise", b""), Stored(b"", ()))


def test_no_secret_goes_into_the_store(tmp_path: Path) -> None:
    """The machine's state stays in the Context."""
    inner, grid = federation(folder=tmp_path)
    check_round(grid, 1, {})
    for node in NODES:
        known = Memory(context_from_proto(ContextProto.FromString(inner.state(node))))
        assert all(len(kept.snapshot) > 64 for kept in known._sessions.values())
        db = sqlite3.connect(tmp_path / str(node))
        assert db.execute("SELECT count(*) FROM chunk WHERE length(data) > 64").fetchone() == (0,)
        assert db.execute("SELECT max(size) FROM item").fetchone()[0] <= 64
        db.close()


def test_where_a_node_says_that_its_store_is(tmp_path: Path) -> None:
    context = Context(1, 1, {STORE: str(tmp_path)}, RecordDict(), {})
    assert configured_store(context) == tmp_path
    assert configured_store(Context(1, 1, {}, RecordDict(), {})) is None
    Store(tmp_path)
    assert (tmp_path / FILE).is_file()
    Store(tmp_path / "file")
    assert (tmp_path / "file").is_file()
    with pytest.raises(Refusal, match=r"secagg-store is 7"):
        configured_store(Context(1, 1, {STORE: 7}, RecordDict(), {}))


def test_the_node_s_configuration_is_used(tmp_path: Path) -> None:
    apps = {node: toy_app(secure_mod(MASKING)) for node in NODES}
    configs = {node: {STORE: str(tmp_path / str(node))} for node in NODES}
    inner = FakeGrid(apps, configs=configs)
    check_round(served(inner), 1, {})
    assert sorted(path.name for path in tmp_path.iterdir() if "-" not in path.name) == sorted(
        map(str, NODES)
    )


def test_one_path_for_all(tmp_path: Path) -> None:
    """Two nodes with one file are refused: the second says what the first has said."""
    apps = {n: toy_app(secure_mod(MASKING, store=tmp_path / "shared")) for n in NODES}
    inner = FakeGrid(apps)
    grid = served(inner)
    list(grid.send_and_receive(messages()))
    assert sorted(grid.rounds[0].lost) == list(NODES)
    assert "own store" in grid.rounds[0].lost[22].reason


@pytest.mark.parametrize("what", ["damaged", "not there"])
def test_without_the_store_that_it_is_to_have_a_node_takes_no_part(
    what: str, tmp_path: Path
) -> None:
    _, grid = federation(folder=tmp_path)
    check_round(grid, 1, {})
    if what == "damaged":
        (tmp_path / "33").write_bytes(b"not a journal")
    else:
        (tmp_path / "33").unlink()
        for each in tmp_path.glob("33-*"):
            each.unlink()
        (tmp_path / "33").symlink_to(tmp_path / "nowhere" / "33")
    check_round(grid, 2, {33: "upload"})
    assert str(tmp_path) not in grid.rounds[-1].lost[33].reason, "the server need not know paths"


def test_a_store_is_opened_while_another_process_writes_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SqliteJournal(tmp_path / "store", 1, bytes(32))
    writer.commit(Claim(bytes(32), 1, "advertise", b""), Stored(b"", ()))
    monkeypatch.setattr(writer, "_fold", lambda: None)  # it would wait for the reader
    seal = SqliteJournal._seal
    wrote: list[bool] = []

    def interleaved(self: SqliteJournal, before: bytes, *entry: Any) -> bytes:
        if self is not writer and not wrote:
            wrote.append(True)
            writer.commit(Claim(bytes(32), 1, "share", b""), Stored(b"", ()))
        return seal(self, before, *entry)

    monkeypatch.setattr(SqliteJournal, "_seal", interleaved)
    reader = SqliteJournal(tmp_path / "store", 1, bytes(32))
    assert wrote
    with pytest.raises(LocalError, match="already sent"):
        reader.commit(Claim(bytes(32), 1, "share", b""), Stored(b"", ()))


def test_of_two_that_answer_the_same_message_at_once_one_speaks(tmp_path: Path) -> None:
    Store(tmp_path)
    start, spoke = Barrier(2), [0] * 20

    def answer() -> None:
        for number in range(len(spoke)):
            start.wait()
            with suppress(LocalError):
                Store(tmp_path).claim(Claim(id_of(number), 1, "upload", b""))
                spoke[number] += 1

    both = [Thread(target=answer) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert max(spoke) == 1
    assert sum(spoke) > 0


def test_a_node_without_a_store_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    warn_without_store.cache_clear()
    _, grid = federation()
    check_round(grid, 1, {})
    told = [each.getMessage() for each in caplog.records if STORE in each.getMessage()]
    assert len(told) == 1
    assert "no store" in told[0]
