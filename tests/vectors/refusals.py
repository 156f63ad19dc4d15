"""Vectors of messages that are refused: what, where in which round, and with what error.

Each takes the place of one message of a published round. Whoever received all that went to
`party` before it must answer with the error, and then stand as it stood, or have aborted.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from tests.reference.errors import Refusal
from tests.reference.wire import FIELDS, decode
from tests.vectors.attempts import TO_CLIENTS, Attempt, Rebuilt, attempts
from tests.vectors.files import Vectors
from tests.vectors.play import Client, Entry, Server, error_to_json, script_from_json, transcript_of
from tests.vectors.rounds import Case, parties


def place(raw: Vectors, attempt: Attempt) -> tuple[int, Entry]:
    """Where in the round the message stands: client u's own, or the server's to it."""
    for index, entry in enumerate(transcript_of(raw)):
        party = entry.to if attempt.tag in TO_CLIENTS else entry.sender
        if party == attempt.u and decode(entry.data, FIELDS).tag == attempt.tag:
            return index, entry
    raise AssertionError(attempt)


def advance(party: Client | Server, me: int, before: Sequence[Entry]) -> None:
    """Everything that `party` went through before: its own start, closings, and what came."""
    closed: set[str] = set()
    if me:
        party.start()  # type: ignore[union-attr]
    for entry in before:
        if entry.to == me:
            party.hear(entry.sender, entry.data)
        elif me == 0 and entry.stage not in closed:
            closed.add(entry.stage)
            party.close()  # type: ignore[union-attr]


def tried(raw: Vectors, attempt: Attempt) -> Vectors:
    """The vector: the error is that of the reference."""
    index, entry = place(raw, attempt)
    message = decode(entry.data, FIELDS)
    if isinstance(attempt.change, Rebuilt):
        changed = attempt.change(message, _advert_of(raw, attempt.u))
    else:
        changed = attempt.change(message)
    data = changed if isinstance(changed, bytes) else changed.encoded()
    sender = entry.sender if attempt.sender is None else attempt.sender
    return _refused(raw, index, Entry(sender, entry.to, attempt.tag, data), attempt.why)


def _refused(raw: Vectors, index: int, entry: Entry, why: str) -> Vectors:
    """What the recipient says to `entry` in the place of message `index`."""
    clients, server = parties(Case(script_from_json(raw)), raw)
    party = clients[entry.to] if entry.to else server
    advance(party, entry.to, transcript_of(raw)[:index])
    try:
        party.hear(entry.sender, entry.data)
    except Refusal as error:
        return {
            "round": raw["name"],
            "at": index,
            "party": entry.to,
            "sender": entry.sender,
            "why": f"{entry.stage}: {why}",
            "data": entry.data.hex(),
            **error_to_json(error),
        }
    raise AssertionError((raw["name"], entry[:3], why))


def _advert_of(raw: Vectors, u: int) -> list[Any]:
    sent = next(e for e in transcript_of(raw) if e.sender == u)
    m = decode(sent.data, ["advert"])
    return [u, m.nonce, m.channel_key, m.signature]


def stolen(raw: Vectors) -> Vectors:
    """The advert of client 2, sent by client 3 as its own."""
    entries = transcript_of(raw)
    (index,) = (i for i, e in enumerate(entries) if (e.sender, e.stage) == (3, "advertise"))
    data = next(e.data for e in entries if e.sender == 2)
    return _refused(raw, index, Entry(3, 0, "advert", data), "the advert of another")


def replayed(raw: Vectors) -> Iterator[Vectors]:
    """Every message once more, right after it was taken."""
    entries = transcript_of(raw)
    taken: set[tuple[int, str]] = set()
    for index, entry in enumerate(entries):
        following = entries[index + 1 :]
        if 3 not in (entry.sender, entry.to) or (entry.to, entry.stage) in taken:
            continue
        if entry.to == 0 and entry.stage not in [e.stage for e in following if e.sender]:
            continue
        taken.add((entry.to, entry.stage))
        tag = decode(entry.data, FIELDS).tag
        yield _refused(raw, index + 1, entry._replace(stage=tag), ONCE_MORE)


ONCE_MORE = "once more"


def refusal_vectors(rounds: Vectors) -> Vectors:
    by_name = {raw["name"]: raw for raw in rounds["rounds"]}
    refused = [tried(by_name[attempt.round], attempt) for attempt in attempts()]
    for name in ("gone at upload", "active, gone at upload", "in pieces"):
        refused += replayed(by_name[name])
    for name in ("gone at upload", "active, gone at upload"):
        refused.append(stolen(by_name[name]))
    return {"refusals": refused}
