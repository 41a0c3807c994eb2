"""The command line with a brief calibration, for tests that ask nothing of the client's floor.

The product calibrates 3 times 0.4 s at each load and pace, 3 to 4 s a load: more than most of these tests measure."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from harness.cli import main

# Without -m: a test may start it in any folder. -P, or the modules in this folder would be found before others.
HARNESS = [sys.executable, "-P", str(Path(__file__).resolve())]


@contextlib.contextmanager
def brief_calibration() -> Iterator[None]:
    """Within it a calibration is one repeat of 3 short answers for each load and pace."""
    with mock.patch.multiple("harness.nullengine.calibrate", REPEATS=1, REPEAT_S=0.0, OUTPUT_TOKENS=8):
        yield


if __name__ == "__main__":
    with brief_calibration():
        sys.exit(main())
