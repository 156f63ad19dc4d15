"""A model of everything a network and its machines' hosts may do to a `masking` session, in
both modes.

Hypothesis plays the world: it joins, delivers in any order, duplicates, replays, loses, closes
stages, and crashes, restarts and *forks* parties (two copies resumed from the same journal, as
after a botched migration). The parties are driven as a real driver drives them, through
`protocols.journal.Party`. Inputs are one-hot, and a client offers new values at each attempt,
as an encoder with fresh rounding would: whatever is counted twice, or mixed, shows.
"""

from collections import defaultdict

import numpy as np
from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from protocols.base import (
    SERVER,
    Aborted,
    Begin,
    Contribute,
    Envelope,
    Join,
    Local,
    Received,
    RoundClosed,
)
from protocols.journal import Claim, MemoryJournal, Party, Stored
from protocols.masking import PROTOCOL, configure
from secagg.errors import LocalError, PeerError, ProtocolAborted
from secagg.rng import SystemSource
from secagg.seal import SystemSealer
from secagg.signing import ED25519
from tests.protocols import oracle
from tests.protocols.support import APPLICATION, examples, roster_of, session_of, signers_of

N, BITS = 4, 24
LENGTH = 12
PIECES = 2  # with the canary, at 8 coordinates a message
CLIENTS = st.integers(1, N)
PICK = st.integers(0, 60)
MOSTLY = st.sampled_from([True] * 7 + [False])


class CountingJournal(MemoryJournal):
    """Remembers every claim that was granted."""

    def __init__(self) -> None:
        super().__init__()
        self.granted: list[Claim] = []

    def commit(self, claim: Claim, stored: Stored) -> None:
        super().commit(claim, stored)
        self.granted.append(claim)


class World(RuleBasedStateMachine):
    """One session, its network, and its hosts."""

    adversary = "semi-honest"
    thresholds = (2, 2, 2, 3, 4)
    schemes: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.journal = CountingJournal()
        self.flying: list[Envelope] = []
        self.history: list[Envelope] = []
        self.offered: dict[int, np.ndarray] = {}
        self.attempts = 0

    @initialize(pick=PICK, joined=st.sampled_from([4, 4, 3, 2]), stages=st.integers(0, 4))
    def start(self, pick: int, joined: int, stages: int) -> None:
        threshold = self.thresholds[pick % len(self.thresholds)]
        parameters = configure(
            N,
            LENGTH,
            BITS,
            threshold=threshold,
            suite="X25519",
            chunk=8,
            adversary=self.adversary,
        )
        assert len(parameters.pieces) == PIECES
        self.signers = signers_of(N, self.schemes)
        members = roster_of(N, self.schemes) if self.schemes else None
        self.session = session_of(PROTOCOL, parameters, members=members)
        self.parties: dict[int, list[Party]] = {}
        for party in range(N + 1):
            self.parties[party] = [self.fresh(party)]
        for client in range(1, joined + 1):
            self.join(client, 0)
        for _ in range(min(stages, len(parameters.stages) - 1)):
            self.go_through_a_stage(0)

    def fresh(self, party: int) -> Party:
        source = SystemSource()
        if party == SERVER:
            machine = PROTOCOL.server(self.session, source)
        else:
            signer = self.signers.get(party)
            machine = PROTOCOL.party(self.session, party, source, SystemSealer(), signer)
        return Party(machine, self.journal)

    def tell(self, party: Party, message: Received | Local) -> tuple[Envelope, ...]:
        """The only errors there are; a refusal changes nothing."""
        before = party.machine.snapshot()
        try:
            sent = party.handle(message)
        except (PeerError, LocalError):
            assert party.machine.snapshot() == before
            return ()
        except ProtocolAborted:
            assert isinstance(party.machine.state, Aborted)
            assert party.machine.state.reason
            return ()
        self.history += sent
        self.flying += sent
        return sent

    def copy_of(self, party: int, pick: int) -> Party:
        return self.parties[party][pick % len(self.parties[party])]

    # What their own callers do

    @rule(client=CLIENTS, pick=PICK)
    def join(self, client: int, pick: int) -> None:
        self.tell(self.copy_of(client, pick), Join())

    def begin(self, party: Party) -> None:
        """Say what is trained, unless that was said already."""
        if Begin in party.machine.accepts:
            self.tell(party, Begin(APPLICATION))

    @rule(party=st.integers(0, N), pick=PICK)
    def another_model(self, party: int, pick: int) -> None:
        """One copy is bound to a model that the others do not have."""
        copy = self.copy_of(party, pick)
        before = copy.machine.snapshot()
        accepted = Begin in copy.machine.accepts
        self.tell(copy, Begin(bytes(32)))
        assert (copy.machine.snapshot() != before) is accepted

    @rule(client=CLIENTS, pick=PICK)
    def contribute(self, client: int, pick: int) -> None:
        self.attempts += 1
        values = np.zeros(LENGTH, np.uint64)
        values[[client - 1, -client]] = 1000 * client + self.attempts  # in both pieces
        party = self.copy_of(client, pick)
        self.begin(party)
        if self.tell(party, Contribute(values)):
            assert client not in self.offered, "a second vector under the same masks"
            self.offered[client] = values

    @rule(pick=PICK)
    def contribute_all(self, pick: int) -> None:
        for client in range(1, N + 1):
            self.contribute(client, pick)

    @rule(pick=PICK, patient=st.sampled_from([True] * 15 + [False]))
    def close_the_stage(self, pick: int, patient: bool) -> None:
        """Most hosts wait until it is enough; the others find out why they should."""
        server = self.copy_of(SERVER, pick)
        missing = len(server.machine.waits_for)
        if not patient or N - missing >= self.session.parameters.floor:
            self.tell(server, RoundClosed())

    @rule(pick=PICK)
    def go_through_a_stage(self, pick: int) -> None:
        """What an undisturbed driver does; without it few runs would get to the end."""
        self.deliver_all(pick)
        self.contribute_all(pick)
        self.deliver_all(pick)
        self.close_the_stage(pick, patient=True)

    # What the network does

    @rule(pick=PICK, to=PICK, keep=st.booleans())
    def deliver(self, pick: int, to: int, keep: bool) -> None:
        if not self.flying:
            return
        at = pick % len(self.flying)
        envelope = self.flying[at] if keep else self.flying.pop(at)
        self.hand_over(envelope, to)

    @rule(to=PICK)
    def deliver_all(self, to: int) -> None:
        arriving, self.flying = self.flying, []
        for envelope in arriving:
            self.hand_over(envelope, to)

    @rule(pick=PICK, to=PICK)
    def replay(self, pick: int, to: int) -> None:
        if self.history:
            self.hand_over(self.history[pick % len(self.history)], to)

    @rule(pick=PICK)
    def lose(self, pick: int) -> None:
        if self.flying:
            del self.flying[pick % len(self.flying)]

    def hand_over(self, envelope: Envelope, pick: int) -> None:
        party = self.copy_of(envelope.to, pick)
        if envelope.to == SERVER:
            self.begin(party)
        self.tell(party, Received(envelope.sender, envelope.data))

    # What happens to the hosts

    @rule(party=st.integers(0, N), resume=MOSTLY)
    def crash_and_restart(self, party: int, resume: bool) -> None:
        """Without `resume` the new copy does not know that it has a past: the journal does."""
        self.parties[party] = [self.restarted(party, resume)]

    @rule(party=st.integers(0, N), resume=MOSTLY)
    def fork(self, party: int, resume: bool) -> None:
        if len(self.parties[party]) < 3:
            self.parties[party].append(self.restarted(party, resume))

    def restarted(self, party: int, resume: bool) -> Party:
        new = self.fresh(party)
        if resume:
            resent = new.resume()
            assert set(resent) <= set(self.history)
            self.flying += resent
        return new

    def teardown(self) -> None:
        """The world calms down: what was lost is resent, and the session may end."""
        for _ in self.session.parameters.stages:
            for party in range(N + 1):
                stored = self.journal.latest(self.session.session_id, party)
                self.flying += stored.outbox if stored else ()
            self.go_through_a_stage(len(self.parties[SERVER]) - 1)
        self.no_claim_is_granted_twice()
        self.nobody_says_two_different_things()
        self.nobody_reveals_both_shares_of_anyone()
        self.a_result_is_the_exact_sum()
        for party in self.parties[SERVER]:
            event(f"a server at stage {party.machine.state.stage}")

    # What must always hold

    @invariant()
    def no_claim_is_granted_twice(self) -> None:
        claims = [claim[:3] for claim in self.journal.granted]
        assert len(claims) == len(set(claims))

    @invariant()
    def nobody_says_two_different_things(self) -> None:
        said: dict[tuple[int, int, str], set[bytes]] = defaultdict(set)
        for e in self.history:
            said[e.sender, e.to, e.stage].add(e.data)
        for (sender, _, stage), versions in said.items():
            parts = PIECES if sender != SERVER and stage == "upload" else 1
            assert len(versions) == parts

    @invariant()
    def nobody_reveals_both_shares_of_anyone(self) -> None:
        """Neither one holder, nor all holders together: U3 is fixed once."""
        if not any(e.sender != SERVER and e.stage == "unmask" for e in self.history):
            return
        kinds: dict[int, set[str]] = defaultdict(set)
        for share in oracle.revealed(self.history):
            kinds[share.dealer].add(share.kind)
        assert all(len(of) == 1 for of in kinds.values())

    @invariant()
    def a_result_is_the_exact_sum(self) -> None:
        for party in getattr(self, "parties", {}).get(SERVER, ()):
            machine = party.machine
            if not machine.finished or isinstance(machine.state, Aborted):
                continue
            result = machine.result
            expected = sum(self.offered[client] for client in result.contributors)
            assert result.total.tolist() == (expected % 2**BITS).tolist()
            assert len(result.contributors) >= self.session.parameters.floor
            assert result.bad_answers == ()
            event(f"a sum of {len(result.contributors)}")


class ActiveWorld(World):
    """The same where members sign: of two sums, no server gets both confirmed."""

    adversary = "active"
    thresholds = (3, 3, 3, 4)
    schemes = (ED25519,)


TestWorld = World.TestCase
TestWorld.settings = examples(3)
TestActiveWorld = ActiveWorld.TestCase
TestActiveWorld.settings = examples(2)
