"""What the server has after an honest session: the sum, and what each client sent.

`individuals` is the best that a server does with the messages alone. Of `plain` that is the
update itself; of the reference, what both shares that it collects give; of everything else
the longest byte string of the upload, read as if it were clear.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.security.targets import Target, Words
from benchmarks.security.vulnerable import Server as WeakServer
from benchmarks.security.vulnerable.messages import Answer, Ask, Upload
from benchmarks.security.vulnerable.parameters import ZEROS
from benchmarks.security.vulnerable.server import Unmask
from protocols.base import SERVER, Envelope, Received
from protocols.driver import Simulation
from secagg.codec import decode, encode
from secagg.encoding import FixedPoint
from secagg.errors import ProtocolError
from secagg.kdf import derive
from secagg.packing import packed_bytes, unpack
from secagg.prg import StreamKey

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """mean: (d,) of the updates in the sum; updates: (d,) each, as far as they can be read."""

    mean: Floats
    updates: dict[int, Floats]


def observe(
    target: Target,
    updates: Mapping[int, NDArray[np.floating[Any]]],
    clip: float,
    *,
    bits: int = 24,
    individuals: bool = False,
) -> View:
    """Run one honest session over these updates, clipped to [-clip, clip] a coordinate.

    Raises ProtocolAborted where it ends without a sum.
    """
    encoding = FixedPoint(bits, clip, 1, len(updates))
    inputs = {u: encode_with(encoding, update, u) for u, update in updates.items()}
    length = len(next(iter(inputs.values())))
    parameters = target.parameters(len(updates), length, encoding.modulus_bits)
    simulation = target.simulation(parameters, inputs, record=individuals)
    outcome = simulation.run()
    if outcome.abort:
        raise outcome.abort
    if outcome.result is None or len(outcome.result.contributors) != len(updates):
        raise ValueError(f"an honest session of {target.name} lost a client: {outcome.errors}")
    mean, _ = encoding.decode(outcome.result.total)
    words = seen(simulation, length, encoding.modulus_bits) if individuals else {}
    return View(mean, {u: as_clear(each, encoding) for u, each in words.items()})


def encode_with(encoding: FixedPoint, update: NDArray[np.floating[Any]], number: int) -> Words:
    """An update with weight 1; the coins are those of `number`, so that runs repeat."""
    raw = derive(number.to_bytes(32, "big"), "stochastic rounding", length=28)
    values = np.ascontiguousarray(update, np.float64)
    coins = StreamKey(raw[:16], raw[16:])
    words: Any = encoding.encode_words(values, 1, coins, clip=True).words
    return np.asarray(words, np.uint64)


def as_clear(words: Words, encoding: FixedPoint) -> Floats:
    """Words modulo 2^k as the update (d,) that they would be with weight 1."""
    scaled: Floats = words[:-1].astype(np.float64) / encoding.scale - encoding.clip
    return scaled


def seen(simulation: Simulation, length: int, bits: int) -> dict[int, Words]:
    """Each client's upload as (length,) words: read off after a whole session."""
    server = simulation.server.machine
    if isinstance(server, WeakServer):
        return unmasked(simulation)
    uploads = [e for e in simulation.transcript if e.to == SERVER and e.stage == "upload"]
    clients = range(1, simulation.session.parameters.clients + 1)
    return {u: _words([e for e in uploads if e.sender == u], length, bits) for u in clients}


def unmasked(simulation: Simulation, everyone: bool = True) -> dict[int, Words]:
    """Every client's update in the weak protocol: its server asks for both shares of all."""
    parameters: Any = simulation.session.parameters
    clients = tuple(range(1, parameters.clients + 1))
    uploads, keys = {}, {}
    for envelope in simulation.transcript:
        if envelope.to == SERVER:
            body: Any = decode(envelope.data, WeakServer.receivable)
            if isinstance(body, Upload):
                uploads[envelope.sender], context = body.packed, body.context
        elif hasattr(body := decode(envelope.data, _weak_requests()), "keys"):
            keys = {key.party: key for key in body.keys}
    answers = {u: ask(simulation, u, Ask(context, clients, clients)) for u in clients}
    found = {u: answer for u, answer in answers.items() if answer is not None}
    unmask = Unmask(parameters, context, keys, found)
    top = np.uint64(2**parameters.modulus_bits - 1)
    return {
        u: (unmask.words(uploads[u]) - unmask.own(u) - unmask.pairs(u, clients))[:-ZEROS] & top
        for u in (clients if everyone else clients[:1])
    }


def ask(simulation: Simulation, u: int, request: Ask) -> Answer | None:
    """What client u of the weak protocol answers to this, None if it refuses."""
    try:
        sent = simulation.parties[u].handle(Received(SERVER, encode(request)))
    except ProtocolError:
        return None
    return decode(sent[0].data, Answer) if sent else None


def _weak_requests() -> Any:
    from benchmarks.security.vulnerable import Client  # noqa: PLC0415

    return Client.receivable


def _words(envelopes: list[Envelope], length: int, bits: int) -> Words:
    raw = b"".join(_longest(msgspec.msgpack.decode(e.data)) for e in envelopes)
    size = packed_bytes(length, bits)
    padded = bytearray(raw[:size].ljust(size, b"\0"))
    spare = 8 * size - length * bits
    if spare:
        padded[-1] &= 255 >> spare
    return np.asarray(unpack(bytes(padded), bits, length), np.uint64)


def _longest(value: Any) -> bytes:
    """The longest byte string within, and within what those nest."""
    if isinstance(value, bytes):
        return value
    found = [_longest(each) for each in value] if isinstance(value, list) else []
    return max(found, key=len, default=b"")
