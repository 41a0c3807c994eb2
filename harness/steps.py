"""Runs one step of an installation: its output goes to a log, its latest line to the screen."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.environment import without_secrets
from harness.errors import CannotStart

Say = Callable[[str], None]


def run_step(
    what: str,
    command: Sequence[str],
    log: Path,
    say: Say,
    hint: str = "",
    env: Mapping[str, str] | None = None,
) -> None:
    """Runs the command in the environment `env`, by default this process's without secrets. If it fails, raises
    CannotStart with its most informative line, its log and `hint`."""
    with log.open("ab", buffering=0) as out:
        out.write(f"\n== {what}\n".encode())
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=without_secrets(os.environ) if env is None else env,
                start_new_session=True,
            )
        except OSError as problem:
            raise CannotStart(f"{what}: cannot run {command[0]} ({problem.strerror}). {hint}".strip()) from None
        lines: list[str] = []
        try:
            assert process.stdout is not None
            for raw in process.stdout:
                out.write(raw)
                line = raw.decode(errors="replace").strip()
                if line:
                    lines = [*lines[-400:], line]
                    say(f"{what}: {line}")
            status = process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status:
        why = f"{what} failed (exit {status}): {telling_line(lines)}."
        raise CannotStart(" ".join(part for part in (why, hint, f"Log: {log}") if part))


def telling_line(lines: Sequence[str]) -> str:
    """The most informative line of a log: the last one that mentions an error, else the last one."""
    signs = (
        "no space left",
        "error:",
        "error ",
        "fatal",
        "failed",
        "exception",
        "not found",
        "cannot",
        "unknown option",
    )
    for line in reversed(lines):
        if any(sign in line.lower() for sign in signs) and "for help visit" not in line:
            return line[:300].rstrip(".")
    return lines[-1][:300].rstrip(".") if lines else "it printed nothing"
