"""One session of `masking` (or `plain`) played by hand, with a stop before each message.

Six clients: 1, 2 and 3 go through; 4 shares its keys and does not upload; 5 advertises and no
more; 6 never comes. In active mode there is one more who goes through, and all others are one
further. The play stops before client 1's message reaches the server, when all others have
arrived, and before the server's message reaches client 1.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from protocols import masking, plain
from protocols.base import (
    SERVER,
    Begin,
    Contribute,
    Envelope,
    Join,
    Machine,
    Message,
    Received,
    RoundClosed,
    Session,
)
from secagg.codec import decode, encode
from secagg.rng import SeededSource
from secagg.signing import ED25519
from tests.protocols.support import (
    APPLICATION,
    RecallingSealer,
    begin,
    exact_sum,
    one_hot,
    roster_of,
    session_of,
    signers_of,
)

N, LENGTH, BITS = 6, 6, 7
STOPS = ("advert", "cohort", "shares", "inbox", "upload", "request", "answer")
ACTIVE_STOPS = (*STOPS[:-2], "survivors", "confirmation", "proof", "answer")
Tamper = Mapping[tuple[int, str], Callable[[Any], Message]]


@dataclass(frozen=True)
class Stop:
    """The play holds: `message` from `sender` is about to reach `machine`."""

    name: str
    machine: Machine
    sender: int
    data: bytes

    @property
    def message(self) -> Any:
        """What is about to arrive."""
        return decode(self.data, self.machine.receivable)

    def deliver(self, body: Message | bytes | None = None, sender: int | None = None) -> Any:
        """Hand over something else, or from somebody else."""
        data = self.data if body is None else body if isinstance(body, bytes) else encode(body)
        return self.machine.handle(Received(self.sender if sender is None else sender, data))


@dataclass
class Scene:
    """One session. `tamper` maps (client, stop) to what it does to its own message.

    applications: which clients were shown another model than the server has.
    """

    suite: str = "X25519"
    threshold: int = 0
    floor: int = 0
    number: int = 0
    active: bool = False
    parameters: Any = None
    application: bytes = APPLICATION
    applications: Mapping[int, bytes] = field(default_factory=dict)
    tamper: Tamper = field(default_factory=dict)
    before_upload: Callable[["Scene"], None] = lambda _scene: None
    uploaders: tuple[int, ...] = ()
    answerers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        most = 4 if self.active else 3
        self.uploaders = self.uploaders or tuple(range(1, most + 1))
        self.answerers = self.answerers or self.uploaders
        parameters = self.parameters or self._configure(most)
        n, source, sealer = parameters.clients, SeededSource(b"scene"), RecallingSealer()
        schemes = (ED25519,) if parameters.active else ()
        signers = signers_of(n, schemes)
        members = roster_of(n, schemes) if schemes else None
        self.session: Session = session_of(masking.PROTOCOL, parameters, self.number, members)
        self.server = masking.new_server(self.session, source)
        self.clients = {
            u: masking.new_client(self.session, u, source, sealer, signers.get(u))
            for u in range(1, n)
        }
        self.sharers = tuple(self.clients)[: max(len(self.uploaders), most) + 1]
        self.bits = parameters.modulus_bits
        self.inputs = {u: one_hot(u, parameters.length, self.bits) for u in self.clients}

    @property
    def stops(self) -> tuple[str, ...]:
        """Their names, in order."""
        return ACTIVE_STOPS if self.active else STOPS

    def _configure(self, most: int) -> masking.MaskingParameters:
        threshold = self.threshold or most
        return masking.configure(
            N + self.active,
            LENGTH + self.active,
            BITS,
            threshold=threshold,
            floor=self.floor or most,
            suite=self.suite,
            adversary="active" if self.active else "semi-honest",
        )

    def play(self) -> Iterator[Stop]:
        """The whole session; whoever iterates may look at, and try, each stop."""
        sent = {u: self._send(u, "advert", Join()) for u in self.clients}
        self.adverts = {u: client.state.advert for u, client in self.clients.items()}
        yield from self._arrive("advert", sent)
        sent = yield from self._answers("cohort", "shares", self.sharers)
        yield from self._arrive("shares", sent)
        yield from self._requests("inbox", self.sharers)
        for u, client in self.clients.items():
            begin(client, self.applications.get(u, self.application))
        self.before_upload(self)
        sent = {u: self._send(u, "upload", Contribute(self.inputs[u])) for u in self.uploaders}
        yield from self._arrive("upload", sent)
        if self.active:
            sent = yield from self._answers("survivors", "confirmation", self.uploaders)
            yield from self._arrive("confirmation", sent)
        request = "proof" if self.active else "request"
        sent = yield from self._answers(request, "answer", self.answerers)
        yield from self._arrive("answer", sent)
        self.server.handle(RoundClosed())

    def until(self, name: str) -> Stop:
        """Play up to the stop of that name."""
        self._rest = self.play()
        return next(stop for stop in self._rest if stop.name == name)

    def finish(self) -> None:
        """Play on to the end, and check the sum."""
        for _ in self._rest:
            pass
        self.check()

    def run(self) -> None:
        """The whole session, without a stop."""
        for _ in self.play():
            pass

    def check(self) -> None:
        """The sum is exactly that of the uploads."""
        result = self.server.result
        assert result.contributors == self.uploaders
        assert result.total.tolist() == exact_sum(self.inputs, self.uploaders, self.bits)

    def _arrive(self, name: str, sent: dict[int, Envelope]) -> Iterator[Stop]:
        """Everybody's message at the server, client 1's at last."""
        for u in sorted(sent, reverse=True):
            if u == 1:
                yield Stop(name, self.server, u, sent[u].data)
            self.server.handle(Received(u, sent[u].data))

    def _requests(self, name: str, takers: tuple[int, ...]) -> Iterator[Stop]:
        """Close the stage and hand the server's messages out, after the stop of client 1."""
        requests = {e.to: e.data for e in self.server.handle(RoundClosed())}
        begin(self.server, self.application)
        if 1 in takers:
            yield Stop(name, self.clients[1], SERVER, requests[1])
        self._replies = {
            u: self.clients[u].handle(Received(SERVER, requests[u]))
            for u in takers
            if u in requests
        }
        if name == "cohort" and 1 in self._replies:
            self.sent_by_1 = decode(self._replies[1][0].data, self.server.receivable)

    def _answers(self, name: str, reply: str, takers: tuple[int, ...]) -> Iterator[Stop]:
        yield from self._requests(name, takers)
        return {u: self._tampered(u, reply, sent[0]) for u, sent in self._replies.items()}

    def _send(self, u: int, name: str, event: Join | Contribute) -> Envelope:
        (envelope,) = self.clients[u].handle(event)
        return self._tampered(u, name, envelope)

    def _tampered(self, u: int, name: str, envelope: Envelope) -> Envelope:
        change = self.tamper.get((u, name))
        if change is None:
            return envelope
        body = change(decode(envelope.data, self.server.receivable))
        return Envelope(envelope.sender, envelope.to, envelope.stage, encode(body))


def messages_of(scene: Scene) -> dict[str, bytes]:
    """The message at every stop of an honest session."""
    return {stop.name: stop.data for stop in scene.play()}


def plain_stop(number: int = 0) -> tuple[Stop, Callable[[], None]]:
    """The server of `plain` before client 1's upload, and how the session ends from there."""
    parameters = plain.configure(3, LENGTH, BITS)
    session = session_of(plain.PROTOCOL, parameters, number)
    source = SeededSource(b"scene")
    server = plain.Server(session, source)
    server.handle(Begin(APPLICATION))
    sent = {}
    for u in (3, 2, 1):
        client = plain.Client(session, u, source, RecallingSealer())
        client.handle(Join())
        client.handle(Begin(APPLICATION))
        (sent[u],) = client.handle(Contribute(one_hot(u, LENGTH, BITS)))
    server.handle(Received(2, sent[2].data))

    def finish() -> None:
        server.handle(Received(1, sent[1].data))
        server.handle(RoundClosed())
        inputs = {u: one_hot(u, LENGTH, BITS) for u in (1, 2)}
        assert server.result.contributors == (1, 2)
        assert server.result.total.tolist() == exact_sum(inputs, (1, 2), BITS)

    return Stop("plain upload", server, 1, sent[1].data), finish
