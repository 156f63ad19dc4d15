"""`secagg bench memory`: peaks of a client and of the server for one long vector, streamed.

Every party is a process: a `protocols.journal.Party` over a real pipe, with its journal on
disk. A peak is what the process grew by above what it had before the session, the input vector
included: for a client in multiples of its packed upload, for the server in multiples of one
vector. The server hears its clients in two orders: an upload that has begun before all others,
or a piece of each in turn as long as it takes them (`MAX_OPEN_UPLOADS`, `MAX_OPEN_BYTES`).
"""

import json
import multiprocessing as mp
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.measure import DifferentResultsError, same
from fl.journal import SqliteJournal
from protocols.base import SERVER, Begin, Contribute, Join, Received, RoundClosed, Session
from protocols.journal import Party
from protocols.registry import load
from secagg.errors import LocalError
from secagg.rng import SystemSource
from secagg.seal import SystemSealer
from secagg.warm import warm_up

UNIT = 1 if sys.platform == "darwin" else 1024
BITS = 32
LENGTHS = {"quick": 30_000_000, "full": 100_000_000}
CASES = tuple((clients, interleaved) for clients in (3, 8) for interleaved in (False, True))
GOAL = 3.0
"""Less than: a client in its packed uploads, the server in vectors. Below 20 million values what
a process needs anyway, some 50 MB, is more than the vectors leave.
"""


@dataclass(frozen=True)
class Peak:
    """What one session took. client: in packed uploads, the most of all clients; server: in
    vectors; open: the most uploads that were incomplete at one time.
    """

    clients: int
    length: int
    bits: int
    interleaved: bool
    client: float
    server: float
    open: int
    seconds: float

    @property
    def order(self) -> str:
        """In which order the server heard its clients."""
        return "interleaved" if self.interleaved else "one after the other"


def show(peaks: Sequence[Peak], console: Console) -> None:
    """The table, and below it the goal."""
    columns = ("clients", "values", "pieces arrive", "open", "a client", "the server", "time")
    table = Table(*columns, box=None)
    for each in peaks:
        table.add_row(*cells(each))
    console.print(table)
    console.print(
        f"a client in packed uploads, the server in vectors; both under {GOAL:.0f}: ", end=""
    )
    console.print("[green]met[/]" if met(peaks) else "[red]not met[/]")
    if min(each.length for each in peaks) < LENGTHS["quick"]:
        console.print("(what a process needs anyway weighs more than so short a vector)")


def cells(peak: Peak) -> tuple[str, ...]:
    """A row of the table."""
    sizes = (str(peak.clients), f"{peak.length:,}", peak.order, str(peak.open))
    return (*sizes, f"{peak.client:.2f}", f"{peak.server:.2f}", f"{peak.seconds:.0f} s")


def met(peaks: Sequence[Peak]) -> bool:
    """Whether every peak is below the goal."""
    return all(max(each.client, each.server) < GOAL for each in peaks)


def to_json(peaks: Sequence[Peak]) -> str:
    """For a file."""
    return json.dumps([asdict(each) for each in peaks], indent=1) + "\n"


def resident_bytes() -> int:
    """What this process has now, from where `peak_bytes` counts; elsewhere than on Linux the
    most so far.
    """
    if sys.platform != "linux":
        return peak_bytes()
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    return _status("VmRSS")


def peak_bytes() -> int:
    """The most that this process had since `resident_bytes`."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
    return _status("VmHWM")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def session(clients: int, length: int, bits: int, session_id: bytes) -> Session:
    """A masking session over the complete graph."""
    parameters = load("masking").configure(clients, length, bits, suite="X25519")
    return Session("masking", parameters, session_id, bytes(32))


def client(
    me: int, setting: tuple[Any, ...], folder: Path, pipe: Connection, report: Connection
) -> None:
    """One client: its vector is `me` times 0, 1, 2, …, modulo 2^16."""
    for _ in warm_up():
        pass
    agreed = session(*setting)
    base = resident_bytes()
    machine = load("masking").client(agreed, me, SystemSource(), SystemSealer())
    party = Party(machine, SqliteJournal(folder / f"{me}.sqlite", me, agreed.roster))
    ramp = np.arange(agreed.parameters.length, dtype=np.uint32)
    ramp &= np.uint32(0xFFFF)
    ramp *= np.uint32(me)
    sent = list(party.handle(Join()))
    while not party.machine.finished:
        for envelope in sent:
            pipe.send_bytes(envelope.data)
        sent = list(party.handle(Received(SERVER, pipe.recv_bytes())))
        if Begin in party.machine.accepts:
            party.handle(Begin(bytes(32)))
        if Contribute in party.machine.accepts:
            sent += party.handle(Contribute(ramp))
    for envelope in sent:
        pipe.send_bytes(envelope.data)
    report.send(peak_bytes() - base)


def serve(
    setting: tuple[Any, ...],
    interleaved: bool,
    folder: Path,
    pipes: Sequence[Connection],
    report: Connection,
) -> None:
    """The server."""
    for _ in warm_up():
        pass
    agreed = session(*setting)
    base = resident_bytes()
    began = time.perf_counter()
    journal = SqliteJournal(folder / "server.sqlite", SERVER, agreed.roster)
    party = Party(load("masking").server(agreed, SystemSource()), journal)
    most = 0
    for _ in agreed.parameters.stages:
        most = max(most, _hear(party, pipes, interleaved))
        for envelope in party.handle(RoundClosed()):
            pipes[envelope.to - 1].send_bytes(envelope.data)
        if Begin in party.machine.accepts:
            party.handle(Begin(bytes(32)))
    total, count = party.machine.result.total, len(pipes)
    expected = (np.arange(8, dtype=np.uint64) * (count * (count + 1) // 2)).astype(total.dtype)
    same(total[:8], expected, "the sum of long vectors")
    report.send((peak_bytes() - base, most, time.perf_counter() - began))


def _hear(party: Party, pipes: Sequence[Connection], interleaved: bool) -> int:
    """A stage's messages; the most uploads that were incomplete at one time.

    A piece that is refused because too many are is handed over again when one is complete, and
    only those in the middle of an upload are heard until then.
    """
    machine, most = party.machine, 0
    held: Received | None = None
    while machine.waits_for:
        begun = machine.unfinished
        narrow = begun and (held or not interleaved)
        for pipe in wait([pipes[u - 1] for u in (begun if narrow else machine.waits_for)]):
            piece = Received(1 + pipes.index(pipe), pipe.recv_bytes())  # type: ignore[arg-type]
            held = held if _taken(party, piece) else piece
            most = max(most, len(machine.unfinished))
            if machine.unfinished and (held or not interleaved):
                break
        if held and len(machine.unfinished) < len(begun) and _taken(party, held):
            held = None
    return most


def _taken(party: Party, piece: Received) -> bool:
    try:
        party.handle(piece)
    except LocalError:
        return False
    return True


def peak_of(length: int, clients: int, bits: int = BITS, *, interleaved: bool = False) -> Peak:
    """One session. Raises DifferentResultsError for a wrong sum, or where a party fails."""
    with tempfile.TemporaryDirectory(prefix="secagg-") as folder:
        return _peak_of(length, clients, bits, interleaved, Path(folder))


def _peak_of(length: int, clients: int, bits: int, interleaved: bool, folder: Path) -> Peak:
    context = mp.get_context("spawn")
    setting = (clients, length, bits, SystemSource().seed())
    pairs = [context.Pipe() for _ in range(clients)]
    reports = [context.Pipe() for _ in range(clients)]
    ours, theirs = context.Pipe()
    processes = [
        context.Process(target=client, args=(me, setting, folder, pair[1], report[1]))
        for me, (pair, report) in enumerate(zip(pairs, reports, strict=True), start=1)
    ]
    given = (setting, interleaved, folder, [pair[0] for pair in pairs], theirs)
    server = context.Process(target=serve, args=given)
    for process in (*processes, server):
        process.start()
    for end in (theirs, *(each for pair in (*pairs, *reports) for each in pair[1:])):
        end.close()  # so that a process that fails ends the wait
    for pair in pairs:
        pair[0].close()
    try:
        grown, most, seconds = ours.recv()
    except EOFError:
        raise DifferentResultsError("a party ended without a result") from None
    peaks = [report.recv() for report, _ in reports]
    for process in (*processes, server):
        process.join()
    uploaded, vector = length * bits / 8, length * (4 if bits <= 32 else 8)
    of_client, of_server = max(peaks) / uploaded, grown / vector
    return Peak(clients, length, bits, interleaved, of_client, of_server, most, seconds)
