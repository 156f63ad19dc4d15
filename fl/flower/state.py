"""What a node remembers between two messages.

In Flower's `Context.state`, which travels with every message and so is small: the machine's own
snapshot for each session that is open, and short digests of what is over. Flower stores it after
the reply is sent, or does not, so it may be old. In the node's own store (`fl.flower.store`),
before the reply is returned: what must never happen twice. Without a store the digests in the
Context are all there is, and a node whose Context is put back or lost counts as corrupt.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from logging import WARNING
from pathlib import Path

from flwr.app import ConfigRecord, Context
from flwr.common import log
from msgspec.structs import replace

from fl.flower.store import Store, Used, open_store, refused
from fl.flower.wire import RECORD, Offer, Refusal
from protocols.journal import Claim, Stored, already_claimed
from secagg.codec import Bytes32, Count, Value, decode, encode
from secagg.errors import DecodeError, LocalError

AHEAD = 2
"""So many sessions of a kind wait: the next one, which is ready, and the one that follows it, which
is made ready in that one's upload.
"""
MOST_SESSIONS = 1 + 2 * AHEAD
"""One that runs, and those that wait, for training and for evaluation."""
MOST_REMEMBERED = 1024
SHORT = 16


class Kept(Value, frozen=True):
    """One open session: its offer, the model that it is bound to (empty before), the stages that
    are claimed, the machine's state, and what it said on joining, to be said again if it is asked
    again; None once it has gone on.
    """

    offer: Offer
    number: int
    model: bytes
    claimed: tuple[str, ...]
    snapshot: bytes
    joined: tuple[bytes, ...] | None


class Short(Value, frozen=True):
    """As `Used`, of this model, in short."""

    model: bytes
    attempt: Count
    spent: bool


class _Memory(Value, frozen=True):
    sessions: tuple[Kept, ...]
    closed: tuple[bytes, ...]
    used: tuple[Short, ...]


class Memory:
    """A node's memory. `save` writes the Context's part back, which until then is as it was; what
    goes into the store is there at once.
    """

    _store: Store | None = None
    _failed: frozenset[bytes] = frozenset()

    def __init__(self, context: Context) -> None:
        self._context = context
        raw = context.state.config_records.get(RECORD, ConfigRecord()).get("memory")
        memory = _Memory((), (), ())
        if isinstance(raw, bytes):
            try:
                memory = decode(raw, _Memory)
            except DecodeError as error:
                log(WARNING, "secagg: the stored memory is of another version, as lost: %s", error)
        self._sessions: dict[Bytes32, Kept] = {k.offer.session: k for k in memory.sessions}
        self._closed = list(memory.closed)
        self._used = {each.model: each for each in memory.used}

    def open(self, path: Path | None) -> None:
        """Use the store that is there. Raises LocalError where it cannot be used."""
        self._store = open_store(path)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is recorded in the store within the block is: all of it, or nothing."""
        if self._store is None:
            yield
            return
        with self._store.together():
            yield

    def joined(self, offer: Offer) -> Kept | None:
        """The session of this very offer, if it was joined and nothing has come of it yet."""
        kept = self._sessions.get(offer.session)
        return kept if kept and kept.offer == offer and kept.joined is not None else None

    def add(self, offer: Offer, number: int) -> None:
        """A new session. Raises Refusal for one that was open before, and for one too many."""
        if offer.session in self._sessions or offer.session[:SHORT] in self._closed:
            raise Refusal("the session was offered before; every round needs a new one")
        if len(self._sessions) >= MOST_SESSIONS:
            raise Refusal(f"{MOST_SESSIONS} sessions are open; end one of them first")
        self._sessions[offer.session] = Kept(offer, number, b"", (), b"", None)

    def find(self, session: bytes) -> Kept:
        """An open session. Raises Refusal."""
        if session not in self._sessions:
            raise Refusal(
                "this node does not know the session: it restarted, or failed in an earlier "
                "stage; it can take part in the next round"
            )
        return self._sessions[session]

    def begin(self, session: bytes, model: bytes, attempt: int) -> None:
        """What this session trains. Whatever else has begun is over, and forgotten.

        Raises Refusal where our update of this model went into another session, and is spent or
        this is not a later attempt.
        """
        with self.together():
            self._check(model[:SHORT], attempt)
        for other in [key for key, kept in self._sessions.items() if kept.model]:
            if other != session:
                self.forget(other)
        self.update(session, model=model[:SHORT])

    def upload(self, session: bytes, attempt: int) -> None:
        """Our update goes into this session, and into no other of this attempt; and what an
        earlier one went into, in whatever run, is closed. Raises Refusal as `begin`.
        """
        model = self.find(session).model
        with self.together():
            earlier = self._check(model, attempt)
            if self._store and earlier:
                self._store.close(earlier.session)
            self._use(Short(model, attempt, spent=False), session)

    def spend(self, session: bytes) -> None:
        """Our part in this session is over: forget it, and never use its model again."""
        with self.together():
            if model := self.find(session).model:  # a helper has none
                self._use(Short(model, 0, spent=True), session)
            self.forget(session)

    def _check(self, model: bytes, attempt: int) -> Used | None:
        """What the store knows of this model's use. Raises Refusal where it rules this one out."""
        stored = self._store.used(model) if self._store else None
        summed = stored is not None and stored.session not in self._failed
        for used in (self._used.get(model), stored):
            if used and attempt <= used.attempt:
                raise Refusal(
                    f"attempt {attempt} at a model of which our update was uploaded at attempt "
                    f"{used.attempt}; every attempt has a higher number than those before"
                )
            if used and (used.spent or summed):
                raise Refusal(
                    "our update of this model is spent: it may be known in a sum, and in another "
                    "one it would be known by the difference; continue with another model"
                )
        return stored

    def _use(self, used: Short, session: bytes) -> None:
        if self._store:
            self._store.use(used.model, Used(session, used.attempt, used.spent))
        self._used.pop(used.model, None)
        self._used[used.model] = used
        for oldest in list(self._used)[:-MOST_REMEMBERED]:
            del self._used[oldest]

    def update(self, session: bytes, **fields: bytes | tuple[bytes, ...] | None) -> None:
        """Keep these fields of a session, if it is still open."""
        if session in self._sessions:
            self._sessions[session] = replace(self._sessions[session], **fields)

    def keep(self, sessions: Collection[bytes], failed: Collection[bytes]) -> None:
        """Forget all others. What was uploaded in one of those is spent unless it is among
        `failed`, where the server says that no sum has come of it.
        """
        self._failed = frozenset(failed)
        for session in self._sessions.keys() - set(sessions):
            if session not in self._failed:
                self.spend(session)
            self.forget(session)

    def forget(self, session: bytes) -> None:
        """Wipe a session, for good."""
        if self._sessions.pop(session, None) is not None:
            if self._store:
                self._store.close(session)
            self._closed = [*self._closed, session[:SHORT]][-MOST_REMEMBERED:]

    def save(self) -> None:
        """Write it where Flower keeps it."""
        used = tuple(self._used.values())
        memory = _Memory(tuple(self._sessions.values()), tuple(self._closed), used)
        self._context.state[RECORD] = ConfigRecord({"memory": encode(memory)})

    def commit(self, claim: Claim, stored: Stored) -> None:
        """See `protocols.journal.Journal`. The outbox is not kept: who loses it drops out.

        Raises Refusal where the store, which knows more than the Context, has it already.
        """
        kept = self._sessions.get(claim.session)
        if kept is None or claim.stage in kept.claimed:
            raise already_claimed(claim)
        if self._store:
            try:
                self._store.claim(claim)
            except LocalError as error:
                raise refused(claim, error) from None
        claimed = (*kept.claimed, claim.stage)
        self._sessions[claim.session] = replace(kept, claimed=claimed, snapshot=stored.snapshot)

    def close(self, session: bytes, _party: int, _last: object) -> None:
        """See `protocols.journal.Journal`: nothing is kept of what is over."""
        self.forget(session)

    def latest(self, session: bytes, _party: int) -> Stored | None:
        """See `protocols.journal.Journal`."""
        kept = self._sessions.get(session)
        return Stored(kept.snapshot, ()) if kept and kept.snapshot else None
