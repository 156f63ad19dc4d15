"""A round of `masking` as data: how it is played by any parties, and what came of it.

`Script` has what the parties cannot know from each other; `play` runs it and returns every
message and the outcome. Parties are made by the caller: those of tests.reference, the real
ones, or some of each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from tests.reference.client import Seeds
from tests.reference.errors import Abort, Refusal
from tests.reference.session import Member, Parameters, Session, identity_digest, roster_digest

STAGES = ("advertise", "share", "upload", "unmask")
ACTIVE_STAGES = ("advertise", "share", "upload", "consistency", "unmask")


class Entry(NamedTuple):
    """A message: `stage` is the sender's."""

    sender: int
    to: int
    stage: str
    data: bytes


class Client(Protocol):
    def start(self) -> list[bytes]: ...

    def hear(self, sender: int, data: bytes) -> list[bytes]: ...


class Server(Protocol):
    result: dict[str, Any] | None

    def hear(self, sender: int, data: bytes) -> None: ...

    def close(self) -> list[tuple[int, bytes]]: ...


@dataclass(frozen=True)
class Script:
    """A round. absent: the first stage in which a client sends nothing, and is gone."""

    name: str
    session: Session
    application: bytes
    graph_seed: bytes
    seeds: Mapping[int, Seeds]
    values: Mapping[int, Sequence[int]]
    identities: Mapping[int, bytes] = field(default_factory=dict)
    absent: Mapping[int, str] = field(default_factory=dict)

    @property
    def stages(self) -> tuple[str, ...]:
        return ACTIVE_STAGES if self.session.parameters.active else STAGES

    def gone(self, u: int, stage: str) -> bool:
        return u in self.absent and self.stages.index(self.absent[u]) <= self.stages.index(stage)


@dataclass
class Played:
    """What happened. refusals: who refused a message, and with what error."""

    transcript: list[Entry] = field(default_factory=list)
    refusals: list[tuple[int, Refusal]] = field(default_factory=list)
    result: dict[str, Any] | None = None
    abort: Refusal | None = None


Tamper = Mapping[tuple[int, str], Callable[[list[bytes]], list[bytes]]]


def play(
    script: Script, clients: Mapping[int, Client], server: Server, tamper: Tamper | None = None
) -> Played:
    """All stages. Clients act in the order of their numbers."""
    played = Played()
    requests: dict[int, bytes] = {}
    for stage in script.stages:
        for u in sorted(clients):
            if script.gone(u, stage) or (stage != "advertise" and u not in requests):
                continue
            sent = _sent(played, u, clients[u], requests.get(u))
            sent = (tamper or {}).get((u, stage), lambda same: same)(sent)
            for data in sent:
                played.transcript.append(Entry(u, 0, stage, data))
                _hear(played, server, u, data)
        try:
            asked = server.close()
        except Refusal as abort:
            played.abort = abort
            break
        played.transcript += [Entry(0, u, stage, data) for u, data in asked]
        requests = dict(asked)
    played.result = server.result
    return played


def _sent(played: Played, u: int, client: Client, request: bytes | None) -> list[bytes]:
    try:
        return client.start() if request is None else client.hear(0, request)
    except Refusal as error:
        played.refusals.append((u, error))
        return []


def _hear(played: Played, server: Server, u: int, data: bytes) -> None:
    try:
        server.hear(u, data)
    except Refusal as error:
        played.refusals.append((0, error))


# --- as JSON -----------------------------------------------------------------------------


def error_to_json(error: Refusal) -> dict[str, Any]:
    out: dict[str, Any] = {"error": error.name, "reason": error.reason}
    if hasattr(error, "stage"):
        out["stage"] = error.stage
    if isinstance(error, Abort):
        return out | {"blame": error.blame}
    return out | ({"peer": error.peer} if hasattr(error, "peer") else {})


def script_to_json(script: Script) -> dict[str, Any]:
    session = script.session
    return {
        "name": script.name,
        "parameters": {k: v for k, v in vars(session.parameters).items()},
        "encoded_parameters": session.parameters.encoded().hex(),
        "session_id": session.session_id.hex(),
        "roster": session.roster.hex(),
        "members": [
            {
                "name": m.name,
                "scheme": m.scheme,
                "key": m.key.hex(),
                "expires": m.expires,
                "seed": script.identities[u].hex(),
            }
            for u, m in enumerate(session.members, start=1)
        ],
        "application": script.application.hex(),
        "graph_seed": script.graph_seed.hex(),
        "clients": {
            str(u): {"seeds": [s.hex() for s in script.seeds[u]], "values": list(script.values[u])}
            for u in script.seeds
        },
        "absent": {str(u): stage for u, stage in script.absent.items()},
        "context0": session.context0.hex(),
    }


def script_from_json(raw: dict[str, Any]) -> Script:
    members = tuple(
        Member(m["name"], m["scheme"], bytes.fromhex(m["key"]), m["expires"])
        for m in raw["members"]
    )
    session = Session(
        Parameters(**raw["parameters"]),
        bytes.fromhex(raw["session_id"]),
        bytes.fromhex(raw["roster"]),
        members,
    )
    clients = {int(u): each for u, each in raw["clients"].items()}
    return Script(
        raw["name"],
        session,
        bytes.fromhex(raw["application"]),
        bytes.fromhex(raw["graph_seed"]),
        {u: Seeds(*map(bytes.fromhex, each["seeds"])) for u, each in clients.items()},
        {u: each["values"] for u, each in clients.items()},
        {u: bytes.fromhex(m["seed"]) for u, m in enumerate(raw["members"], start=1)},
        {int(u): stage for u, stage in raw["absent"].items()},
    )


def played_to_json(played: Played) -> dict[str, Any]:
    out: dict[str, Any] = {
        "transcript": [[e.sender, e.to, e.stage, e.data.hex()] for e in played.transcript],
        "refusals": [{"party": u, **error_to_json(e)} for u, e in played.refusals],
    }
    if played.abort:
        return out | {"abort": error_to_json(played.abort)}
    result = dict(played.result or {})
    return out | {"result": result | {"dropped": {str(u): s for u, s in result["dropped"].items()}}}


def transcript_of(raw: dict[str, Any]) -> list[Entry]:
    return [Entry(a, b, stage, bytes.fromhex(data)) for a, b, stage, data in raw["transcript"]]


def session_of(parameters: Parameters, number: int, members: Sequence[Member] = ()) -> Session:
    """Session `number`; without members, of names."""
    names = [f"site {u}" for u in range(1, parameters.clients + 1)]
    digest = identity_digest(members) if members else roster_digest(names)
    return Session(parameters, number.to_bytes(32, "big"), digest, tuple(members))
