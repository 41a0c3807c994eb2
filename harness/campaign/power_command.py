"""`power_command` of a comparison file: a program that prints watts, one number a line, for as long as it runs.

It runs once beside all runs of a start and is never waited for. One that prints once and ends is started again."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence

import psutil

from harness.errors import HarnessError

AGAIN_S = 1.0  # a program that ended is not started more often
STALE_S = 5.0  # an older number is not taken for the power now
FIRST_S = 10.0  # it must print its first number by then
LONGEST_LINE = 1000  # bytes
MOST_W = 1e6
POWER = "command_power_w"


class PowerCommand:
    """The running program. Use it as a context manager: leaving ends the program and what it started."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words
        self.process: subprocess.Popen[bytes] | None = None
        self.started = -AGAIN_S
        self.pending = b""
        self.watts: float | None = None
        self.at = 0.0

    def __enter__(self) -> PowerCommand:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def read(self) -> dict[str, float]:
        """The last number that it printed, at most STALE_S old; empty without one."""
        now = time.monotonic()
        if self.process is None and now - self.started >= AGAIN_S:
            self.started = now
            self._start()
        if self.process is not None and self._take(self.process, now):
            self._end()
        fresh = self.watts is not None and now - self.at <= STALE_S
        return {POWER: self.watts} if fresh and self.watts is not None else {}

    def cpu_s(self) -> float:
        """CPU seconds of the program that runs now, with its children that have ended."""
        if self.process is not None:
            with contextlib.suppress(psutil.Error):
                times = psutil.Process(self.process.pid).cpu_times()
                return float(times.user + times.system + times.children_user + times.children_system)
        return 0.0

    def _start(self) -> None:
        with contextlib.suppress(OSError):
            self.process = subprocess.Popen(
                self.words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
            assert self.process.stdout is not None
            os.set_blocking(self.process.stdout.fileno(), False)

    def _take(self, process: subprocess.Popen[bytes], now: float) -> bool:
        """Takes what it has printed; true if it has ended."""
        assert process.stdout is not None
        while True:
            try:
                printed = os.read(process.stdout.fileno(), 1 << 16)
            except BlockingIOError:
                return False
            self.pending += printed
            *lines, self.pending = self.pending.split(b"\n") if printed else (*self.pending.split(b"\n"), b"")
            self.pending = self.pending[-LONGEST_LINE:]
            for line in lines:
                with contextlib.suppress(ValueError):
                    watts = float(line)
                    if 0 <= watts < MOST_W:  # not NaN, and no error code that looks like a number
                        self.watts, self.at = watts, now
            if not printed:
                return True

    def _end(self) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None


def words_of(command: str) -> tuple[str, ...]:
    """The program and its arguments, split as a shell would. Raises HarnessError if it does not print a number of watts
    within FIRST_S: asked before anything is measured."""
    if not command:
        return ()
    try:
        words = tuple(shlex.split(command))
    except ValueError as problem:
        raise HarnessError(f"power_command: {command}: {problem}") from None
    with PowerCommand(words) as running:
        ends = time.monotonic() + FIRST_S
        while not running.read():
            if time.monotonic() > ends:
                raise HarnessError(
                    f"power_command: `{command}` printed no number within {FIRST_S:g} s; it must print watts, one "
                    "number a line."
                )
            time.sleep(0.05)
    return words
