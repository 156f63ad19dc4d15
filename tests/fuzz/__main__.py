"""`python -m tests.fuzz`: every target, many times, and what was found."""

import argparse
import sys
import time

from tests.fuzz.harness import RUNS, RUNS_OF, TARGETS, many


def main() -> int:
    """Exit with 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "--runs", type=int, help=f"runs of each target; {RUNS}, or of dear ones fewer"
    )
    parser.add_argument("--first", type=int, default=0, help="the number of the first run")
    parser.add_argument("--only", action="append", choices=list(TARGETS), help="this target")
    chosen = parser.parse_args()
    found = 0
    for name in chosen.only or TARGETS:
        began = time.perf_counter()
        report = many(name, chosen.runs or RUNS_OF.get(name, RUNS), chosen.first)
        seconds = time.perf_counter() - began
        answers = ", ".join(f"{kind} {count}" for kind, count in sorted(report.answers.items()))
        _say(f"{name:36} {report.runs:6} runs {seconds:7.1f} s  {answers}")
        for number, trace in report.findings:
            _say(f"FOUND in run {number} of {name!r}:\n{trace}")
        found += len(report.findings)
    _say(f"{found} findings")
    return 1 if found else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
