"""The `harness` command: reads the arguments, runs one command, turns errors into one line and a status.

Only this module and the commands it calls know both the engines and the rest. Imports are inside the
functions: `harness --help` should not wait for matplotlib."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from harness import __version__
from harness.errors import BAD_INPUT, DONE, INTERRUPTED, OUR_FAULT, HarnessError

EPILOG = """\
exit status: 0 done, 1 done with invalid cells, 2 bad arguments or configuration,
3 no engine could be started, 130 interrupted (what was measured is on disk), 70 a fault of the harness itself"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Compares LLM inference engines under identical load.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    compare = commands.add_parser("compare", help="measure engines and compare them")
    compare.add_argument("file", type=Path, metavar="FILE", help="comparison file (TOML)")
    compare.add_argument("--engines", help="names, separated by commas; without it every engine that can start")
    compare.add_argument("--model", help="tiny, a local folder, or a hub id, org/name or org/name@revision")
    where = compare.add_mutually_exclusive_group()
    where.add_argument("--results", type=Path, metavar="DIR", help="new folder for the results")
    where.add_argument("--resume", type=Path, metavar="DIR", help="measure what this comparison lacks")
    compare.set_defaults(run=_compare)

    report = commands.add_parser("report", help="redraw charts, table and page from stored results")
    report.add_argument("folder", type=Path, metavar="DIR", help="folder of a comparison")
    report.set_defaults(run=_report)

    engines = commands.add_parser("engines", help="what can start here, and for each that cannot, why")
    engines.set_defaults(run=_engines)
    return parser


def _compare(asked: argparse.Namespace) -> int:
    import engines
    from harness.commands import compare

    names = asked.engines.split(",") if asked.engines else []
    return compare(
        engines.load(), asked.file, [n.strip() for n in names if n.strip()], asked.model, asked.results, asked.resume
    )


def _report(asked: argparse.Namespace) -> int:
    from harness.commands import report

    return report(asked.folder)


def _engines(asked: argparse.Namespace) -> int:
    import engines
    from harness.commands import list_engines

    return list_engines(engines.load())


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status; never a traceback for what a user or an engine did."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if not hasattr(asked, "run"):
        parser.print_help()
        return DONE
    # Ended by a closed terminal or a supervisor, the engines must go as they go on Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup wants it to go on
            signal.signal(number, _interrupt)
    try:
        status: int = asked.run(asked)
        sys.stdout.flush()
        return status
    except HarnessError as problem:
        print(f"harness: {problem}", file=sys.stderr)
        return problem.exit_status
    except KeyboardInterrupt:
        print("harness: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `harness engines | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as problem:
        place = f"{problem.filename}: " if problem.filename else ""
        print(f"harness: {place}{problem.strerror or problem}", file=sys.stderr)
        return BAD_INPUT
    except Exception as problem:
        # A status of its own: 1 would say that a comparison is there.
        traceback.print_exc()
        print(f"harness: this is a fault of the harness itself: {problem!r}", file=sys.stderr)
        return OUR_FAULT


if __name__ == "__main__":
    sys.exit(main())
