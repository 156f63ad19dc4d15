"""The live view: who is in, at which stage, who dropped and was recovered, and how it goes."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from fl.runner.events import (
    AloneEnded,
    Answered,
    Event,
    Lost,
    Rejoined,
    Revived,
    RoundEnded,
    RoundStarted,
    StageStarted,
    TrainingBegan,
    Trouble,
)
from fl.runner.frames import Verdict
from fl.settings import Settings

WAITING, DONE, KILLED, TRAINING, REFUSED, BACK = "·", "✓", "✗", "…", "!", "↻"
STYLES = {
    WAITING: "dim",
    DONE: "green",
    KILLED: "bold red",
    TRAINING: "yellow",
    REFUSED: "red",
    BACK: "green",
}


@dataclass
class View:
    """Draws events. On a terminal a live picture; elsewhere one line a round."""

    settings: Settings
    console: Console
    _marks: dict[tuple[int, str], str] = field(default_factory=dict)
    _notes: dict[int, str] = field(default_factory=dict)
    _back: dict[int, list[tuple[int, str]]] = field(default_factory=dict)
    _revived: set[tuple[int, str]] = field(default_factory=set)
    _ended: list[RoundEnded] = field(default_factory=list)
    _alone: dict[int, AloneEnded] = field(default_factory=dict)
    _round: int = 0
    _stage: str = ""
    _doing: str = "starting the client processes"
    _live: Live | None = None

    def __enter__(self) -> "View":
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self._draw, console=self.console, refresh_per_second=12
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._doing = ""
        if self._live:
            self._live.stop()

    def doing(self, what: str) -> None:
        """Say what takes time now."""
        self._doing = what

    def show(self, event: Event) -> None:
        """Take one event into the picture."""
        self._mark(event)
        match event:
            case RoundStarted():
                self._round = event.round
                self._doing = f"round {event.round} of {self.settings.total_rounds}"
            case StageStarted():
                self._stage = event.stage
                self._doing = f"round {self._round}, stage {event.stage}"
            case RoundEnded():
                self._ended.append(event)
                self._print_round(event)
            case AloneEnded():
                self._alone[event.client] = event
                self._doing = f"each client alone ({len(self._alone)} of {self._clients})"

    @property
    def _clients(self) -> int:
        return len(self.settings.roster)

    def _mark(self, event: Event) -> None:
        match event:
            case RoundStarted(clients=clients):
                here = {(who, stage) for who in clients for stage in self._stages}
                gone = {k: m for k, m in self._marks.items() if m == KILLED and k not in here}
                self._marks = gone | dict.fromkeys(here, WAITING)
                self._revived.clear()
            case Answered(client=who, stage=stage):
                again = (who, stage) in self._revived
                self._marks[who, stage] = BACK if again else DONE
                self._notes[who] = "killed, and back in time" if again else ""
            case TrainingBegan(client=who):
                self._marks[who, "upload"] = TRAINING
                self._notes[who] = "training"
            case Trouble(client=who, stage=stage, what=what):
                self._marks[who, stage] = REFUSED
                self._notes[who] = what
            case Lost(client=who, stage=stage, killed=killed):
                self._marks[who, stage] = KILLED
                self._notes[who] = "killed (SIGKILL)" if killed else "process ended"
            case Revived(client=who, stage=stage, pid=pid):
                self._revived.add((who, stage))
                self._back.setdefault(self._round, []).append((who, stage))
                self._marks[who, stage] = WAITING
                self._notes[who] = f"killed, back as process {pid}"
            case Rejoined(client=who, pid=pid):
                again = bool(self._notes.get(who))
                self._marks = {k: m for k, m in self._marks.items() if k[0] != who}
                self._notes[who] = f"{'back' if again else 'up'} as process {pid}"

    def _helpers(self) -> str:
        names = list(self.settings.helpers.values())
        return f" and {len(names)} more ({', '.join(names)})" if names else ""

    @property
    def _stages(self) -> tuple[str, ...]:
        return self.settings.stages

    def _draw(self) -> Group:
        last = Spinner("dots", self._doing) if self._doing else Text()
        return Group(self._headline(), self._grid(), self._history(), last)

    def _headline(self) -> Panel:
        about, s = self.settings.dataset, self.settings
        suite = f", suite {s.used_suite}" if s.used_suite else ""
        text = Text.assemble(
            (f"{about.title}\n", "bold"),
            f"{self._clients} client processes{self._helpers()}, protocol {s.protocol}{suite}"
            f"{', every member signs' if s.signed else ''}; "
            "a round needs "
            f"{s.parameters(1).floor} of {self._clients}",
        )
        return Panel(text, border_style="cyan", expand=False)

    def _grid(self) -> Table:
        table = Table(box=None, pad_edge=False)
        table.add_column("client")
        for stage in self._stages:
            table.add_column(stage, justify="center")
        table.add_column("", overflow="ellipsis", no_wrap=True)
        names = {**dict(enumerate(self.settings.roster, start=1)), **self.settings.helpers}
        for who, name in names.items():
            marks = (self._marks.get((who, stage), " ") for stage in self._stages)
            cells = [Text(mark, style=STYLES.get(mark, "")) for mark in marks]
            table.add_row(f"{who} {name}", *cells, Text(self._notes.get(who, ""), style="dim"))
        return table

    def _history(self) -> Table:
        table = Table(title="rounds", title_justify="left", title_style="bold")
        for name in ("round", "in the sum", "lost, and recovered", "sum", "kB a client"):
            table.add_column(name, justify="right" if name in ("round", "kB a client") else "left")
        for name in ("accuracy", "in clear"):
            table.add_column(name, justify="right")
        for ended in self._ended[-12:]:
            table.add_row(*self._row(ended))
        return table

    def _row(self, ended: RoundEnded) -> Iterable[str]:
        result, verdict = ended.result, ended.verdict
        plain = f"{verdict.plain_accuracy:.3f}" if verdict else ""
        accuracy = f"{ended.metrics.accuracy:.3f}"
        if result is None:
            return (str(ended.round), "none", ended.reason, "[red]aborted", "", accuracy, plain)
        wrong = verdict.max_abs_error if verdict else 0
        sent = [ended.sent_bytes.get(who, 0) for who in result.contributors]
        return (
            str(ended.round),
            f"{len(result.contributors)} of {self._clients}",
            ", ".join(self._lost(ended)) or "nobody",
            f"[red]off by {wrong}" if wrong else _sum(verdict),
            f"{sum(sent) / len(sent) / 1000:.1f}",
            accuracy,
            plain,
        )

    def _lost(self, ended: RoundEnded) -> Iterable[str]:
        for who, stage in ended.result.dropped.items() if ended.result else ():
            yield f"{who} at {stage}"
        for who, stage in self._back.get(ended.round, ()):
            yield f"{who} at {stage}, and back in time"

    def _print_round(self, ended: RoundEnded) -> None:
        if not self.console.is_terminal:
            number, there, lost, exact, kilobytes, secure, plain = self._row(ended)
            self.console.print(
                f"round {number}: {there} in the sum, lost {lost}; {exact}[/]; "
                f"{kilobytes} kB a client; accuracy {secure}, in clear {plain}",
                highlight=False,
                soft_wrap=True,
            )


def _sum(verdict: Verdict | None) -> str:
    """What is known of a sum that is not wrong."""
    if verdict is None:
        return ""
    return "[green]as in clear" if verdict.max_abs_error is None else "[green]exact"
