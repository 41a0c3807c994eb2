"""Runs one engine and makes sure that none of its processes outlives the harness, however the harness ends.

`python -m harness.launch.guard COMMAND ...` starts COMMAND and waits. When COMMAND exits, or standard input ends (the
harness stopped the engine, crashed or was killed), every descendant of COMMAND is ended, including those that moved
to another session: on Linux the guard is their subreaper."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import psutil

GRACE_S = 5.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def guard(command: Sequence[str]) -> int:
    """Runs the command; returns its exit status, or 128 + the signal that killed it."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the harness decides, through standard input
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_parent)
    while child.poll() is None and not stopped:
        readable, _, _ = select.select([0], [], [], 0.2)
        if readable and not os.read(0, 4096):
            break
    end_descendants(GRACE_S, child.pid)
    status = child.wait()
    return status if status >= 0 else 128 - status


def end_descendants(grace_s: float, child: int) -> None:
    """SIGTERM, `grace_s` seconds, SIGKILL, until this process has no descendants left."""
    me = psutil.Process()
    sent: set[int] = set()
    kill_at = time.monotonic() + grace_s
    while alive := [p for p in me.children(recursive=True) if _running(p, child)]:
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                if time.monotonic() > kill_at:
                    process.kill()
                elif process.pid not in sent:
                    sent.add(process.pid)
                    process.terminate()
        time.sleep(0.05)


def _running(process: psutil.Process, child: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
        if process.status() != psutil.STATUS_ZOMBIE:
            return True
        if process.pid != child:  # whose status `guard` still wants to read
            os.waitpid(process.pid, os.WNOHANG)
    return False


if __name__ == "__main__":
    sys.exit(guard(sys.argv[1:]))
