"""The page of `--out`, and `python -m benchmarks.security.page RESULT.json`: docs/security.md."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.security import pictures
from benchmarks.security.pictures import Picture
from benchmarks.security.suite import read
from benchmarks.security.targets import REFERENCE
from benchmarks.security.verdict import Row
from benchmarks.security.words import (
    MEANING,
    NOT_COVERED,
    SEMI_HONEST,
    counts,
    figure,
    grouped,
    interval,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = "security.html"
SHORT = {"Wilson": "W", "Clopper-Pearson": "CP", "bootstrap": "B", "normal": "N"}


class Cell(NamedTuple):
    """A row of the run as a cell."""

    row: Row
    figure: str
    interval: str


def write_page(content: Mapping[str, Any], folder: Path) -> Path:
    """The page and its pictures in `folder`; content is what `suite.read` gives."""
    drawn = pictures.write(folder)
    page = folder / PAGE
    page.write_text(render(content, drawn), encoding="utf-8")
    return page


def render(content: Mapping[str, Any], drawn: Sequence[tuple[Picture, bytes]]) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rows: list[Row] = content["rows"]
    text: str = environment.get_template("security.html.j2").render(
        quick=content["quick"],
        limits=NOT_COVERED,
        semi_honest=SEMI_HONEST,
        meaning={verdict.value: meaning for verdict, meaning in MEANING.items()},
        counts=counts(rows),
        pictures=[(picture, pictures.data_uri(png)) for picture, png in drawn],
        attacks=list(_attacks(content)),
        machine=content["machine"],
        seconds=content["seconds"],
    )
    return text


def _attacks(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    about = {each["name"]: each for each in content["attacks"]}
    rows: list[Row] = content["rows"]
    order = [name for name in dict.fromkeys(row.target for row in rows) if name != REFERENCE]
    for name, settings in grouped(rows):
        mine = {row.target for _, found in settings for row in found}
        columns = [target for target in (*order, REFERENCE) if target in mine]
        yield {
            **about[name],
            "targets": columns,
            "settings": [(setting, _cells(found, columns)) for setting, found in settings],
            "notes": [*_notes(settings), *_reasons(about[name].get("absent", {}))],
        }


def _cells(found: Sequence[Row], columns: Sequence[str]) -> list[Cell | None]:
    by_target = {row.target: row for row in found}
    return [
        Cell(row, figure(row), f"{interval(row)} {SHORT[row.interval]}") if row else None
        for row in (by_target.get(name) for name in columns)
    ]


def _notes(settings: Sequence[tuple[str, Sequence[Row]]]) -> list[str]:
    """What honest clients said, and how much was done: one line for each remark."""
    said: dict[tuple[str, str], list[str]] = {}
    for setting, found in settings:
        for row in found:
            if row.note:
                said.setdefault((setting, row.note), []).append(row.target)
    return [
        f"{setting}, {', '.join(names) if len(names) < 4 else f'{len(names)} targets'}: {note}"
        for (setting, note), names in said.items()
    ]


def _reasons(absent: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Why there is a dash, for each setting and reason."""
    for setting, by_protocol in absent.items():
        for why in dict.fromkeys(by_protocol.values()):
            names = [name for name, reason in by_protocol.items() if reason == why]
            yield f"{setting}, {', '.join(names)}: – because {why}"


def main(arguments: Sequence[str]) -> None:
    """Write docs/security.md and its pictures."""
    content = read(Path(arguments[0]))
    drawn = pictures.write(DOCS / "security")
    text = "\n".join(_markdown(content, [picture for picture, _ in drawn]))
    (DOCS / "security.md").write_text(text.rstrip() + "\n", encoding="utf-8")


def _markdown(content: Mapping[str, Any], drawn: Sequence[Picture]) -> Iterator[str]:
    yield from ("# Attacks", "", "## What secure aggregation does not cover", "")
    for name, why in NOT_COVERED:
        yield f"- **{name}.** {why}"
    yield from ("", SEMI_HONEST, "", "## How to read a verdict", "")
    for verdict, meaning in MEANING.items():
        yield f"- **{verdict}**: {meaning}."
    found = ", ".join(f"{count} {name}" for name, count in counts(content["rows"]).items() if count)
    yield ""
    yield f"{found}; the reference, a protocol that is weak on purpose, is not counted. Every cell"
    yield "is a run of its own protocol; a dash stands where the attack has no meaning for it, and"
    yield "the remarks say why. Where a setting says clip + noise, it is the noise that protects."
    yield "A figure stands with its 95 % interval: W Wilson, CP Clopper–Pearson, B bootstrap,"
    yield "N normal."
    yield ""
    for picture in drawn:
        yield from (f"## {picture.title}", "", picture.about, "")
        yield from (f"![{picture.title}](security/{picture.name}.png)", "")
    for attack in _attacks(content):
        yield from _section(attack)
    yield from ("## The machine", "", "| | |", "| --- | --- |")
    for name, value in content["machine"].items():
        yield f"| {name} | {value} |"
    yield from ("", "## Repeat it", "", "```", "secagg bench security --json security.json")
    yield from ("python -m benchmarks.security.page security.json", "```", "")
    yield f"The full run took {content['seconds']:.0f} s; `--quick` ends within a minute, and"
    yield "`--out DIR` writes the same as a page."


def _section(attack: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"## {attack['name'].capitalize()}", "")
    yield f"{attack['about']} Metric: {attack['metric']}. {attack['source']}."
    yield ""
    yield f"| target | {' | '.join(setting for setting, _ in attack['settings'])} |"
    yield f"| --- |{' --- |' * len(attack['settings'])}"
    for at, target in enumerate(attack["targets"]):
        cells = (_cell(found[at]) for _, found in attack["settings"])
        yield f"| `{target}` | {' | '.join(cells)} |"
    yield ""
    if attack["notes"]:
        yield from ("<details><summary>Remarks</summary>", "")
        for note in attack["notes"]:
            yield f"- {note}"
        yield from ("", "</details>", "")


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    return f"**{cell.row.verdict}** {cell.figure} ({cell.interval})"


if __name__ == "__main__":
    main(sys.argv[1:])
