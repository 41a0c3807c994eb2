"""Makes sure that no container outlives the harness, however the harness ends.

`python -m harness.launch.keeper PROJECT` waits until standard input ends (the harness stopped the engine, crashed or
was killed) and then removes all containers of that compose project."""

from __future__ import annotations

import signal
import sys
import time

from harness.launch.docker_host import containers_of, take_down

GRACE_S = 10
TRIES = 4
_LOOKS = 5  # times in a row without a container: one that was being created when the harness ended appears late
_BETWEEN_S = 0.3


def keep(project: str) -> int:
    """Returns 0 if no container of the project is left, else 1."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the harness decides, through standard input
    stopped = sys.stdin.buffer.read()  # not empty if the harness says that no container is being created
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
