"""Which nodes are helpers is for the server to say, by their ids; or it asks all nodes, and takes
their word for it.
"""

from flwr.app import MessageType
from flwr.serverapp import Grid

from fl.flower.cohort import opened
from fl.flower.exchange import UNAVAILABLE, Clock, Exchange, Patience, Pattern
from fl.flower.protection import Protection
from fl.flower.report import Lost
from fl.flower.roles import HELPER, ROLE
from fl.flower.wire import VERSION, Request, pack
from secagg.errors import ParameterError


def find_helpers(
    grid: Grid,
    protection: Protection,
    *,
    patience: Patience | None = None,
    clock: Clock | None = None,
) -> tuple[int, ...]:
    """The ids of the nodes that say that they are helpers, once there are as many as are needed.

    It believes them: where a client may lie about its role, name the helpers by their ids
    instead. Raises ParameterError where there are more, or, at the deadline, fewer.
    """
    if not protection.helpers:
        return ()
    patience, clock = patience or Patience(), clock or Clock()
    exchange, end = Exchange(grid, patience, clock), clock.now() + patience.deadline
    roles: dict[int, bool] = {}
    while True:
        new = [node for node in grid.get_node_ids() if node not in roles]
        roles |= _ask(exchange, new, max(end - clock.now(), patience.poll))
        found = tuple(sorted(node for node, helper in roles.items() if helper))
        if len(found) >= protection.helpers or clock.now() >= end:
            break
        clock.sleep(patience.poll)
    if len(found) != protection.helpers:
        raise ParameterError(
            f"{len(found)} nodes say that they are helpers, and {protection.protocol!r} needs "
            f"{protection.helpers}; configure so many nodes with {ROLE}={HELPER!r}, or name them "
            "with helpers="
        )
    return found


def _ask(exchange: Exchange, nodes: list[int], deadline: float) -> dict[int, bool]:
    """Whether each node that answers is one."""
    request = pack(Request(VERSION, "role", b"", (), (), (), (), 0, b""), ())
    pattern = Pattern(MessageType.TRAIN, "", "role", deadline)
    roles = {}
    for node, reply in exchange.ask(dict.fromkeys(nodes, request), pattern, min(len(nodes), 1)):
        body = opened(reply)
        if not isinstance(body, Lost) or body.code != UNAVAILABLE:  # else it is asked again
            roles[node] = not isinstance(body, Lost) and body[0].helper
    return roles
