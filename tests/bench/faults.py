"""Prints the table of planted faults as Markdown: what each check says of a fault and of its clean twin.

    python -m tests.bench.faults [--messages]

The faults are those of tests/judge/planted.py, which the tests use too."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.judge.checking import check
from tests.judge.planted import PLANTED
from tests.judge.planting import Make, Planted


def judged(planted: Planted, make: Make) -> tuple[str, str]:
    """The verdict and the message of the check on these runs."""
    with tempfile.TemporaryDirectory() as folder:
        found = check(make(Path(folder)), planted.code, planted.name, planted.calibrated)
    return found.verdict, found.message


def rows(messages: bool) -> list[tuple[str, ...]]:
    made: list[tuple[str, ...]] = [("check", "planted fault", "verdict", "clean twin", "verdict")]
    for planted in PLANTED:
        (fault, said), (twin, _) = judged(planted, planted.make), judged(planted, planted.clean)
        text = f"{planted.fault}: *{said}*" if messages else planted.fault
        made.append((planted.code, text, fault, planted.twin, twin))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", action="store_true", help="with what the check says of the fault")
    head, *body = rows(parser.parse_args().messages)
    for row in [head, ("---",) * len(head), *body]:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
