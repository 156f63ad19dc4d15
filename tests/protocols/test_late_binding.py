"""What is trained is said once, after the keys are exchanged, and binds all that follows.

Keys, shares and envelopes are made before anybody has seen the model. From then on every mask,
upload, signature and answer comes from context2, which has this party's own application digest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from protocols import masking
from protocols.base import (
    SERVER,
    Begin,
    Contribute,
    Envelope,
    Join,
    Machine,
    Received,
    RoundClosed,
    Session,
)
from protocols.journal import MemoryJournal, Party
from protocols.masking import keys
from protocols.masking.messages import Upload
from secagg.codec import decode, encode
from secagg.context import bound_context
from secagg.errors import LocalError, PeerError, ProtocolAborted
from secagg.kdf import table
from secagg.ring import RingVector
from secagg.rng import SystemSource
from tests.protocols import oracle
from tests.protocols.active_support import takes_off_right_self_masks
from tests.protocols.support import APPLICATION, VARIANTS, Variant, begin, exact_sum, one_hot

N = 5
OTHER = bytes(reversed(range(32)))
NAMES = ("masking, X25519", "masking, active", "masking, k-regular", "lattice", "lattice, active")
LATE = [variant for variant in VARIANTS if variant.name in NAMES]
EVERY = pytest.mark.parametrize("variant", LATE, ids=repr)


@dataclass
class World:
    """A session by parties over one journal. `steps` stops after everything that happens until
    the keys are exchanged; nobody has been told what is trained.
    """

    variant: Variant
    sent: list[Envelope] = field(default_factory=list)
    refusals: list[PeerError] = field(default_factory=list)

    def __post_init__(self) -> None:
        parameters = self.variant.configure(N, N, 16)
        self.session: Session = self.variant.session(parameters)
        self.journal = MemoryJournal()
        self.inputs = {u: one_hot(u, N, 16) for u in range(1, N + 1)}
        self.clients = {u: self.client(u) for u in self.inputs}
        self.server = self.new_server()

    def client(self, u: int) -> Party:
        """A machine that has not resumed."""
        return Party(self.variant.client(self.session, u, SystemSource()), self.journal)

    def new_server(self) -> Party:
        """The same for the server."""
        return Party(self.variant.protocol.server(self.session, SystemSource()), self.journal)

    def steps(self) -> Iterator[None]:
        """Stages advertise and share, and the inboxes."""
        yield
        replies = {u: self._keep(client.handle(Join())) for u, client in self.clients.items()}
        for _ in range(2):
            yield
            for u, sent in replies.items():
                self.hear(u, sent)
            yield
            replies = self.ask()
        yield

    def exchanged(self) -> "World":
        """All of them."""
        for _ in self.steps():
            pass
        return self

    def ask(self) -> dict[int, tuple[Envelope, ...]]:
        """The server closes the stage; what each client answers."""
        requests = self._keep(self.server.handle(RoundClosed()))
        asked = ((e.to, Received(SERVER, e.data)) for e in requests)
        return {u: self._keep(self.clients[u].handle(request)) for u, request in asked}

    def hear(self, u: int, sent: tuple[Envelope, ...]) -> None:
        """The server takes, or refuses, what client u sent."""
        for each in sent:
            try:
                self.server.handle(Received(u, each.data))
            except PeerError as error:
                self.refusals.append(error)

    def upload(self, u: int, application: bytes = APPLICATION) -> tuple[Envelope, ...]:
        """Client u is told what is trained, and uploads."""
        begin(self.clients[u], application)
        return self._keep(self.clients[u].handle(Contribute(self.inputs[u])))

    def finish(self, *contributors: int) -> None:
        """From the end of stage upload on: the sum is exactly that of these clients."""
        while not self.server.machine.finished:
            for u, sent in self.ask().items():
                self.hear(u, sent)
        result = self.server.machine.result
        assert result.contributors == contributors
        assert result.total.tolist() == exact_sum(self.inputs, contributors, 16)

    def _keep(self, sent: tuple[Envelope, ...]) -> tuple[Envelope, ...]:
        self.sent += sent
        return sent


NOT_DUE = "is not allowed at stage|has no context at its upload stage"


def refuses(party: Party | Machine, event: Any) -> None:
    """A LocalError that says what is not due, and nothing has changed."""
    machine = party.machine if isinstance(party, Party) else party
    before = machine.snapshot()
    with pytest.raises(LocalError, match=NOT_DUE):
        party.handle(event)
    assert machine.snapshot() == before


# --- when, and once ------------------------------------------------------------------------


@EVERY
def test_nothing_is_said_of_the_model_before_the_keys_are_exchanged(variant: Variant) -> None:
    world, stops = World(variant), 0
    for _ in world.steps():
        if world.server.machine.accepts & {Begin}:
            break  # the server has closed stage share: it is next
        stops += 1
        for party in (world.server, *world.clients.values()):
            refuses(party, Begin(APPLICATION))
        for u, client in world.clients.items():
            refuses(client, Contribute(world.inputs[u]))
    assert stops == 5
    for u, client in world.clients.items():
        assert Begin in client.machine.accepts
        refuses(client, Contribute(world.inputs[u]))


@EVERY
def test_a_client_is_told_once(variant: Variant) -> None:
    world = World(variant).exchanged()
    client = world.clients[1]
    client.handle(Begin(APPLICATION))
    for again in (APPLICATION, OTHER):
        refuses(client, Begin(again))
    assert client.handle(Contribute(world.inputs[1]))
    for again in (APPLICATION, OTHER):
        refuses(client, Begin(again))


@EVERY
def test_a_server_is_told_once_and_before_the_first_upload(variant: Variant) -> None:
    world = World(variant).exchanged()
    sent = {u: world.upload(u) for u in world.clients}
    refuses(world.server, RoundClosed())
    before = world.server.machine.snapshot()
    for u, (upload,) in sent.items():
        with pytest.raises(PeerError, match="unexpected Upload") as caught:
            world.server.handle(Received(u, upload.data))
        assert caught.value.peer == u
        assert world.server.machine.snapshot() == before
    world.server.handle(Begin(APPLICATION))
    for again in (APPLICATION, OTHER):
        refuses(world.server, Begin(again))
    for u, uploads in sent.items():
        world.hear(u, uploads)
        refuses(world.server, Begin(OTHER))
    assert world.refusals == []
    world.finish(*world.clients)


# --- another model than the server's -------------------------------------------------------


@EVERY
def test_an_upload_for_another_model_is_refused_and_nothing_of_it_is_unmasked(
    variant: Variant,
) -> None:
    world = World(variant).exchanged()
    begin(world.server)
    for u in world.clients:
        world.hear(u, world.upload(u, OTHER if u == 1 else APPLICATION))
    (refusal,) = world.refusals
    assert (refusal.peer, refusal.stage) == (1, "upload")
    assert "Upload of another session" in refusal.reason
    assert refusal.expected == "a message bound to this session, roster and model"
    world.finish(2, 3, 4, 5)
    assert world.server.machine.result.dropped[1] == "upload"
    if variant.protocol.name == "masking":
        of_1 = {share.kind for share in oracle.revealed(world.sent) if share.dealer == 1}
        assert of_1 == {"mask"}, "its self mask stays on"


@EVERY
def test_a_server_with_another_model_than_all_clients_gets_nothing(variant: Variant) -> None:
    world = World(variant).exchanged()
    begin(world.server, OTHER)
    for u in world.clients:
        world.hear(u, world.upload(u))
    assert [each.peer for each in world.refusals] == list(world.clients)
    with pytest.raises(ProtocolAborted, match="only 0 clients uploaded"):
        world.server.handle(RoundClosed())


def given_everything(world: World, models: Mapping[int, bytes], patch: pytest.MonkeyPatch) -> None:
    """A lying server of a semi-honest session talks to each client about the model that it has,
    and takes all uploads as one. It is given every self mask, and takes off the right one.
    """
    for u in world.clients:
        (sent,) = world.upload(u, models[u])
        world.server.handle(retold(u, sent, world.server.machine))
    state = world.server.machine.state
    context1 = getattr(state, "inner", state).context
    takes_off_right_self_masks(patch, context1, models)
    for request in world.server.handle(RoundClosed()):
        client = world.clients[request.to]
        (answer,) = client.handle(retold(SERVER, request, client.machine))
        world.server.handle(retold(request.to, answer, world.server.machine))
    assert world.server.machine.waits_for == frozenset(), "all have given all that is asked for"


@pytest.mark.parametrize("group", [(1,), (5,), (2, 4), (1, 2, 3), (2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("name", ["masking, X25519", "lattice"])
def test_masks_for_different_models_do_not_cancel(
    name: str, group: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(variant_of(name)).exchanged()
    begin(world.server)
    models = {u: OTHER if u in group else APPLICATION for u in world.clients}
    given_everything(world, models, monkeypatch)
    with pytest.raises(ProtocolAborted, match="the masks do not cancel: the canary of the sum"):
        world.server.handle(RoundClosed())


def test_the_same_server_has_the_sum_where_all_were_shown_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So it is the models that differ among clients, and no other lie, that the test above is
    about.
    """
    world = World(variant_of("masking, X25519")).exchanged()
    begin(world.server)
    given_everything(world, dict.fromkeys(world.clients, OTHER), monkeypatch)
    world.finish(*world.clients)


def variant_of(name: str) -> Variant:
    """The one of this name."""
    return next(each for each in VARIANTS if each.name == name)


def retold(sender: int, sent: Envelope, to: Machine) -> Received:
    """The same message as one of the session that `to` is in; what is inside of it, too."""
    body, inner = decode(sent.data, to.receivable), getattr(to.state, "inner", None)
    fields = {"context": to.state.expected_context}
    for name in ("inner", "data") if inner else ():
        if nested := getattr(body, name, b""):
            told = replace(decode(nested, INSIDE), context=inner.expected_context)
            fields[name] = encode(told)
    return Received(sender, encode(replace(body, **fields)))


INSIDE = masking.Server.receivable | masking.Client.receivable


# --- what is made for one model is nothing for another -------------------------------------


def test_every_mask_of_an_upload_comes_from_the_model() -> None:
    """One state, two models: the same values, and no mask in common."""
    world = World(variant_of("masking, X25519")).exchanged()
    machine = world.clients[1].machine
    ready, state = machine.snapshot(), machine.state
    masks, packed = {}, {}
    for application in (APPLICATION, OTHER):
        machine.restore(ready)
        machine.handle(Begin(application))
        (sent,) = machine.handle(Contribute(world.inputs[1]))
        context2 = bound_context(state.context, application)
        body = decode(sent.data, Upload)
        assert body.context == context2
        peers, secrets = (
            np.array([peer.party for peer in state.peers]),
            table(state.pair_secrets, 32),
        )
        own = keys.own_stream(state.own_seed, context2, 1)
        pairs = keys.pair_streams(secrets, context2, np.ones_like(peers), peers)
        masks[application] = [own, *pairs]
        packed[application] = body.packed
    every = [stream for streams in masks.values() for stream in streams]
    assert len({s.key for s in every}) == len({s.iv for s in every}) == len(every) == 2 * N
    for application, streams in masks.items():
        for uploaded_for, raw in packed.items():
            vector = RingVector.zeros(16, world.session.parameters.masked_length)
            vector.add_packed(raw)
            vector.add_masks(streams, [-1] * N)
            same = vector.values()[:N] == world.inputs[1]
            assert same.all() if application == uploaded_for else not same.any()


# --- restarts ------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [None, APPLICATION, OTHER], ids=["untold", "told", "another"])
@EVERY
def test_a_client_that_dies_before_its_upload_is_told_anew_and_uploads_once(
    variant: Variant, told: bytes | None
) -> None:
    """What it was told is gone with it, and so is its inbox: nothing came of either."""
    world = World(variant).exchanged()
    begin(world.server)
    first = world.clients[1]
    if told:
        first.handle(Begin(told))
    inbox = next(e for e in world.sent if (e.to, e.stage) == (1, "share"))
    second = world.clients[1] = world.client(1)
    (resent,) = second.resume()
    assert resent in world.sent
    refuses(second, Begin(APPLICATION))
    assert second.handle(Received(SERVER, inbox.data)) == ()
    for u in world.clients:
        world.hear(u, world.upload(u))
    begin(first, OTHER)
    with pytest.raises(LocalError, match="party 1 already sent its messages of stage upload"):
        first.handle(Contribute(world.inputs[1]))
    third = world.client(1)
    assert third.resume() == tuple(e for e in world.sent if (e.sender, e.stage) == (1, "upload"))
    refuses(third, Begin(APPLICATION))
    assert world.refusals == []
    world.finish(*world.clients)


@pytest.mark.parametrize("begun", [False, True], ids=["not begun", "with an upload"])
@EVERY
def test_a_server_that_dies_with_the_keys_is_told_anew(variant: Variant, begun: bool) -> None:
    """It resends the inboxes; uploads that it had are sent again. It may be told another model
    than before: then it takes none of them.
    """
    world = World(variant).exchanged()
    inboxes = [e for e in world.sent if (e.sender, e.stage) == (SERVER, "share")]
    if begun:
        begin(world.server, OTHER)
        assert Begin not in world.server.machine.accepts
    for _ in range(2):
        world.server = world.new_server()
        assert list(world.server.resume()) == inboxes
        assert world.server.machine.accepts == {Begin}
        refuses(world.server, RoundClosed())
        assert begin(world.server) == ()
        for u in world.clients:
            resent = tuple(e for e in world.sent if (e.sender, e.stage) == (u, "upload"))
            world.hear(u, resent or world.upload(u))
    assert world.refusals == []
    world.finish(*world.clients)
