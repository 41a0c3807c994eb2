"""One writer at a time in a results folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.commands.alone import LOCK, Taken, alone_in, new_folder
from harness.errors import HarnessError
from tests.cli import harness
from tests.invented import write_comparison

HOLD = """
import sys, time
from pathlib import Path
from harness.commands.alone import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_new_folder_that_stays_empty_is_removed(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with new_folder(tmp_path / "a"):
        (tmp_path / "a" / "file").touch()
    assert (tmp_path / "a" / "file").exists()


def test_two_new_comparisons_cannot_take_one_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a"):
        with pytest.raises(Taken, match="another harness is writing in there"), new_folder(tmp_path / "a"):
            pass
        (tmp_path / "a" / "plan.json").touch()
    with pytest.raises(HarnessError, match="is not empty"), new_folder(tmp_path / "a"):
        pass
    with pytest.raises(HarnessError, match="is a file"), new_folder(tmp_path / "a" / "plan.json"):
        pass


def test_where_nothing_can_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # for root every folder can be written
    with (
        pytest.raises(HarnessError, match=r"results cannot be written there: "),
        alone_in(tmp_path),
    ):
        pass


@pytest.mark.live
def test_a_killed_holder_blocks_nobody_and_a_living_one_only_the_writing(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "made", rounds=1)
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        done = harness("report", folder)
        assert "another harness is writing in there" in done.stdout and "Alpha" in done.stdout
        assert not (folder / "comparison.json").exists() and not (folder / "charts").exists()
        process.send_signal(signal.SIGKILL)
    assert (folder / LOCK).exists()
    with alone_in(folder):
        pass
