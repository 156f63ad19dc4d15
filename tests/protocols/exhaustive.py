"""Everything that a lying server can ask of a few clients in active mode, by real machines.

A node is one client with its journal. The server may show any cohort (any members, either of
two adverts of a corrupt client, any of some graph seeds), deliver any envelope that exists or
none, name any set of survivors, show any signatures that exist, let clients crash at any time,
and do all this in any order; a corrupt client's envelopes and signatures are always at hand.
What a client does depends on its node and on what it is told only, so its steps are played
once and remembered, and the joint states, one node for each honest client, are searched.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations, product
from typing import Any

from msgspec.structs import replace

from protocols.base import SERVER, Begin, Contribute, Local, Received
from protocols.journal import MemoryJournal, Party
from protocols.masking.bitmap import bitmap_of, members_of
from protocols.masking.client_state import (
    Advertised,
    Bound,
    Confirmed,
    Done,
    Ready,
    Shared,
    Unconfirmed,
)
from protocols.masking.keys import signed_advert, signed_survivors
from protocols.masking.messages import (
    Cohort,
    Delivered,
    Inbox,
    Keys,
    Signed,
    SurvivorSet,
    UnmaskProof,
)
from protocols.masking.parameters import MaskingParameters
from secagg.codec import decode, encode
from secagg.errors import LocalError, ProtocolAborted
from tests.protocols.active_support import (
    Round,
    adverts_of,
    cohort_of,
    forged,
    identity,
    inbox_of,
    pair_of,
    sealed_for,
)
from tests.protocols.support import APPLICATION

Event = Received | Local


@dataclass(eq=False)
class Node:
    """One client: its machine's state, its journal, and what it has ever sent."""

    client: int
    snapshot: bytes
    state: Any
    journal: MemoryJournal
    sent: tuple[Any, ...]
    before: "Node | None"
    steps: dict[Any, "Node"] = field(default_factory=dict)

    def of(self, kind: type) -> Any:
        """The last state of this kind on the way here, or None."""
        node: Node | None = self
        while node is not None and not isinstance(node.state, kind):
            node = node.before
        return None if node is None else node.state


Joint = tuple[Node, ...]


def subsets(items: Iterable[Any], least: int = 0) -> Iterator[tuple[Any, ...]]:
    """All subsets with at least so many elements."""
    pool = list(items)
    return chain.from_iterable(combinations(pool, k) for k in range(least, len(pool) + 1))


class Search:
    """`honest` are searched; the others are the server's. seeds: graph seeds to choose from;
    models: what each of the honest may be shown, all the same one where none is given.
    """

    def __init__(
        self,
        parameters: MaskingParameters,
        honest: tuple[int, ...],
        seeds: int = 1,
        models: Mapping[int, Sequence[bytes]] | None = None,
    ):
        self.models = models or dict.fromkeys(honest, (APPLICATION,))
        self.played = Round(parameters)
        self.parameters, self.honest = parameters, honest
        self.everyone = self.played.everyone
        self.corrupt = tuple(u for u in self.everyone if u not in honest)
        cohorts = self.played.cohorts()
        self.cohort: Cohort = cohorts[1]
        self.adverts = {u: (keys,) for u, keys in adverts_of(self.played, cohorts).items()}
        for u in self.corrupt:
            self.adverts[u] += (self._second_advert(u),)
        self.pairs = {u: pair_of(self.played, u) for u in self.corrupt}
        self.seeds = [self.cohort.graph_seed, bytes(32)][:seeds]
        self.nodes: dict[tuple[int, bytes, Any], Node] = {}
        self.sealed: dict[tuple[int, int, bytes], Delivered] = {}

    def _second_advert(self, u: int) -> Keys:
        other = replace(self.adverts[u][0], nonce=bytes(32))
        signature = identity(u).sign(signed_advert(self.played.session.context, other))
        return replace(other, signature=signature)

    # One client

    def begin(self) -> Joint:
        """Everybody has advertised."""
        return tuple(self._node(u, self.played.clients[u], (), None) for u in self.honest)

    def _node(self, u: int, party: Party, sent: tuple[Any, ...], before: Node | None) -> Node:
        snapshot = party.machine.snapshot()
        key = (u, snapshot, sent)
        if key not in self.nodes:
            journal = copy.deepcopy(party._journal)
            self.nodes[key] = Node(u, snapshot, party.machine.state, journal, sent, before)
        return self.nodes[key]

    def party(self, node: Node, snapshot: bytes | None = None) -> Party:
        """The client of this node, alive, over a copy of its journal."""
        made = self.played.party(node.client).machine
        made.restore(node.snapshot if snapshot is None else snapshot)
        return Party(made, copy.deepcopy(node.journal))

    def step(self, node: Node, event: Event | None) -> Node:
        """What becomes of the client; None is a crash and a restart."""
        key = event if isinstance(event, Received | Begin) else type(event)
        if key not in node.steps:
            node.steps[key] = self._step(node, event)
        return node.steps[key]

    def _step(self, node: Node, event: Event | None) -> Node:
        party, sent = self.party(node), node.sent
        if event is None:
            party.resume()
            return self._node(node.client, party, sent, node)
        try:
            envelopes = party.handle(event)
        except ProtocolAborted:
            return self._node(node.client, party, sent, node)
        kinds = self.played.server.receivable
        sent += tuple(decode(e.data, kinds) for e in envelopes)
        return self._node(node.client, party, sent, node)

    # What the server can say

    def events(self, joint: Joint, node: Node) -> Iterator[Event | None]:
        """Everything that is worth saying to this client now."""
        match node.state:
            case Advertised():
                said: Iterable[Any] = self._cohorts(node)
            case Shared():
                said = self._inboxes(joint, node)
            case Ready():
                yield from map(Begin, self.models[node.client])
                yield None
                return
            case Bound():
                yield Contribute(self.played.inputs[node.client])
                yield None
                return
            case Unconfirmed():
                said = self._survivor_sets(node)
            case Confirmed():
                said = self._proofs(joint, node)
            case _:
                return
        yield from (Received(SERVER, encode(body)) for body in said)

    def _cohorts(self, node: Node) -> Iterator[Cohort]:
        me = node.client
        others = [u for u in self.everyone if u != me]
        for members in subsets(others):
            for chosen in product(*(self.adverts[u] for u in members)):
                for seed in self.seeds:
                    shown = [self.adverts[me][0], *chosen]
                    yield cohort_of(self.cohort, shown, me, graph_seed=seed)

    def _inboxes(self, joint: Joint, node: Node) -> Iterator[Inbox]:
        me, state = node.client, node.state
        choices: list[list[Delivered | None]] = []
        for v in state.neighbours:
            if v in self.corrupt:
                choices.append([None, self._forged(node, v)])
            else:
                choices.append([None, *self._posted(joint, v, me)])
        for delivered in product(*choices):
            yield inbox_of(state.context, [d for d in delivered if d is not None])

    def _forged(self, node: Node, v: int) -> Delivered:
        key = (node.client, v, node.state.context)
        if key not in self.sealed:
            self.played.clients[node.client].machine.restore(node.snapshot)
            self.sealed[key] = forged(self.played, node.client, v, self.pairs[v])
        return self.sealed[key]

    def _posted(self, joint: Joint, v: int, to: int) -> list[Delivered]:
        other = next(n for n in joint if n.client == v)
        shared = other.of(Shared)
        if shared is None or to not in shared.neighbours:
            return []
        everyone = (v, *shared.neighbours)
        return [Delivered(v, sealed_for(to, v, other.sent[0], everyone))]

    def _survivor_sets(self, node: Node) -> Iterator[SurvivorSet]:
        for members in subsets(self.everyone):
            yield SurvivorSet(node.state.context, bitmap_of(members, len(self.everyone)))

    def _proofs(self, joint: Joint, node: Node) -> Iterator[UnmaskProof]:
        state = node.state
        what = signed_survivors(state.context, state.survivors)
        known = {u: identity(u).sign(what) for u in self.corrupt}
        known |= {n.client: n.sent[2].signature for n in joint if n.of(Confirmed)}
        for parties in subsets(sorted(known)):
            yield UnmaskProof(state.context, tuple(Signed(u, known[u]) for u in parties))

    # All of it

    def joint_states(self) -> Iterator[Joint]:
        """Every joint state that can be reached, once."""
        first = self.begin()
        seen, left = {first}, [first]
        while left:
            joint = left.pop()
            yield joint
            for at, node in enumerate(joint):
                for event in self.events(joint, node):
                    after = (*joint[:at], self.step(node, event), *joint[at + 1 :])
                    if after not in seen:
                        seen.add(after)
                        left.append(after)

    # What came of it

    def given(self, node: Node) -> set[tuple[str, int]]:
        """(kind, dealer) of every share that this client has given."""
        if not isinstance(node.state, Done):
            return set()
        held, answer = node.of(Confirmed), node.sent[-1]
        shares = {("self", node.client): held.own_share}
        for peer in held.peers:
            shares["self", peer.party] = peer.self_share
            shares["mask", peer.party] = peer.mask_share
        out = answer.self_shares + answer.mask_shares
        return {name for name, share in shares.items() if share in out}

    def answered(self, joint: Joint) -> set[tuple[bytes, frozenset[int]]]:
        """(context2, U3) of every answer that an honest client gave."""
        states = [node.of(Confirmed) for node in joint if isinstance(node.state, Done)]
        n = len(self.everyone)
        return {(state.context, members_of(state.survivors, n)) for state in states}

    def recovered(self, joint: Joint) -> set[tuple[str, int]]:
        """The seeds of which the server has t shares, with all that the corrupt hold."""
        given = [self.given(node) for node in joint]
        t, c = self.parameters.threshold, len(self.corrupt)
        kinds = product(("self", "mask"), self.honest)
        return {name for name in kinds if sum(name in each for each in given) + c >= t}

    def forks(self, node: Node) -> Iterator[tuple[Node, Event]]:
        """Earlier machines over this node's journal that would speak, and to what; and what
        they might have been instead, such as bound to another model.
        """
        values = Contribute(self.played.inputs[node.client])
        earlier = node.before
        while earlier is not None:
            for past in (earlier, *earlier.steps.values()):
                for key, after in past.steps.items():
                    if len(after.sent) > len(past.sent):
                        yield past, key if isinstance(key, Received) else values
            earlier = earlier.before

    def speaks(self, node: Node, earlier: Node, event: Event) -> bool:
        """Whether a machine that was rolled back sends anything once the journal is ahead."""
        fork = self.party(node, earlier.snapshot)
        try:
            return bool(fork.handle(event))
        except (LocalError, ProtocolAborted):
            return False
