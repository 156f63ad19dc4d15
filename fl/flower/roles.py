"""Clients and helpers: decryptors and key holders are nodes of their own, which never train.

A node is a helper because its own configuration says so.
"""

from collections.abc import Callable

from flwr.app import Context

from fl.flower.wire import Refusal

ROLE = "secagg-role"
CLIENT, HELPER = "client", "helper"
Role = Callable[[Context], str]


def configured_role(context: Context) -> str:
    """What the node's configuration says: `--node-config 'secagg-role="helper"'`, or client."""
    return str(context.node_config.get(ROLE, CLIENT))


def is_helper(role: Role, context: Context) -> bool:
    """Whether this node is one. Raises Refusal for a role that there is not."""
    name = role(context)
    if name not in (CLIENT, HELPER):
        raise Refusal(f"this node's {ROLE} is {name!r}; set it to {CLIENT!r} or {HELPER!r}")
    return name == HELPER
