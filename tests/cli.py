"""The command line inside the test's own process, which has imported everything already."""

import contextlib
import io
import signal
import subprocess

from harness.cli import main
from tests.briefly import brief_calibration


def harness(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What `harness ARGUMENTS` says and ends with; its calibration is brief."""
    command = [str(a) for a in arguments]
    out, err = io.StringIO(), io.StringIO()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), brief_calibration():
            status = main(command)
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return subprocess.CompletedProcess(command, status, out.getvalue(), err.getvalue())
