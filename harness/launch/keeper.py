"""Sees to it that no container outlives the harness, whatever way the harness ends.

`python -m harness.launch.keeper PROJECT` waits until standard input reaches its end (the harness stopped the engine,
crashed or was killed) and then takes down everything of that compose project."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

GRACE_S = 10
_TRIES = 5


def keep(project: str) -> int:
    """Returns docker's exit status."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the harness decides, through standard input
    sys.stdin.buffer.read()
    down = ["docker", "compose", "-p", project, "down", "--timeout", str(GRACE_S)]
    for _ in range(_TRIES):
        status = subprocess.run(down, capture_output=True, check=False).returncode
        left = ["docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}"]
        # A container that was just being created when the harness ended appears after the first look.
        time.sleep(0.2)
        if not subprocess.run(left, capture_output=True, check=False).stdout.strip():
            return status
    return 1


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1]))
