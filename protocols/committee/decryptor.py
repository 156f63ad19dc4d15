"""A decryptor of `committee`: a key, a report of what opened, and one answer a session.

A client's process may run one beside its client; the two are different parties of the session.
It answers for one set of clients, none of them alone, and holds nothing afterwards: as two
thresholds together exceed all decryptors and the corrupt ones once more, no two sets are ever
opened, whatever the server asks.
"""

from typing import ClassVar

from protocols.base import (
    SERVER,
    Aborted,
    Join,
    Machine,
    Session,
    State,
    Step,
    Terminal,
    on,
    receives,
)
from protocols.committee.messages import (
    Announcement,
    Answer,
    Delivered,
    Delivery,
    OpenRequest,
    Report,
    context_of,
    info,
)
from protocols.committee.parameters import CommitteeParameters
from secagg import kdf, vshare
from secagg.codec import Bytes32
from secagg.errors import DecodeError, LocalError, ProtocolAborted
from secagg.rng import RandomSource
from secagg.seal import KeyPair, Sealer, suite


class Idle(State, frozen=True, tag="idle"):
    """Before the session."""

    stage: ClassVar[str] = "keys"
    seed: Bytes32


class Announced(State, frozen=True, tag="announced"):
    """Its key is out."""

    stage: ClassVar[str] = "report"
    context: Bytes32
    seed: Bytes32

    @property
    def expected_context(self) -> bytes:
        """Deliveries come under `context0`, and say what makes up `context2`."""
        return self.context


class Holding(State, frozen=True, tag="holding"):
    """It holds shares of the clients' short keys, packed, and has reported whose."""

    stage: ClassVar[str] = "open"
    context: Bytes32
    shares: dict[int, bytes]

    @property
    def expected_context(self) -> bytes:
        """`context2`."""
        return self.context


class Done(Terminal, frozen=True, tag="done"):
    """It has answered, once. It holds no share and no key any more."""

    stage: ClassVar[str] = "done"


class Decryptor(Machine):
    """One decryptor of one session, number n + 1 to n + n_d."""

    role = "committee decryptor"
    receivable = Delivery | OpenRequest
    states = Idle | Announced | Holding | Done | Aborted

    def __init__(self, session: Session, me: int, source: RandomSource, _sealer: Sealer) -> None:
        assert isinstance(session.parameters, CommitteeParameters)  # noqa: S101 - the registry's
        if me not in session.parameters.committee:
            raise LocalError(f"decryptor {me} of {session.parameters.committee}")
        super().__init__(session, me, Idle(source.seed()))
        self.parameters = session.parameters
        self._suite = suite(session.parameters.suite)

    @on(Idle, Join)
    def announce(self, state: Idle, _event: Join) -> Step[Announced]:
        """Stage `keys`: send a fresh public key."""
        public = self._keys(state.seed).public.raw
        context0 = self.session.context
        return Step(Announced(context0, state.seed), ((SERVER, Announcement(context0, public)),))

    @receives(Announced, Delivery)
    def report(self, state: Announced, delivery: Delivery, sender: int) -> Step[Holding]:
        """Stage `report`: open what is addressed to us, and say whose that was."""
        self._check_server(sender)
        keys = self._keys(state.seed)
        own = [key.public for key in delivery.keys if key.party == self.me]
        if own != [keys.public.raw]:
            raise self.refuse(SERVER, "our own key is not in the published committee")
        senders = [each.sender for each in delivery.delivered]
        if sorted(set(senders)) != senders or senders[-1:] > [self.parameters.clients]:
            raise self.refuse(SERVER, "deliveries that are not from distinct clients, in order")
        context2 = context_of(state.context, delivery.application, delivery.keys)
        opened = ((each.sender, self._unseal(keys, context2, each)) for each in delivery.delivered)
        shares = {party: share for party, share in opened if share is not None}
        return Step(Holding(context2, shares), ((SERVER, Report(context2, tuple(shares))),))

    @receives(Holding, OpenRequest)
    def answer(self, state: Holding, request: OpenRequest, sender: int) -> Step[Done]:
        """Stage `open`: the sum of our shares over U3."""
        self._check_server(sender)
        survivors = list(request.survivors)
        if sorted({*survivors} & state.shares.keys()) != survivors:
            raise self.refuse(SERVER, "survivors that are not distinct clients we reported")
        need = self.parameters.floor
        if len(survivors) < need:
            why = f"a sum of only {len(survivors)} clients, fewer than {need}"
            raise ProtocolAborted(why, stage=state.stage)
        degree = self.parameters.plan.ring.degree
        total = vshare.add([state.shares[party] for party in survivors], degree)
        return Step(Done(), ((SERVER, Answer(state.context, total)),))

    def _keys(self, seed: bytes) -> KeyPair:
        length = self._suite.seed_bytes
        label = "committee key", self.session.context, self.me
        return self._suite.key_pair(kdf.derive(seed, *label, length=length))

    def _unseal(self, keys: KeyPair, context2: bytes, each: Delivered) -> bytes | None:
        """A client's share, or None: what does not open is reported by being left out."""
        try:
            share = keys.open(each.sealed, info(context2, each.sender, self.me))
            vshare.check(share, self.parameters.plan.ring.degree)
        except DecodeError:
            return None
        return share

    def _check_server(self, sender: int) -> None:
        if sender != SERVER:
            raise self.refuse(sender, "only the server sends this")
