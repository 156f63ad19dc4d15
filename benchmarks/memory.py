"""Peak memory of a client and of the server for one long vector, each in its own process.

    python -m benchmarks.memory --length 100000000 --clients 3

The parties are `protocols.journal.Party` over real pipes, each with its journal on disk.
Reported is the growth of each process's peak above what it had before the session, the input
vector included: for a client in multiples of its packed upload, for the server in multiples
of one vector.
"""

import multiprocessing as mp
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
import typer

from fl.journal import SqliteJournal
from protocols.base import SERVER, Begin, Contribute, Join, Received, RoundClosed, Session
from protocols.journal import Party
from protocols.registry import load
from secagg.rng import SystemSource
from secagg.seal import HpkeSealer
from secagg.warm import warm_up

UNIT = 1 if sys.platform == "darwin" else 1024


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT


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
    base = peak_bytes()
    machine = load("masking").client(agreed, me, SystemSource(), HpkeSealer())
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
    setting: tuple[Any, ...], folder: Path, pipes: Sequence[Connection], report: Connection
) -> None:
    """The server: hears a client that is in the middle of an upload before the others."""
    for _ in warm_up():
        pass
    agreed = session(*setting)
    base = peak_bytes()
    began = time.perf_counter()
    protocol = load("masking")
    journal = SqliteJournal(folder / "server.sqlite", SERVER, agreed.roster)
    party = Party(protocol.server(agreed, SystemSource()), journal)
    numbers = {pipe: me for me, pipe in enumerate(pipes, start=1)}
    for _ in agreed.parameters.stages:
        while party.machine.waits_for:
            first = [pipes[u - 1] for u in party.machine.unfinished]
            for pipe in wait(first or list(pipes)):
                party.handle(Received(numbers[pipe], pipe.recv_bytes()))  # type: ignore[index]
                if party.machine.unfinished:
                    break
        for envelope in party.handle(RoundClosed()):
            pipes[envelope.to - 1].send_bytes(envelope.data)
        if Begin in party.machine.accepts:
            party.handle(Begin(bytes(32)))
    total = party.machine.result.total
    count = len(pipes)
    expected = (np.arange(8, dtype=np.uint64) * (count * (count + 1) // 2)).astype(total.dtype)
    assert np.array_equal(total[:8], expected), "the sum is wrong"  # noqa: S101
    report.send((peak_bytes() - base, time.perf_counter() - began))


def measure(length: int, clients: int, bits: int = 32) -> dict[str, float]:
    """Peaks in multiples (client: of its packed upload; server: of one vector), and seconds."""
    with tempfile.TemporaryDirectory(prefix="secagg-") as folder:
        return _measure(length, clients, bits, Path(folder))


def _measure(length: int, clients: int, bits: int, folder: Path) -> dict[str, float]:
    context = mp.get_context("spawn")
    setting = (clients, length, bits, SystemSource().seed())
    pairs = [context.Pipe() for _ in range(clients)]
    reports = [context.Pipe() for _ in range(clients)]
    ours, theirs = context.Pipe()
    processes = [
        context.Process(target=client, args=(me, setting, folder, pair[1], report[1]))
        for me, (pair, report) in enumerate(zip(pairs, reports, strict=True), start=1)
    ]
    server = context.Process(target=serve, args=(setting, folder, [p[0] for p in pairs], theirs))
    for process in (*processes, server):
        process.start()
    theirs.close()  # so that a process that fails ends the wait
    for _, report in reports:
        report.close()
    grown, seconds = ours.recv()
    peaks = [report.recv() for report, _ in reports]
    for process in (*processes, server):
        process.join()
    packed = length * bits / 8
    return {
        "client": max(peaks) / packed,
        "server": grown / (length * (4 if bits <= 32 else 8)),
        "seconds": seconds,
    }


def main(length: int = 100_000_000, clients: int = 3, bits: int = 32) -> None:
    """Print the three figures."""
    figures = measure(length, clients, bits)
    print(f"{clients} clients, {length:,} values of {bits} bits: {figures['seconds']:.1f} s")
    print(f"client: {figures['client']:.2f} times its packed upload")
    print(f"server: {figures['server']:.2f} times one vector")


if __name__ == "__main__":
    typer.run(main)
