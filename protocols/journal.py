"""What may never happen twice, and who sees to it.

No message that depends on session secrets is produced twice: encoding again under the same
masks would be a two-time pad, and a second answer could reveal the other share. A frozen
state cannot prevent that, as it can be resumed twice. So before envelopes leave, a `Party`
commits a claim to a journal outside the state, by compare-and-set; whoever comes second
gets a LocalError, and resends the stored bytes or counts itself as dropped.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from protocols.base import Envelope, Local, Machine, Received
from secagg.errors import LocalError, ProtocolAborted
from secagg.kdf import digest

CLOSED = ""
"""The stage that a journal claims when a session is closed: no machine has one of that name."""


class Claim(NamedTuple):
    """`party` sends these bytes, and no others, at this stage of this session."""

    session: bytes
    party: int
    stage: str
    digest: bytes


class Stored(NamedTuple):
    """What a journal keeps of a session: the last state, and what was sent from it.

    `snapshot` and `vectors` are the two parts of a `protocols.snapshot.Dump`. What is given to
    a journal is a view of memory that the party goes on to work in: it copies or writes it
    before it returns. What a journal gives back is the receiver's.
    """

    snapshot: bytes
    outbox: tuple[Envelope, ...]
    vectors: tuple[bytes | bytearray | memoryview, ...] = ()

    def __repr__(self) -> str:
        return f"<Stored with {len(self.outbox)} envelopes>"


class Journal(Protocol):
    """Durable memory of one or more parties."""

    def commit(self, claim: Claim, stored: Stored) -> None:
        """Record the claim and replace the stored state, both or neither, durably.

        Raises LocalError where the stage is claimed already, whatever for, and where the
        session was closed.
        """
        ...

    def close(self, session: bytes, party: int, last: Stored) -> None:
        """Replace the stored state by a terminal one, for good: the session is spent."""
        ...

    def latest(self, session: bytes, party: int) -> Stored | None:
        """The stored state, or None if the party never sent anything in this session."""
        ...


class MemoryJournal:
    """A journal for tests and simulations: it survives its parties, not its process."""

    def __init__(self) -> None:
        self._claims: dict[tuple[bytes, int, str], bytes] = {}
        self._stored: dict[tuple[bytes, int], Stored] = {}

    def commit(self, claim: Claim, stored: Stored) -> None:
        """See `Journal`."""
        if {claim[:3], (*claim[:2], CLOSED)} & self._claims.keys():
            raise already_claimed(claim)
        self._claims[claim[:3]] = claim.digest
        self._stored[claim.session, claim.party] = _copied(stored)

    def close(self, session: bytes, party: int, last: Stored) -> None:
        """See `Journal`."""
        self._claims[session, party, CLOSED] = b""
        self._stored[session, party] = _copied(last)

    def latest(self, session: bytes, party: int) -> Stored | None:
        """See `Journal`."""
        stored = self._stored.get((session, party))
        return stored and _copied(stored)


class Party:
    """A machine with its journal: the only way a driver should advance a machine."""

    def __init__(self, machine: Machine, journal: Journal) -> None:
        self.machine = machine
        self._session = machine.session.session_id
        self._journal = journal

    def handle(self, event: Received | Local) -> tuple[Envelope, ...]:
        """As `Machine.handle`, with the claim committed before the envelopes are returned.

        Raises LocalError, with the state unchanged, if the stage was claimed before.
        """
        before = self.machine.state
        try:
            envelopes = self.machine.handle(event)
        except ProtocolAborted:
            self._close()
            raise
        if envelopes:
            self._commit(before.stage, envelopes, before)
        elif self.machine.finished:
            self._close()
        return envelopes

    def resume(self) -> tuple[Envelope, ...]:
        """Take up the stored session after a restart; returns the bytes to send again.

        A party that had sent nothing yet starts anew, with nothing to resend.
        """
        stored = self._journal.latest(self._session, self.machine.me)
        if stored is None:
            return ()
        self.machine.restore(stored.snapshot, stored.vectors)
        return stored.outbox

    def _commit(self, stage: str, envelopes: Sequence[Envelope], before: object) -> None:
        claim = Claim(self._session, self.machine.me, stage, _digest(envelopes))
        try:
            self._journal.commit(claim, self._stored(tuple(envelopes)))
        except BaseException:
            self.machine.state = before  # type: ignore[assignment]
            raise

    def _close(self) -> None:
        self._journal.close(self._session, self.machine.me, self._stored(()))

    def _stored(self, outbox: tuple[Envelope, ...]) -> Stored:
        state = self.machine.dump()
        return Stored(state.head, outbox, state.vectors)


def already_claimed(claim: Claim) -> LocalError:
    """The error of every journal for a second claim."""
    return LocalError(
        f"party {claim.party} already sent its messages of stage {claim.stage} in this "
        "session, or closed it; resend the stored bytes or sit this round out"
    )


def _copied(stored: Stored) -> Stored:
    return stored._replace(vectors=tuple(bytearray(each) for each in stored.vectors))


def _digest(envelopes: Sequence[Envelope]) -> bytes:
    parts = ((e.to, digest("envelope", e.data)) for e in envelopes)
    return digest("claim", *(part for pair in parts for part in pair))
