"""What a node remembers between two messages, in Flower's `Context.state`, and nothing else.

Flower carries the whole Context with every message, so this is small: the machine's own
snapshot for each session that is open, and short digests of what must never happen twice.
The journal is this memory: Flower stores it together with the reply, both or neither.
"""

from collections.abc import Collection
from logging import WARNING

from flwr.app import ConfigRecord, Context
from flwr.common import log
from msgspec.structs import replace

from fl.flower.wire import RECORD, Offer, Refusal
from protocols.journal import Claim, Stored, already_claimed
from secagg.codec import Bytes32, Count, Value, decode, encode
from secagg.errors import DecodeError

MOST_SESSIONS = 3
"""One that runs, and the next one for training and for evaluation."""
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


class Used(Value, frozen=True):
    """The last attempt at which our update of a model was uploaded, and whether it is spent: it
    may be known in a sum.
    """

    model: bytes
    attempt: Count
    spent: bool


class _Memory(Value, frozen=True):
    sessions: tuple[Kept, ...]
    closed: tuple[bytes, ...]
    used: tuple[Used, ...]


class Memory:
    """A node's memory. `save` writes it back; until then nothing has changed."""

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
        used = self._used.get(model[:SHORT])
        if used and used.spent:
            raise Refusal(
                "our update of this model is spent: it may be known in a sum, and in another "
                "one it would be known by the difference; continue with another model"
            )
        if used and attempt <= used.attempt:
            raise Refusal(
                f"attempt {attempt} at a model of which our update was uploaded at attempt "
                f"{used.attempt}; every attempt has a higher number than those before"
            )
        self.keep({session, *(key for key, kept in self._sessions.items() if not kept.model)})
        self.update(session, model=model[:SHORT])

    def upload(self, session: bytes, attempt: int) -> None:
        """Our update goes into this session, and into no other of this attempt."""
        self._use(Used(self.find(session).model, attempt, spent=False))

    def spend(self, session: bytes) -> None:
        """Our part in this session is over: forget it, and never use its model again."""
        if model := self.find(session).model:  # a helper has none
            self._use(Used(model, 0, spent=True))
        self.forget(session)

    def _use(self, used: Used) -> None:
        self._used.pop(used.model, None)
        self._used[used.model] = used
        for oldest in list(self._used)[:-MOST_REMEMBERED]:
            del self._used[oldest]

    def update(self, session: bytes, **fields: bytes | tuple[bytes, ...] | None) -> None:
        """Keep these fields of a session, if it is still open."""
        if session in self._sessions:
            self._sessions[session] = replace(self._sessions[session], **fields)

    def keep(self, sessions: Collection[bytes]) -> None:
        """Forget all others."""
        for session in self._sessions.keys() - set(sessions):
            self.forget(session)

    def forget(self, session: bytes) -> None:
        """Wipe a session, for good."""
        if self._sessions.pop(session, None) is not None:
            self._closed = [*self._closed, session[:SHORT]][-MOST_REMEMBERED:]

    def save(self) -> None:
        """Write it where Flower keeps it."""
        used = tuple(self._used.values())
        memory = _Memory(tuple(self._sessions.values()), tuple(self._closed), used)
        self._context.state[RECORD] = ConfigRecord({"memory": encode(memory)})

    def commit(self, claim: Claim, stored: Stored) -> None:
        """See `protocols.journal.Journal`. The outbox is not kept: who loses it drops out."""
        kept = self._sessions.get(claim.session)
        if kept is None or claim.stage in kept.claimed:
            raise already_claimed(claim)
        claimed = (*kept.claimed, claim.stage)
        self._sessions[claim.session] = replace(kept, claimed=claimed, snapshot=stored.snapshot)

    def close(self, session: bytes, _party: int, _last: object) -> None:
        """See `protocols.journal.Journal`: nothing is kept of what is over."""
        self.forget(session)

    def latest(self, session: bytes, _party: int) -> Stored | None:
        """See `protocols.journal.Journal`."""
        kept = self._sessions.get(session)
        return Stored(kept.snapshot, ()) if kept and kept.snapshot else None
