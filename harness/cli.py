"""The `harness` command: reads the arguments, runs one command, turns errors into one line and a status.

Only this module and the commands it calls know both the engines and the rest. Imports are inside the
functions: `harness --help` should not wait for matplotlib."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from harness import __version__
from harness.errors import BAD_INPUT, DONE, INTERRUPTED, OUR_FAULT, HarnessError

EPILOG = """\
exit status: 0 done, 1 done with invalid cells, a named candidate
missing or nothing to compare with, 2 bad arguments or configuration,
3 nothing could be started, 130 interrupted (what was measured is on disk), 70 a fault of the harness itself"""


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
    compare.add_argument(
        "--engines", help="candidates of the file or engines, separated by commas; default: the file's, else all"
    )
    compare.add_argument(
        "--launch", choices=("auto", "compose", "container", "process"), help="how engines start; default: auto"
    )
    compare.add_argument("--model", help="tiny, a local folder, or a hub id, org/name or org/name@revision")
    where = compare.add_mutually_exclusive_group()
    where.add_argument("--results", type=Path, metavar="DIR", help="new folder for the results")
    where.add_argument("--resume", type=Path, metavar="DIR", help="measure what this comparison lacks")
    _add_allow(compare)
    compare.set_defaults(run=_compare)

    _add_replay(commands)

    report = commands.add_parser("report", help="redraw charts, table and page from stored results")
    report.add_argument("folder", type=Path, metavar="DIR", help="folder of a comparison")
    _add_allow(report)
    report.set_defaults(run=_report)

    calibrate = commands.add_parser("calibrate", help="the client's own floor on this machine")
    calibrate.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="comparison file whose loads are tried; default: the preset"
    )
    calibrate.add_argument("--workers", type=int, metavar="W", help="driver processes; default: as the file says")
    calibrate.add_argument("--out", type=Path, metavar="DIR", help="keep it as DIR/calibration.json")
    calibrate.set_defaults(run=_calibrate)

    engines = commands.add_parser("engines", help="what can start here, and for each that cannot, why")
    engines.add_argument(
        "--pin", action="store_true", help="record the digests of the images on this machine; others are refused then"
    )
    engines.set_defaults(run=_engines)
    return parser


def _add_allow(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--allow",
        action="append",
        default=[],
        choices=("machine",),
        help="machine: show runs of several machines side by side; they are not ranked against each other",
    )


def _add_replay(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    replay = commands.add_parser(
        "replay",
        help="replay a workload against an endpoint that is already served",
        epilog="An API key is taken from OPENAI_API_KEY and never stored. A URL that ends in /chat/completions is "
        "spoken to in chat.",
    )
    replay.add_argument("--url", required=True, help="http or https, with or without a path")
    replay.add_argument("--engine", required=True, help="whose dialect; openai for any OpenAI-compatible server")
    replay.add_argument("--model", required=True, help="the name that the server knows it by")
    replay.add_argument("--tokenizer", required=True, help="tokenizer.json, its folder, a hub id, or tiny")
    replay.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder for the results")
    what = replay.add_argument_group("what is asked")
    what.add_argument(
        "--workload", type=Path, metavar="FILE", help="comparison file (TOML) or trace, instead of lengths"
    )
    what.add_argument("--input-tokens", type=int, metavar="N")
    what.add_argument("--output-tokens", type=int, metavar="M")
    what.add_argument("--requests", type=int, metavar="K", help="the most that are sent")
    what.add_argument("--duration-s", type=float, metavar="S", help="send no more after this time")
    what.add_argument("--seed", type=int, default=1)
    what.add_argument("--ca-file", default="", metavar="FILE", help="certificates that the server is trusted by")
    what.add_argument("--prompt", choices=("ids", "text"), help="default: text for chat, else token ids")
    what.add_argument(
        "--field", action="append", default=[], metavar="NAME=JSON", help="one more field of each request's body"
    )
    load = replay.add_argument_group("load shape; without any of these all at once")
    load.add_argument(
        "--concurrency", type=int, metavar="C", help="closed loop of C; beside --rate: the most in flight"
    )
    load.add_argument("--ramp-s", type=float, default=0.0, metavar="S", help="open the slots over this time")
    load.add_argument("--batch", type=int, metavar="B", help="static batches: send B, wait for all, send the next B")
    load.add_argument("--rate", type=float, metavar="R", help="open loop, requests/s")
    load.add_argument("--arrivals", choices=("poisson", "constant", "gamma", "trace"), default="poisson")
    load.add_argument("--burstiness", type=float, default=1.0, metavar="B", help="shape of gamma arrivals")
    load.add_argument("--ramp-to", type=float, metavar="R", help="rate at the end")
    load.add_argument("--cancel-fraction", type=float, default=0.0, metavar="F", help="of the requests are given up")
    load.add_argument("--cancel-after-s", type=float, default=0.0, metavar="S", help="this long after they were sent")
    how = replay.add_argument_group("how it is measured")
    how.add_argument(
        "--warmup", action="store_true", help="first as many requests as are in flight together, not counted"
    )
    how.add_argument("--deadline-s", type=float, default=120.0, metavar="S", help="cut a request off after this time")
    how.add_argument("--workers", type=int, default=1, metavar="W", help="driver processes")
    how.add_argument("--ray", metavar="ADDRESS", help="spread the workers over this Ray cluster")
    replay.set_defaults(run=_replay)


def _replay(asked: argparse.Namespace) -> int:
    import engines
    from harness.commands.replay import Wish, replay_url
    from harness.workload.load_keys import LoadKeys

    load = LoadKeys(**{name: getattr(asked, name) for name in LoadKeys.__slots__})
    fields = dict(map(_field, asked.field))
    flags = {name: getattr(asked, name) for name in Wish.__slots__ if name not in ("load", "fields")}
    return replay_url(engines.load(), Wish(load=load, fields=fields, **flags))


def _field(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise HarnessError(f"--field {text}: write NAME=JSON, for example ignore_eos=true.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value  # a bare word is a string


def _compare(asked: argparse.Namespace) -> int:
    import engines
    from harness.commands.compare import Wish, compare

    names = asked.engines.split(",") if asked.engines else []
    wish = Wish(
        file=asked.file,
        names=[n.strip() for n in names if n.strip()],
        model=asked.model,
        launch="compose" if asked.launch == "container" else asked.launch,
        results=asked.results,
        resume=asked.resume,
        allow_machine="machine" in asked.allow,
    )
    return compare(engines.load(), wish)


def _report(asked: argparse.Namespace) -> int:
    from harness.commands.show import report

    return report(asked.folder, "machine" in asked.allow)


def _calibrate(asked: argparse.Namespace) -> int:
    from harness.commands.calibrate import calibrate_here

    return calibrate_here(asked.file, asked.workers, asked.out)


def _engines(asked: argparse.Namespace) -> int:
    import engines
    from harness.commands.list_engines import list_engines

    return list_engines(engines.load(), asked.pin)


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
