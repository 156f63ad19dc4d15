"""`lattice`: encryption beside TenSEAL's CKKS, the transform beside its arithmetic, recovery.

The limit of a transform is its butterflies in registers, sixteen lanes each: no load, no
store, no change of order. No transform that multiplies by these instructions can be faster.
"""

import multiprocessing as mp
import os
import platform
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.ckks import Ckks
from benchmarks.masks import streams_of
from benchmarks.measure import DifferentResultsError, Line, close, same, timed
from protocols.base import (
    SERVER,
    Begin,
    Contribute,
    Machine,
    Parameters,
    Protocol,
    Received,
    RoundClosed,
    Session,
)
from protocols.driver import Fault, Options, Simulation
from protocols.masking import MaskingParameters, configure, sparse
from protocols.registry import load
from secagg import gaussian, ntt, ringset, rlwe
from secagg.rng import SystemSource
from secagg.seal import SystemSealer

CLIENTS = 1000
TIMES = 200
AVX2 = (
    {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}
    if platform.machine().lower() in {"x86_64", "amd64"}
    else {}
)
"""Settings of numba for the first CPU that had AVX2; elsewhere there is nothing to narrow."""

TOLERANCE = 1e-4
Graph = Literal["complete", "k-regular"]


def encryption(d: int) -> Line:
    """A client's ciphertext of `d` values whose sums over 1,000 clients have 32 bits."""
    largest = (2**32 - 1) // CLIENTS
    plan = ringset.choose(CLIENTS, d, largest)
    rng = np.random.default_rng(0)
    values = rng.integers(0, largest, d, np.uint32, endpoint=True)
    update = rng.uniform(-1, 1, d).astype(np.float32)
    context = os.urandom(32)

    def ours() -> list[bytes]:
        seed = os.urandom(32)
        key = rlwe.draw_key(seed, context, plan)
        return list(rlwe.encrypt(plan, os.urandom(32), context, values, key, 64))

    peers, sizes = {}, {}
    encrypted = Ckks() if find_spec("tenseal") else None
    if encrypted:
        peers = {"TenSEAL CKKS": timed(lambda: encrypted.encrypt(update))}
        sizes = {"ckks_bytes_per_param": round(encrypted.size(update) / d, 2)}

    def check() -> None:
        same(_opened(plan, context, values), values, "lattice encryption")
        ours()
        if encrypted:
            close(encrypted.sum([update]), update, TOLERANCE, "CKKS encryption")

    params = {"d": d, "clients": CLIENTS, "ring": plan.ring.name, **sizes}
    size = (plan.ciphertext_bytes + plan.ring.degree * plan.key_bits / 8) / d
    return Line("lattice, encrypt", params, timed(ours), check, peers, bytes_per_param=size)


def _opened(plan: ringset.Plan, context: bytes, values: NDArray[Any]) -> NDArray[Any]:
    """Encrypted, added to nothing, and opened."""
    key = rlwe.draw_key(bytes(32), context, plan)
    total, every = rlwe.zero_sum(plan), range(plan.chunks)
    pieces = rlwe.encrypt(plan, os.urandom(32), context, values, key, plan.chunks)
    rlwe.add_chunks(plan, total, every, b"".join(pieces))
    return rlwe.open_sum(plan, total, context, key.astype(np.int64), 1)


def server_addition(d: int) -> Line:
    """What the server does with an upload: check every residue, and add it to the sum."""
    plan = ringset.choose(CLIENTS, d, (2**32 - 1) // CLIENTS)
    key = rlwe.draw_key(bytes(32), bytes(32), plan)
    values = np.zeros(d, np.uint32)
    data = next(rlwe.encrypt(plan, bytes(32), bytes(32), values, key, plan.chunks))
    total, every = rlwe.zero_sum(plan), range(plan.chunks)

    def ours() -> None:
        rlwe.check_piece(plan, every, data)
        rlwe.add_chunks(plan, total, every, data)

    def check() -> None:
        once = rlwe.zero_sum(plan)
        rlwe.add_chunks(plan, once, every, data)
        opened = rlwe.open_sum(plan, once, bytes(32), key.astype(np.int64), 1)
        same(opened, values, "server's addition")
        ours()

    copy = bytearray(len(data))
    limit = timed(lambda: memoryview(copy).__setitem__(slice(None), data))
    params = {"d": d, "ring": plan.ring.name}
    return Line("lattice, server adds an upload", params, timed(ours), check, limit=limit)


def transform(degree: int) -> Line:
    """A forward transform over the largest prime of 30 bits, on one core."""
    work = _Transforms(degree)
    return Line(
        f"NTT, {degree} points",
        {"degree": degree, "prime_bits": ntt.PRIME_BITS},
        partial(work.mean, "ours"),
        work.check,
        peers={"numba, as written": partial(work.mean, "naive")},
        limit=partial(work.mean, "limit"),
    )


def transform_avx2(degree: int) -> Line:
    """The same in a process whose kernels are compiled for a CPU that has AVX2 and no more."""
    context = mp.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=_serve_transforms, args=(degree, theirs), daemon=True)
    with patch.dict(os.environ, AVX2):  # numba reads it when it is imported
        process.start()
    theirs.close()
    native = _Transforms(degree)

    def ask(name: str) -> Any:
        pipe.send(name)
        return pipe.recv()

    def check() -> None:
        native.check()
        if error := ask("check"):
            raise DifferentResultsError(error)

    return Line(
        f"NTT, {degree} points, AVX2",
        {"degree": degree, "prime_bits": ntt.PRIME_BITS, **AVX2},
        partial(ask, "ours"),
        check,
        peers={"all that this CPU has": partial(native.mean, "ours")},
        limit=partial(ask, "limit"),
        close=pipe.close,
    )


class _Transforms:
    """Transforms of one polynomial: ours, the textbook's, and butterflies alone."""

    def __init__(self, degree: int) -> None:
        from benchmarks import butterflies  # noqa: PLC0415 - numba takes half a second

        prime = ntt.primes(1)[0]
        self._tables = ntt.transform(degree, prime)
        self._values = np.random.default_rng(0).integers(0, prime, degree, np.uint32)
        roots, last, _, _ = self._tables.tables
        ours = roots, last, np.uint32(prime), TIMES
        naive = self._tables.powers, np.uint64(prime)
        self._naive = lambda values: butterflies.naive(values, *naive)
        self._work = {
            "ours": partial(butterflies.forward_often, self._values.copy(), *ours),
            "naive": partial(butterflies.naive_often, self._values.copy(), *naive, TIMES),
            "limit": partial(butterflies.limit_often, degree, np.uint32(prime), TIMES),
        }

    def check(self) -> None:
        """Raise DifferentResultsError unless all agree; compiles everything."""
        result, plain = self._values.copy(), self._values.copy()
        self._tables.forward(result)
        same(result, self._tables.forward_reference(self._values), "transform")
        self._naive(plain)
        same(np.sort(plain), np.sort(result), "naive transform")
        for work in self._work.values():
            work()

    def mean(self, name: str) -> float:
        """Seconds of one."""
        return timed(self._work[name])() / TIMES


def _serve_transforms(degree: int, pipe: Any) -> None:
    """Seconds for each name of a contestant; for "check" what is wrong, if anything."""
    from benchmarks import butterflies  # noqa: PLC0415

    work = _Transforms(degree)
    with suppress(EOFError):
        while True:
            name = pipe.recv()
            if name != "check":
                pipe.send(work.mean(name))
                continue
            work.check()
            wide = any("zmm" in code for code in butterflies.forward_often.inspect_asm().values())
            pipe.send("wider registers than AVX2 has" if wide else "")


def noise(count: int) -> Line:
    """Discrete Gaussian samples by the full scan of the table."""
    (coins,) = streams_of(1)

    def check() -> None:
        samples = gaussian.sample(count, coins)
        if abs(float(samples.std()) - float(gaussian.SIGMA)) > 40 / count**0.5:
            raise DifferentResultsError("the samples have another deviation")

    return Line(
        "Gaussian samples", {"count": count}, timed(lambda: gaussian.sample(count, coins)), check
    )


def one_message(d: int, decryptors: int) -> Line:
    """All that a client of `committee` does: encryption, sharing, sealing, one message."""
    committee = load("committee")
    parameters = committee.configure(10, d, 32, largest=(2**32 - 1) // 10, decryptors=decryptors)
    values = np.random.default_rng(0).integers(0, 2**28, d, np.uint32)
    session = Session("committee", parameters, os.urandom(32), os.urandom(32))
    inputs = dict.fromkeys(range(1, 11), values)
    options = Options(record=False)
    simulation = Simulation(committee, session, inputs, SystemSource(), options=options)
    simulation.step("keys")
    request = next(each for each in simulation._requests if each.to == 1)
    client = committee.client(session, 1, SystemSource(), SystemSealer())
    client.handle(Begin(bytes(32)))
    client.handle(Received(SERVER, request.data))
    stored = client.snapshot()

    def fresh() -> Machine:
        client.restore(stored)
        return client

    def check() -> None:
        for stage in parameters.stages[1:]:
            simulation.step(stage)
        total = simulation.server.machine.result.total
        same(total, values.astype(np.uint64) * np.uint64(10), "committee")

    size = sum(len(each.data) for each in fresh().handle(Contribute(values)))
    return Line(
        "committee, one message",
        {"d": d, "holders": decryptors, "threshold": parameters.threshold},
        timed(lambda party: party.handle(Contribute(values)), fresh),
        check,
        bytes_per_param=size / d,
    )


def recovery(d: int, n: int, dropout: float, graph: Graph = "complete") -> Line:
    """The server's last stage: answers in, masks off the sum of short keys, the sum opened.

    graph: that of the inner masking, all with all, or the k-regular one that is safe with 5 %
    corrupt clients and completes with these dropouts. Suite X25519.
    """
    lattice, suite = load("lattice"), "X25519"
    dropped = round(n * dropout)

    def inner(clients: int, length: int, bits: int) -> MaskingParameters:
        if graph == "complete":
            return configure(clients, length, bits, suite=suite)
        return sparse(clients, length, bits, corrupt=0.05, dropout=dropout, suite=suite)

    parameters = lattice.configure(n, d, 32, largest=(2**32 - 1) // n, inner_configure=inner)
    values = np.random.default_rng(0).integers(0, 2**32 // n, d, np.uint32)
    server, stored, answers = _before_the_end(lattice, parameters, values, dropped)

    def fresh() -> Machine:
        server.restore(stored)
        return server

    def work(last: Machine) -> None:
        for answer in answers:
            last.handle(answer)
        last.handle(RoundClosed())

    def check() -> None:
        last = fresh()
        work(last)
        expected = values.astype(np.uint64) * np.uint64(n - dropped)
        same(last.result.total, expected, "lattice recovery")

    regular = "" if graph == "complete" else f", {graph}"
    params = {
        "d": d,
        "clients": n,
        "dropped": dropped,
        "threshold": parameters.inner.threshold,
        "neighbours": parameters.inner.degree,
        "graph": graph,
        "suite": suite,
        "ring": parameters.plan.ring.name,
    }
    name = f"lattice recovery, n={n}, {dropout:.0%} dropouts{regular}"
    return Line(name, params, timed(work, fresh), check)


def _before_the_end(
    lattice: Protocol, parameters: Parameters, values: NDArray[Any], dropped: int
) -> tuple[Machine, bytes, list[Received]]:
    """A server whose requests for the last stage are out, its state, and the answers."""
    session = Session("lattice", parameters, os.urandom(32), os.urandom(32))
    n = parameters.clients
    faults = {(u, "upload"): Fault.VANISH for u in range(1, dropped + 1)}
    inputs = dict.fromkeys(range(1, n + 1), values)
    options = Options(record=False)
    simulation = Simulation(
        lattice, session, inputs, SystemSource(), faults=faults, options=options
    )
    for stage in parameters.stages[:-1]:
        simulation.step(stage)
    server = simulation.server.machine
    answers = [
        Received(answer.sender, answer.data)
        for request in simulation._requests
        for answer in simulation.parties[request.to].handle(Received(SERVER, request.data))
    ]
    return server, server.snapshot(), answers
