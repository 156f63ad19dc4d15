"""The real machines and those of tests.reference behind one interface (see `play`)."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from protocols import masking
from protocols.base import Begin, Contribute, Envelope, Join, Machine, Received, RoundClosed
from protocols.base import Session as RealSession
from protocols.masking.server_state import Finished
from secagg import errors
from secagg.identity import Member, PublicIdentity, Roster
from secagg.seal import PublicKey, Sealer, SystemSealer
from tests.reference import client as reference_client
from tests.reference import derivations as d
from tests.reference import server as reference_server
from tests.reference.errors import Abort, Local, Peer, Refusal
from tests.reference.seal import CIPHERTEXT, SEED, Encapsulate, KeyPair, encapsulate_by_the_library
from tests.reference.session import private_key
from tests.reference.wire import decode
from tests.vectors.play import Entry, Script

Sign = Callable[[bytes], bytes]


def translated(error: errors.SecaggError) -> Refusal:
    """A real error as one of the reference."""
    match error:
        case errors.PeerError():
            return Peer(error.reason, error.peer, error.stage)
        case errors.ProtocolAborted():
            return Abort(error.reason, error.stage, error.blame)
        case errors.LocalError():
            return Local(str(error))
    raise error


class _Given:
    """A source that gives these seeds, in this order, and no others."""

    def __init__(self, seeds: Sequence[bytes]) -> None:
        self._left = list(seeds)

    def seed(self) -> bytes:
        return self._left.pop(0)


class _Signer:
    def __init__(self, public: PublicIdentity, sign: Sign) -> None:
        self.public, self.sign = public, sign


class _Sealer:
    def __init__(self, encapsulate: Encapsulate) -> None:
        self._encapsulate = encapsulate

    def seal(self, to: PublicKey, plaintext: bytes, info: bytes) -> bytes:
        raise AssertionError("masking seals between published keys")

    def encapsulate(self, to: PublicKey, info: bytes) -> tuple[bytes, bytes]:
        return self._encapsulate(to.raw, info) if to.suite.ciphertext_bytes else (b"", b"")


class RealParty:
    """A machine of `protocols.masking`."""

    def __init__(self, machine: Machine, script: Script) -> None:
        self.machine, self._script = machine, script

    def handle(self, event: Any) -> tuple[Envelope, ...]:
        try:
            return self.machine.handle(event)
        except errors.SecaggError as error:
            raise translated(error) from None

    def begin(self) -> None:
        if Begin in self.machine.accepts:
            self.handle(Begin(self._script.application))

    @property
    def stage(self) -> str:
        return self.machine.state.stage


class RealClient(RealParty):
    def start(self) -> list[bytes]:
        return [e.data for e in self.handle(Join())]

    def hear(self, sender: int, data: bytes) -> list[bytes]:
        sent = self.handle(Received(sender, data))
        self.begin()
        if Contribute in self.machine.accepts:
            values = np.array(self._script.values[self.machine.me], np.uint64)
            sent += self.handle(Contribute(values))
        return [e.data for e in sent]


class RealServer(RealParty):
    def hear(self, sender: int, data: bytes) -> None:
        self.handle(Received(sender, data))

    def close(self) -> list[tuple[int, bytes]]:
        sent = self.handle(RoundClosed())
        self.begin()
        return [(e.to, e.data) for e in sent]

    @property
    def result(self) -> dict[str, Any] | None:
        if not isinstance(self.machine.state, Finished):
            return None
        result = self.machine.result
        return {
            "total": result.total.tolist(),
            "contributors": list(result.contributors),
            "dropped": dict(result.dropped),
            "bad": [[bad.dealer, bad.holder, bad.what] for bad in result.bad_answers],
        }


def real_session(script: Script) -> RealSession:
    s = script.session
    members = [Member(m.name, PublicIdentity(m.scheme, m.key), m.expires) for m in s.members]
    roster = Roster(members) if members else None
    parameters = masking.MaskingParameters(**vars(s.parameters))
    return RealSession("masking", parameters, s.session_id, s.roster, roster)


def signer_of(script: Script, u: int) -> Sign | None:
    """As the member's private key does; ML-DSA-65 signs anew each time."""
    if not script.session.members:
        return None
    return private_key(script.session.members[u - 1].scheme, script.identities[u]).sign


def real_client(
    script: Script, u: int, *, sign: Sign | None = None, encapsulate: Encapsulate | None = None
) -> RealClient:
    session = real_session(script)
    sealer: Sealer = _Sealer(encapsulate) if encapsulate else SystemSealer()
    signer: Any = None
    if session.members:
        signer = _Signer(session.members.member(u).public, sign or signer_of(script, u))
    machine = masking.new_client(session, u, _Given(script.seeds[u]), sealer, signer)
    return RealClient(machine, script)


def real_server(script: Script) -> RealServer:
    return RealServer(masking.new_server(real_session(script), _Given([script.graph_seed])), script)


def plain_client(
    script: Script, u: int, *, sign: Sign | None = None, encapsulate: Encapsulate | None = None
) -> reference_client.Client:
    """Of the reference. Ed25519 is deterministic; for others `sign` is asked."""
    return reference_client.Client(
        script.session,
        u,
        script.seeds[u],
        script.application,
        script.values[u],
        sign=sign or signer_of(script, u),
        encapsulate=encapsulate or encapsulate_by_the_library,
    )


def plain_server(script: Script) -> reference_server.Server:
    return reference_server.Server(script.session, script.graph_seed, script.application)


# --- what a transcript recorded -----------------------------------------------------------


def recorded(script: Script, transcript: Sequence[Entry], u: int) -> dict[str, Any]:
    """Arguments by which client u repeats what it did: its encapsulations are taken from the
    transcript in their order, and its signatures where the scheme is hedged.
    """
    own = [e for e in transcript if e.sender == u]
    sealed: Iterator[bytes] = iter(
        [each for e in own if e.stage == "share" for each in decode(e.data, ["shares"]).sealed]
    )
    pairs = {pair.public: pair for pair in map(partial(_pair_of, script), script.seeds)}

    def encapsulate(public: bytes, _info: bytes) -> tuple[bytes, bytes]:
        ciphertext = next(sealed)[: CIPHERTEXT[script.session.parameters.suite]]
        return pairs[public].decapsulate(ciphertext), ciphertext

    arguments: dict[str, Any] = {"encapsulate": encapsulate}
    members = script.session.members
    if members and members[u - 1].scheme != "Ed25519":
        tags = {"advertise": "advert", "consistency": "confirmation"}
        signed = [decode(e.data, [tags[e.stage]]).signature for e in own if e.stage in tags]
        left = iter(signed)
        arguments["sign"] = lambda _message: next(left)
    return arguments


def _pair_of(script: Script, u: int) -> KeyPair:
    suite, context0 = script.session.parameters.suite, script.session.context0
    return KeyPair(suite, d.channel_seed(script.seeds[u].channel, context0, u, SEED[suite]))
