"""Sees to it that no container outlives the harness, whatever way the harness ends.

`python -m harness.launch.keeper PROJECT` waits until standard input reaches its end (the harness stopped the engine,
crashed or was killed) and then takes down everything of that compose project."""

from __future__ import annotations

import signal
import sys
import time

from harness.launch.docker_host import containers_of, take_down

GRACE_S = 10
TRIES = 4
_LOOKS = 5  # in a row without a container: one that was just being created when the harness ended appears late
_BETWEEN_S = 0.3


def keep(project: str) -> int:
    """Returns 0 when nothing of the project is left."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the harness decides, through standard input
    stopped = sys.stdin.buffer.read()  # a word: it saw to it that nothing is being created
    for _ in range(TRIES):
        take_down(project, GRACE_S)
        for _ in range(1 if stopped else _LOOKS):
            if containers_of(project):
                break
            time.sleep(0 if stopped else _BETWEEN_S)
        else:
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1]))
