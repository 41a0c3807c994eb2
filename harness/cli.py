"""The `harness` command: reads the arguments, runs one command, turns errors into one line and a status.

Only this module and the commands it calls know both the engines and the rest. Imports are inside the
functions, so that `harness --help` does not wait for matplotlib."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from harness import __version__
from harness.commands import flags
from harness.console import ready
from harness.errors import BAD_INPUT, DONE, INTERRUPTED, OUR_FAULT, HarnessError
from harness.paths import cache_hint
from harness.visible import visible

EPILOG = """\
exit status: 0 done, 1 done with invalid cells, runs or a named candidate missing, a file that
cannot be read, nothing to compare with or a regression against --against, 2 bad arguments or
configuration, 3 nothing could be started, 130 interrupted (what was measured is on disk),
70 a bug in the harness (what it did not touch is shown)"""
# A failed write does not say where.
FULL = "; make room for the results folder and the cache (HARNESS_CACHE names another), then go on with --resume."


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
        "--engines",
        help="candidates or engines, separated by commas (one named twice: an A/A test); default: those in the file, "
        "else all engines",
    )
    compare.add_argument(
        "--launch", choices=("auto", "compose", "container", "process"), help="how engines start; default: auto"
    )
    compare.add_argument("--model", help="tiny, smollm2, a local folder, or a hub id, org/name or org/name@revision")
    where = compare.add_mutually_exclusive_group()
    where.add_argument("--results", type=Path, metavar="DIR", help="new folder for the results")
    where.add_argument("--resume", type=Path, metavar="DIR", help="finish the comparison in this folder")
    _add_against(compare)
    compare.add_argument(
        "--again", type=flags.whole, metavar="N", help="with --resume: set round N aside and measure it again"
    )
    _add_allow(compare)
    compare.set_defaults(run=_compare)

    _add_replay(commands)

    report = commands.add_parser("report", help="redraw charts, table and page from stored results")
    report.add_argument(
        "folders", type=Path, nargs="+", metavar="DIR", help="folder of a comparison; several are shown side by side"
    )
    report.add_argument(
        "--out", type=Path, metavar="DIR", help="where several are written; default: results/side-by-side"
    )
    report.add_argument("--price", type=Path, metavar="FILE", help="price file (TOML): usd_per_hour, [candidates]")
    _add_against(report)
    _add_allow(report)
    report.set_defaults(run=_report)

    calibrate = commands.add_parser("calibrate", help="measure the client's own floor on this machine")
    calibrate.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="comparison file with the loads; default: the preset"
    )
    calibrate.add_argument("--workers", type=flags.whole, metavar="W", help="driver processes; default: the file's")
    calibrate.add_argument("--out", type=Path, metavar="DIR", help="also write DIR/calibration.json")
    calibrate.set_defaults(run=_calibrate)

    engines = commands.add_parser("engines", help="list the engines that can start here, and why the others cannot")
    engines.add_argument(
        "--pin", action="store_true", help="record the digests of the images on this machine and refuse any others"
    )
    engines.set_defaults(run=_engines)
    return parser


def _add_against(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--against",
        type=Path,
        metavar="DIR",
        help="hold it against this earlier comparison of the same file and machine: PASS, REGRESSION or NOT KNOWN",
    )


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
        help="replay a workload against a server that already runs",
        epilog="The API key is read from OPENAI_API_KEY and never stored. A URL that ends in /chat/completions gets "
        "chat requests.",
    )
    replay.add_argument("--url", required=True, help="http or https, with or without a path")
    replay.add_argument("--engine", required=True, help="API to use: an engine's, or openai for any compatible server")
    replay.add_argument("--model", required=True, help="the server's name for the model")
    replay.add_argument("--tokenizer", required=True, help="tokenizer.json, its folder, a hub id, tiny or smollm2")
    replay.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder for the results")
    what = replay.add_argument_group("requests")
    what.add_argument(
        "--workload", type=Path, metavar="FILE", help="comparison file (TOML) or trace, instead of lengths"
    )
    what.add_argument(
        "--trace-from-s", type=flags.decimal, metavar="S", help="of a trace, only what comes later than this"
    )
    what.add_argument("--trace-for-s", type=flags.decimal, metavar="S", help="of a trace, only this time")
    what.add_argument("--trace-format", default="", metavar="F", help="default: told by the trace's keys or columns")
    what.add_argument("--input-tokens", type=flags.lengths, metavar="N", help="of every prompt, or a range: 32:96")
    what.add_argument("--output-tokens", type=flags.lengths, metavar="M", help="of every answer, or a range: 16:48")
    what.add_argument("--requests", type=flags.whole, metavar="K", help="send at most this many")
    what.add_argument("--duration-s", type=flags.decimal, metavar="S", help="send no more after this time")
    what.add_argument(
        "--at-least-s", type=flags.decimal, metavar="S", help="instead of --requests: go on for this time"
    )
    what.add_argument(
        "--at-least-requests", type=flags.whole, metavar="K", help="and for as many; default: 10 for each slot"
    )
    what.add_argument(
        "--at-most-s", type=flags.decimal, metavar="S", help="stop then in any case; default: 4 x --at-least-s"
    )
    what.add_argument("--seed", type=flags.whole, help="default: 1, or the file's")
    what.add_argument("--ca-file", default="", metavar="FILE", help="CA certificates to trust for this server")
    what.add_argument("--prompt", choices=("ids", "text", "chat"), help="default: as the route takes it")
    what.add_argument(
        "--field", action="append", default=[], metavar="NAME=JSON", help="add a field to each request; a.b: nested"
    )
    what.add_argument(
        "--no-field", action="append", default=[], metavar="NAME", dest="drop", help="leave a field out of each request"
    )
    what.add_argument(
        "--length-field", default="", metavar="NAME", help="field that takes the output tokens: max_completion_tokens"
    )
    _add_load_shape(replay)
    how = replay.add_argument_group("measurement")
    how.add_argument("--warmup", action="store_true", help="first send one request per slot, not counted")
    how.add_argument(
        "--deadline-s", type=flags.decimal, default=120.0, metavar="S", help="abort a request after this time"
    )
    how.add_argument("--workers", type=flags.whole, default=1, metavar="W", help="driver processes")
    how.add_argument("--ray", metavar="ADDRESS", help="spread the workers over this Ray cluster")
    replay.set_defaults(run=_replay)


def _add_load_shape(replay: argparse.ArgumentParser) -> None:
    load = replay.add_argument_group("load shape; default: all requests at once")
    load.add_argument(
        "--concurrency", type=flags.whole, metavar="C", help="closed loop of C; with --rate: at most C in flight"
    )
    load.add_argument("--ramp-s", type=flags.decimal, default=0.0, metavar="S", help="open the slots over this time")
    load.add_argument(
        "--batch", type=flags.whole, metavar="B", help="static batches: send B, wait for all, send the next B"
    )
    load.add_argument("--rate", type=flags.decimal, metavar="R", help="open loop, requests/s")
    load.add_argument("--arrivals", choices=("poisson", "constant", "gamma", "trace"), default="poisson")
    load.add_argument("--burstiness", type=flags.decimal, default=1.0, metavar="B", help="shape of gamma arrivals")
    load.add_argument("--ramp-to", type=flags.decimal, metavar="R", help="rate at the end")
    load.add_argument(
        "--cancel-fraction", type=flags.decimal, default=0.0, metavar="F", help="cancel this fraction of the requests"
    )
    load.add_argument(
        "--cancel-after-s", type=flags.decimal, default=0.0, metavar="S", help="cancel them this long after sending"
    )


def _replay(arguments: argparse.Namespace) -> int:
    import engines
    from harness.commands.replay import ReplayOptions, replay_url
    from harness.workload.load_keys import LoadKeys

    load = LoadKeys(**{name: getattr(arguments, name) for name in LoadKeys.__slots__})
    fields = dict(map(flags.field, arguments.field))
    others = {
        name: getattr(arguments, name) for name in ReplayOptions.__slots__ if name not in ("load", "fields", "drop")
    }
    return replay_url(engines.load(), ReplayOptions(load=load, fields=fields, drop=tuple(arguments.drop), **others))


def _compare(arguments: argparse.Namespace) -> int:
    import engines
    from harness.commands.compare import CompareOptions, run_comparison

    options = CompareOptions(
        file=arguments.file,
        names=flags.names(arguments.engines),
        model=arguments.model,
        launch="compose" if arguments.launch == "container" else arguments.launch,
        results=arguments.results,
        resume=arguments.resume,
        then=arguments.against,
        again=arguments.again,
        allow_machine="machine" in arguments.allow,
    )
    return run_comparison(engines.load(), options)


def _report(arguments: argparse.Namespace) -> int:
    from harness.commands.show import ShowOptions, report, report_beside

    allow_machine = "machine" in arguments.allow
    if len(arguments.folders) > 1:
        for name in ("against", "price"):
            if getattr(arguments, name):
                raise HarnessError(f"--{name} is for one folder, and there are {len(arguments.folders)}.")
        return report_beside(arguments.folders, arguments.out, allow_machine)
    if arguments.out:
        raise HarnessError("--out is for several folders side by side; a single report is written into its own folder.")
    options = ShowOptions(allow_machine=allow_machine, then=arguments.against, prices=arguments.price)
    return report(arguments.folders[0], options)


def _calibrate(arguments: argparse.Namespace) -> int:
    from harness.commands.calibrate import calibrate_here

    return calibrate_here(arguments.file, arguments.workers, arguments.out)


def _engines(arguments: argparse.Namespace) -> int:
    import engines
    from harness.commands.list_engines import list_engines

    return list_engines(engines.load(), arguments.pin)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _interrupted() -> int:
    """The last line and the status. Another Ctrl-C from here on would end Python in the middle, with a traceback or
    with the signal's own status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    complain("interrupted")
    return INTERRUPTED


def complain(text: str) -> None:
    """One line on stderr, without control characters: the text may be a server's. After a hang-up writing to the
    terminal fails, and without this the status would be Python's own."""
    for stream, line in ((sys.stdout, ""), (sys.stderr, f"harness: {visible(text, None)}\n")):
        try:
            stream.write(line)
            stream.flush()
        except OSError:  # nobody reads it
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _was_interrupted(problem: BaseException | None) -> bool:
    """Whether this happened while an interruption was being handled."""
    while problem is not None:
        if isinstance(problem, KeyboardInterrupt) or getattr(problem, "exit_status", None) == INTERRUPTED:
            return True
        problem = problem.__context__
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status; never a traceback for what a user or an engine did."""
    ready()
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if not hasattr(parsed, "run"):
        parser.print_help()
        return DONE
    # A closed terminal or a supervisor must stop the engines just as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # ignored under nohup
            signal.signal(number, _interrupt)
    try:
        status: int = parsed.run(parsed)
        sys.stdout.flush()
        return status
    except HarnessError as problem:
        complain(str(problem))
        return problem.exit_status
    except KeyboardInterrupt:
        return _interrupted()
    except OSError as problem:
        if _was_interrupted(problem):  # the terminal was closed: it takes no last line either
            return _interrupted()
        if isinstance(problem, BrokenPipeError):  # `harness engines | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        place = f"{problem.filename}: " if problem.filename else ""
        full = FULL if problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
        complain(f"{place}{problem.strerror or problem}{full or cache_hint(problem.filename)}")
        return BAD_INPUT
    except UnicodeEncodeError as problem:  # a file's name, or text for a file
        found = ascii(problem.object[problem.start : problem.end][:5])  # not all of it: it may be a token
        what = "choose another name" if problem.encoding == "utf-8" else "set LC_ALL=C.UTF-8"
        complain(f"a name or a text has {found}, which {problem.encoding} cannot express; {what}.")
        return BAD_INPUT
    except MemoryError:  # of this machine or its limit, as a full disk
        complain("not enough memory (ulimit -v, the container's limit); what was measured is on disk.")
        return BAD_INPUT
    except Exception as problem:
        # Not status 1, which means that a comparison was written.
        traceback.print_exc()
        complain(f"this is a bug in the harness: {problem!r}")
        return OUR_FAULT


if __name__ == "__main__":
    sys.exit(main())
