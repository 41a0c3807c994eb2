"""`harness compare` on engines that fail, on bad input and on a full disk, and interrupted."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from harness.report.page import write_report
from tests.briefly import HARNESS
from tests.cli import harness as here
from tests.compare_parts import MARK, OURS, SMALL, assert_compared, harness, small_file, with_engines
from tests.signals import as_from_a_terminal

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_file(tmp_path_factory.mktemp("plan"))


def test_another_precision_than_the_checkpoints_is_refused(tmp_path: Path) -> None:
    """Some engines would convert, others not: the same name would stand for two models."""
    file = tmp_path / "f.toml"
    file.write_text(SMALL.replace("context_tokens = 64", 'context_tokens = 64\ndtype = "float16"'))
    done = here("compare", file, "--engines", "fake", "--results", tmp_path / "r")
    assert done.returncode == 2
    assert "profile.dtype is float16, but the weights of tiny are bfloat16" in done.stderr


@pytest.mark.slow
def test_an_engine_that_cannot_start_is_skipped_with_its_reason(small: Path, tmp_path: Path) -> None:
    env = with_engines(tmp_path, broken='command=("{python}", "-c", "raise SystemExit(\'error: no such device\')")')
    done = harness("compare", small, "--engines", "broken,fake", "--results", tmp_path / "r", env=env)
    comparison = assert_compared(done, tmp_path / "r")
    assert "exited with status 1 while starting: error: no such device" in comparison["skipped"]["broken"]
    assert {cell["candidate"] for cell in comparison["cells"]} == {"fake"}
    assert "no such device" in done.stdout


@pytest.mark.slow
def test_nothing_startable_is_exit_3(small: Path, tmp_path: Path) -> None:
    env = with_engines(tmp_path, broken='command=("/nowhere/server",)')
    done = harness("compare", small, "--engines", "broken", "--results", tmp_path / "r", env=env)
    assert done.returncode == 3
    assert "broken" in done.stderr and "/nowhere/server" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "r" / "comparison.json").exists()


@pytest.mark.slow
def test_a_secret_of_the_launch_line_is_in_no_file_and_no_message(tmp_path: Path) -> None:
    """The null server refuses the argument and, as engines do, prints it."""
    file = tmp_path / "f.toml"
    file.write_text(SMALL + '\n[[candidate]]\nengine = "fake"\nargs = ["--api-key", "sk-very-secret"]\n')
    done = harness("compare", file, "--results", tmp_path / "r")
    assert done.returncode == 3
    assert "unrecognized arguments: --api-key ***" in done.stderr
    assert "very-secret" not in done.stdout + done.stderr
    assert not any(b"very-secret" in path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file())


DYING = (
    'command=("{python}", "-c", "import sys, os, threading, harness.nullengine.server as n; '
    "threading.Timer(3, os._exit, [7]).start(); print('error: worker died', flush=True); "
    'n.NullServer(int(sys.argv[1]), 0.01, 0.001, 4096).serve()", "{port}")'
)


@pytest.mark.slow
def test_an_engine_that_dies_in_mid_run_leaves_no_run_that_looks_measured(tmp_path: Path) -> None:
    long = tmp_path / "long.toml"
    long.write_text(SMALL.replace("requests = 12", "requests = 1000"))
    env = with_engines(tmp_path, dying=DYING)
    done = harness("compare", long, "--engines", "dying,fake", "--results", tmp_path / "r", env=env)
    assert_compared(done, tmp_path / "r")
    campaign = json.loads((tmp_path / "r" / "campaign.json").read_text())
    assert "stopped on its own at load c4: error: worker died" in campaign["skipped"]["dying"]
    runs = tmp_path / "r" / "runs" / "dying"
    assert [p.parent.relative_to(runs) for p in runs.rglob("manifest.json")] == [Path("c1/round-1")]
    # What had come back is kept, as at Ctrl-C.
    rows = pq.read_table(runs / "c4" / "round-1" / "requests.parquet").to_pydict()
    assert rows["status"][0] == "ok" and rows["status"][-1] == "failed"


def engine_processes() -> list[psutil.Process]:
    """Of those that these tests started: others may measure on this machine, too."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        line = " ".join(process.info["cmdline"] or [])
        ours = (process.info["environ"] or {}).get(MARK) == str(os.getpid())
        if ours and ("harness.nullengine.server" in line or "harness.campaign.sampler" in line):
            found.append(process)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_keeps_what_was_measured_and_leaves_no_process(small: Path, tmp_path: Path, how: int) -> None:
    long = tmp_path / "long.toml"
    long.write_text(SMALL.replace("requests = 12", "requests = 1000"))
    folder = tmp_path / "r"
    command = [*HARNESS, "compare", str(long), "--engines", "fake", "--results", str(folder)]
    process = subprocess.Popen(
        command,
        env={**os.environ, **OURS},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=as_from_a_terminal,
    )
    wait_for(folder / "runs" / "fake" / "c1" / "round-1" / "manifest.json")
    time.sleep(0.3)
    running = engine_processes()
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"--resume {folder}" in out.replace("\n", "")
    assert running and engine_processes() == []
    assert not (folder / "runs" / "fake" / "c4" / "round-1" / "manifest.json").exists()
    assert not json.loads((folder / "campaign.json").read_text())["finished"]
    assert len(write_report(folder).cells) == 1


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "{small}", "--engines", "fkae"], "unknown candidate or engine 'fkae'. Did you mean 'fake'?"),
        (["compare", "{tmp}/none.toml"], "none.toml: cannot read the comparison file"),
        (["compare", "{small}", "--engines", "fake", "--model", "{tmp}/none"], "none"),
        (["compare", "{small}", "--engines", "fake", "--results", "{tmp}"], "is not empty; name another folder"),
        (["compare", "{small}", "--engines", "fake", "--resume", "{tmp}"], "holds no comparison to resume"),
        (["report", "{tmp}"], "{tmp}"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(small: Path, tmp_path: Path, arguments: Sequence[str], said: str) -> None:
    (tmp_path / "something").touch()
    done = here(*(a.format(small=small, tmp=tmp_path) for a in arguments))
    assert done.returncode == 2, done.stdout
    assert said.format(tmp=tmp_path) in done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("harness: ")


def test_a_taken_port_and_too_long_a_context_are_refused_before_anything_starts(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        file = tmp_path / "port.toml"
        file.write_text(f"port = {port}\n" + SMALL)
        done = here("compare", file, "--engines", "fake", "--results", tmp_path / "r")
    assert done.returncode == 2 and f"port {port}" in done.stderr
    file.write_text(SMALL.replace("context_tokens = 64", "context_tokens = 9999999"))
    done = here("compare", file, "--engines", "fake", "--results", tmp_path / "r")
    assert done.returncode == 2 and "context_tokens is 9999999" in done.stderr
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_no_room_on_disk_is_one_line(small: Path, tmp_path: Path) -> None:
    """A file system of 256 KiB: the results do not fit, and nothing that looks finished is left."""
    mount = tmp_path / "full"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)], capture_output=True)
    if made.returncode and os.geteuid():
        pytest.skip("mounting a small file system needs root")
    assert made.returncode == 0, made.stderr
    try:
        done = harness("compare", small, "--engines", "fake", "--results", mount / "r")
        assert done.returncode == 2
        assert "No space left on device" in done.stderr and done.stderr.count("\n") == 1
        assert not (mount / "r" / "comparison.json").exists()
        assert engine_processes() == []
    finally:
        subprocess.run(["umount", str(mount)], check=True)
