"""What a node remembers between two messages, in Flower's `Context.state`, and nothing else.

Flower carries the whole Context with every message, so this is small: the machine's own
snapshot for each session that is open, and short digests of what must never happen twice.
The journal is this memory: Flower stores it together with the reply, both or neither.
"""

from flwr.app import ConfigRecord, Context
from msgspec.structs import replace

from fl.flower.wire import RECORD, Offer, Refusal
from protocols.journal import Claim, Stored, already_claimed
from secagg.codec import Bytes32, Value, decode, encode
from secagg.errors import DecodeError

MOST_SESSIONS = 3
MOST_REMEMBERED = 1024
SHORT = 16


class Kept(Value, frozen=True):
    """One open session: its offer, what it was told it trains, the stages that are claimed,
    the machine's state, and what it said first, to be said again if it is asked again. `stage`
    is the last one that it answered.
    """

    offer: Offer
    number: int
    application: bytes
    model: bytes
    stage: str
    claimed: tuple[str, ...]
    snapshot: bytes
    advert: tuple[bytes, ...] = ()


class _Memory(Value, frozen=True):
    sessions: tuple[Kept, ...]
    closed: tuple[bytes, ...]
    spent: tuple[bytes, ...]


class Memory:
    """A node's memory. `save` writes it back; until then nothing has changed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        raw = context.state.config_records.get(RECORD, ConfigRecord()).get("memory")
        memory = _Memory((), (), ())
        if isinstance(raw, bytes):
            try:
                memory = decode(raw, _Memory)
            except DecodeError:  # of another version: as if the node had been restarted
                memory = _Memory((), (), ())
        self._sessions: dict[Bytes32, Kept] = {k.offer.session: k for k in memory.sessions}
        self._closed, self._spent = list(memory.closed), list(memory.spent)

    def joined(self, offer: Offer) -> Kept | None:
        """The session of this very offer, if it was joined and nothing has come of it yet."""
        kept = self._sessions.get(offer.session)
        return kept if kept and kept.offer == offer and not kept.application else None

    def add(self, offer: Offer, number: int) -> Kept:
        """A new session. Raises Refusal for one that was open before."""
        if offer.session in self._sessions or offer.session[:SHORT] in self._closed:
            raise Refusal("the session was offered before; every round needs a new one")
        for oldest in list(self._sessions)[: max(0, len(self._sessions) + 1 - MOST_SESSIONS)]:
            self.forget(oldest)
        kept = Kept(offer, number, b"", b"", "", (), b"")
        self._sessions[offer.session] = kept
        return kept

    def find(self, session: bytes) -> Kept:
        """An open session; whatever else has begun is over, and forgotten."""
        if session not in self._sessions:
            raise Refusal(
                "this node does not know the session: it restarted, or failed in an earlier "
                "stage; it can take part in the next round"
            )
        for other in [k for k, v in self._sessions.items() if k != session and v.application]:
            self.forget(other)
        return self._sessions[session]

    def update(self, session: bytes, **fields: bytes | tuple[bytes, ...]) -> None:
        """Keep these fields of a session, if it is still open."""
        if session in self._sessions:
            self._sessions[session] = replace(self._sessions[session], **fields)

    def bind(self, session: bytes, model: bytes) -> None:
        """What our contribution to this session is made of. Raises Refusal where it is spent."""
        if model[:SHORT] in self._spent:
            raise Refusal(
                "our update of this model is spent: it may be known in a sum, and in another "
                "one it would be known by the difference; continue with another model"
            )
        self.update(session, model=model)

    def spend(self, session: bytes) -> None:
        """Our part in this session is over: forget it, and never use its model again."""
        self._spent = [*self._spent, self._sessions[session].model[:SHORT]][-MOST_REMEMBERED:]
        self.forget(session)

    def forget(self, session: bytes) -> None:
        """Wipe a session, for good."""
        if self._sessions.pop(session, None) is not None:
            self._closed = [*self._closed, session[:SHORT]][-MOST_REMEMBERED:]

    def save(self) -> None:
        """Write it where Flower keeps it."""
        memory = _Memory(tuple(self._sessions.values()), tuple(self._closed), tuple(self._spent))
        self._context.state[RECORD] = ConfigRecord({"memory": encode(memory)})

    def commit(self, claim: Claim, stored: Stored) -> None:
        """See `protocols.journal.Journal`. The outbox is not kept: who loses it drops out."""
        kept = self._sessions.get(claim.session)
        if kept is None or claim.stage in kept.claimed:
            raise already_claimed(claim)
        self._sessions[claim.session] = replace(
            kept,
            claimed=(*kept.claimed, claim.stage),
            stage=claim.stage,
            snapshot=stored.snapshot,
        )

    def close(self, session: bytes, _party: int, _last: object) -> None:
        """See `protocols.journal.Journal`: nothing is kept of what is over."""
        self.forget(session)

    def latest(self, session: bytes, _party: int) -> Stored | None:
        """See `protocols.journal.Journal`."""
        kept = self._sessions.get(session)
        return Stored(kept.snapshot, ()) if kept and kept.snapshot else None
