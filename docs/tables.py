"""Writes the transition tables into docs/machine.md: `python docs/tables.py`."""

import typing
from pathlib import Path

from protocols.base import Machine
from protocols.he.client import Client as HeClient
from protocols.he.holder import KeyHolder
from protocols.he.server import Server as HeServer
from protocols.masking import ActiveClient, ActiveServer, Client, Server

PAGE = Path(__file__).parent / "machine.md"
START, END = "<!-- tables -->\n", "<!-- end -->"
MACHINES: tuple[type[Machine], ...] = (
    Client,
    Server,
    ActiveClient,
    ActiveServer,
    HeClient,
    KeyHolder,
    HeServer,
)


def table(machine: type[Machine]) -> str:
    """One machine's rows as a Markdown table, in the order of its states."""
    lines = [
        f"**{machine.role}**\n",
        "| in state | on | does | goes to |",
        "| --- | --- | --- | --- |",
    ]
    states = typing.get_args(machine.states)
    for row in sorted(machine.rows(), key=lambda row: states.index(row.state)):
        leads_to = " or ".join(row.leads_to)
        lines.append(
            f"| {row.state.__name__} | `{row.event.__name__}` | `{row.rule}` | {leads_to} |"
        )
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """`text` with its tables renewed."""
    before, rest = text.split(START)
    after = rest.split(END, 1)[1]
    return before + START + "\n".join(map(table, MACHINES)) + END + after


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
