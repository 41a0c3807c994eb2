"""Signals as a terminal's child has them, wherever the tests run."""

import signal


def as_from_a_terminal() -> None:
    """For `preexec_fn`: a shell starts background jobs with SIGINT ignored, nohup with SIGHUP, and what is
    ignored stays ignored in every child."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
