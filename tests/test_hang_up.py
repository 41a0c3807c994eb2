"""A terminal that is closed takes no last line, and the exit status still says that the command was interrupted."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import termios
import time
from pathlib import Path

import pytest

from tests.briefly import HARNESS
from tests.compare_parts import OURS, small_file
from tests.signals import as_from_a_terminal


@pytest.mark.live
def test_a_closed_terminal_is_an_interruption(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()

    def on_the_terminal() -> None:
        as_from_a_terminal()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    command = [*HARNESS, "compare", str(small_file(tmp_path)), "--engines", "fake", "--results", str(tmp_path / "r")]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=on_the_terminal,
        env={**os.environ, **OURS},
    )  # fmt: skip
    os.close(theirs)
    assert os.read(ours, 4096)  # it is at work
    time.sleep(0.5)
    os.close(ours)
    assert process.wait(timeout=60) == 130
    assert not list(tmp_path.rglob("*.part"))
