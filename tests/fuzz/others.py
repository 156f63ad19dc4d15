"""Targets: the machines of lattice, committee, ckks and bfv, and what is inside their seals."""

from collections.abc import Mapping
from functools import cache, partial
from random import Random
from typing import Any

import numpy as np
from msgspec.structs import replace

from protocols import committee
from protocols.base import SERVER, Machine, Received
from protocols.committee.messages import Delivered, Delivery, OpenRequest, Report, context_of, info
from protocols.he import keys
from protocols.he.client import Client as HeClient
from protocols.he.holder import KeyHolder
from protocols.he.messages import Batch, Offer, Upload
from protocols.he.server import Server as HeServer
from protocols.lattice import machines
from protocols.lattice.states import Relay
from protocols.lattice.states import Upload as LatticeUpload
from secagg import vshare
from secagg.codec import decode, encode
from secagg.errors import DecodeError
from secagg.seal import SystemSealer, suite
from tests.fuzz.decoders import Target, codec
from tests.fuzz.machines import hand_over, in_state
from tests.fuzz.mutate import changed_bytes, changed_message
from tests.fuzz.sessions import Held, N, recorded_of
from tests.protocols.recalling import coins

HELPER = N + 1
_HE = {
    1: ("Idle", "Joined", "Bound", "Ready", "Done"),
    SERVER: ("Joining", "Collecting", "Opening", "Finished"),
    HELPER: ("Idle", "Holding", "Done"),
}
STATES: Mapping[str, Mapping[int, tuple[str, ...]]] = {
    "lattice": {
        1: (
            *("Running, Idle", "Running, Advertised", "Running, Shared"),
            *("Running, Ready", "Running, Bound", "Spent, Uploaded", "Done"),
        ),
        SERVER: (
            *("Preparing, Advertising", "Preparing, Sharing", "Preparing, Prepared"),
            *("Collecting, Collecting", "Opening, Unmasking", "Finished"),
        ),
    },
    "committee": {
        1: ("Idle", "Bound", "Ready", "Done"),
        SERVER: ("Convening", "Collecting", "Reporting", "Opening", "Finished"),
        HELPER: ("Idle", "Announced", "Holding", "Done"),
    },
    "ckks": _HE,
    "bfv": _HE,
}
_WHO = {SERVER: "server", 1: "client", HELPER: "helper"}
_MACHINES: Mapping[str, Mapping[str, type[Machine]]] = {
    "lattice": {"server": machines.Server, "client": machines.Client},
    "committee": {
        "server": committee.Server,
        "client": committee.Client,
        "helper": committee.Decryptor,
    },
    "ckks": {"server": HeServer, "client": HeClient, "helper": KeyHolder},
}


def changed(name: str, rng: Random, data: bytes) -> bytes:
    """Another message; of lattice every other time the message inside is another."""
    if name != "lattice" or rng.random() < 0.5:
        return changed_message(rng, data)
    body = decode(data, machines.Server.receivable)
    if isinstance(body, Relay):
        return encode(replace(body, data=changed_message(rng, body.data)))
    assert isinstance(body, LatticeUpload)
    if not body.inner:
        return changed_message(rng, data)
    return encode(replace(body, inner=changed_message(rng, body.inner)))


# --- inside the seal -----------------------------------------------------------------------


@cache
def _delivery() -> tuple[Held, Held, Delivery, bytes]:
    """A decryptor before the shares and before the request, and the shares; a share of 1's."""
    session = recorded_of("committee")
    before, after = session.held[HELPER, "Announced"], session.held[HELPER, "Holding"]
    before.machine.restore(after.snapshot)
    share = before.machine.state.shares[1]  # type: ignore[attr-defined]
    return before, after, decode(before.due, Delivery), share


def committee_shares(rng: Random) -> None:
    """Client 1 seals something else for a decryptor: it is reported only if it is a share, and
    the decryptor's answer is always one.
    """
    before, after, delivery, share = _delivery()
    machine, degree = before.machine, 4096
    plaintext = _other_share(rng, share)
    context = context_of(delivery.context, delivery.application, delivery.keys)
    public = next(key.public for key in delivery.keys if key.party == HELPER)
    to = suite("X25519").public_key(public)
    sealed = SystemSealer().seal(to, plaintext, info(context, 1, HELPER))
    told = replace(delivery, delivered=(Delivered(1, sealed), *delivery.delivered[1:]))
    machine.restore(before.snapshot)
    (envelope,) = machine.handle(Received(SERVER, encode(told)))
    report = decode(envelope.data, Report)
    assert (1 in report.opened) == _is_share(plaintext, degree)
    assert 2 in report.opened
    asked = replace(decode(after.due, OpenRequest), survivors=report.opened)
    (envelope,) = machine.handle(Received(SERVER, encode(asked)))
    vshare.check(decode(envelope.data, committee.messages.Answer).total, degree)


def _other_share(rng: Random, share: bytes) -> bytes:
    match rng.randrange(4):
        case 0:
            return rng.randbytes(len(share))
        case 1:
            return b"\xff" * len(share)
        case 2:
            return rng.randbytes(rng.randrange(200))
    return changed_bytes(rng, share)


def _is_share(plaintext: bytes, degree: int) -> bool:
    try:
        vshare.check(plaintext, degree)
    except DecodeError:
        return False
    return True


@cache
def _batch(name: str) -> tuple[Held, Upload, Offer, bytes]:
    """A server before an upload, that, the keys that clients were offered, and a plaintext."""
    session = recorded_of(name)
    at = session.held[SERVER, "Collecting"]
    offer = decode(session.held[1, "Bound"].due, Offer)
    server: Any = at.machine
    spread = server.parameters.spread(np.ones(server.parameters.length, np.uint64))
    clear = encode(Batch(server._engine.encrypt(offer.key, spread, coins())))
    return at, decode(at.due, Upload), offer, clear


def ciphertexts(name: str, rng: Random) -> None:
    """Client 2 seals other bytes than SEAL's objects for the server."""
    at, upload, offer, clear = _batch(name)
    to = suite("X25519").public_key(offer.sealing_key)
    where = keys.sealing_info(upload.context, at.sender, upload.index)
    sealed = SystemSealer().seal(to, changed_message(rng, clear), where)
    at.machine.restore(at.snapshot)
    hand_over(at, Received(at.sender, encode(replace(upload, sealed=sealed))))


TARGETS: Mapping[str, Target] = {
    **{
        f"codec, {name} to {who}": codec(machine.receivable, partial(recorded_of, name))
        for name, of in _MACHINES.items()
        for who, machine in of.items()
    },
    **{
        f"{name} {_WHO[party]}: {state}": in_state(
            partial(recorded_of, name), party, state, partial(changed, name)
        )
        for name, parties in STATES.items()
        for party, states in parties.items()
        for state in states
    },
    "inside the seal, committee": committee_shares,
    "inside the seal, ckks": partial(ciphertexts, "ckks"),
    "inside the seal, bfv": partial(ciphertexts, "bfv"),
}
