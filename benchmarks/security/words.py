"""How a figure is written, and what every page says first."""

from collections.abc import Iterator, Sequence

from benchmarks.security.verdict import Row, Verdict

NOT_COVERED = (
    (
        "The sum itself",
        "Whatever follows from the sum, and from the model made of it, follows: "
        "membership, and which of two updates is in it. Clipping and noise are the remedy.",
    ),
    (
        "A malicious model sent to all",
        "An imprint layer carries single records through any sum. "
        "Binding to the model only finds that clients were shown different ones.",
    ),
    (
        "Poisoning",
        "Nobody can look at a masked update. Clipping is done by the clients, and a "
        "liar does not clip.",
    ),
    (
        "Tiny cohorts",
        "In a sum of two, each knows the other. Demand a floor well above the "
        "number of clients that may collude.",
    ),
    (
        "Differencing over rounds",
        "Two sums over cohorts that differ by one client differ by that client's update, nearly.",
    ),
    ("Metadata", "Who takes part, when, how long it takes, how many bytes it sends."),
)
MEANING = {
    Verdict.PROTECTS: "the whole interval is on the safe side, and the attack works on the "
    "reference",
    Verdict.DOES_NOT: "it does not exclude what secure aggregation is there to exclude",
    Verdict.OUT_OF_SCOPE: "the attack works, and no sum of updates could prevent it",
    Verdict.NO_CLAIM: "measured, but docs/threat-models.md does not claim it, and why not",
    Verdict.INVALID: "the attack fails on the reference that is weak on purpose: it shows nothing",
}
SEMI_HONEST = (
    "masking, semi-honest, lattice, committee, ckks and bfv assume a server that keeps to the "
    "protocol. The lies show what is left of them if it does not; only active mode is made for "
    "that. Where one says protects, that lie as it was told failed, and another may not: swapped "
    "keys work on all of them."
)


def figure(row: Row) -> str:
    """The value, as its metric is read."""
    if row.metric == "|t|":
        return f"{row.value:.1f}"
    if row.metric.startswith("PSNR"):
        return f"{row.value:.0f}"
    if _share(row):
        return f"{100 * row.value:.0f} %"
    return f"{row.value:.2f}"


def interval(row: Row) -> str:
    """The 95 % interval, likewise."""
    if row.metric == "|t|":
        return f"{row.low:.1f} to {row.high:.1f}"
    if row.metric.startswith("PSNR"):
        return f"{row.low:.0f} to {row.high:.0f}"
    if _share(row):
        return f"{100 * row.low:.0f} to {100 * row.high:.0f} %"
    return f"{row.low:.2f} to {row.high:.2f}"


def _share(row: Row) -> bool:
    return row.interval in ("Wilson", "Clopper-Pearson")


def grouped(rows: Sequence[Row]) -> Iterator[tuple[str, list[tuple[str, list[Row]]]]]:
    """(attack, [(setting, rows)]) in the order of the run."""
    for attack in dict.fromkeys(row.attack for row in rows):
        mine = [row for row in rows if row.attack == attack]
        settings = dict.fromkeys(row.setting for row in mine)
        yield attack, [(s, [row for row in mine if row.setting == s]) for s in settings]


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """How many rows of each verdict, the reference left out."""
    own = [row for row in rows if row.target != "vulnerable_reference"]
    return {each.value: sum(row.verdict == each.value for row in own) for each in Verdict}
