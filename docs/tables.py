"""Writes the transition tables into docs/machine.md: `python docs/tables.py`."""

from pathlib import Path

from protocols.base import Machine
from protocols.masking import Client, Server

PAGE = Path(__file__).parent / "machine.md"
START, END = "<!-- tables -->\n", "<!-- end -->"


def table(machine: type[Machine]) -> str:
    """One machine's rows as a Markdown table."""
    lines = [
        f"**{machine.role}**\n",
        "| in state | on | does | goes to |",
        "| --- | --- | --- | --- |",
    ]
    for row in machine.rows():
        leads_to = " or ".join(row.leads_to)
        lines.append(
            f"| {row.state.__name__} | `{row.event.__name__}` | `{row.rule}` | {leads_to} |"
        )
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """`text` with its tables renewed."""
    before, rest = text.split(START)
    after = rest.split(END, 1)[1]
    return before + START + table(Client) + "\n" + table(Server) + END + after


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
