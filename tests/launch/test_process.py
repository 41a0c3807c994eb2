"""An engine process is started, verified to be ready, and surely gone, whatever way the harness ends."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import engines
from harness.adapter import Engine, Native
from harness.errors import CannotStart, HarnessError
from harness.launch.process import start_process
from harness.launch.running import answers, free_port
from harness.workload.candidate import Candidate
from tests.starts import start_of

pytestmark = pytest.mark.live

FAKE = engines.load()["fake"]


def quiet(text: str) -> None:
    pass


def engine_with(*command: str, timeout_s: float = 5.0) -> Engine:
    return replace(FAKE, native=Native(install=None, command=command), ready_timeout_s=timeout_s)


def test_ready_means_answering_and_stopped_means_refusing(tmp_path: Path) -> None:
    with start_process(start_of(FAKE, tmp_path / "log"), quiet) as running:
        assert answers(running.pages.port) and running.stopped() is None
        assert running.requests == running.pages
        assert (running.launch, running.device, running.gpus) == ("process", "cpu", ())
        family = psutil.Process(running.pid).children(recursive=True)
        assert family
        assert 0 < running.cold_start_s["ready"] < 60
    assert not answers(running.pages.port)
    assert "exited with status" in (running.stopped() or "")
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family)


def test_an_engine_that_exits_is_named_with_why_it_exited(tmp_path: Path) -> None:
    engine = engine_with("{python}", "-c", "import sys; print('hello'); sys.exit('error: no such weights')")
    with (
        pytest.raises(CannotStart, match=r"exited with status 1 while starting: error: no such weights\. Log: "),
        start_process(start_of(engine, tmp_path / "log"), quiet),
    ):
        pass


def test_an_engine_sees_no_secret_and_no_code_of_the_folder_it_is_started_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`harness compare --model .`: `python -m` would import what lies there."""
    for name in ("json", "subprocess", "ctypes", "harness"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('error: code of the folder ran')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    monkeypatch.setenv("PROD", "canary")
    program = "import json, os; print('error:', sorted(k for k, v in os.environ.items() if 'canary' in v)); exit(1)"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "engine_of_this_test.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "elsewhere"), *filter(None, sys.path)]))
    own = Candidate(engine="fake", env={"MINE": "canary"})
    start = start_of(engine_with("{python}", "-m", "engine_of_this_test"), tmp_path / "log", candidate=own)
    with (
        pytest.raises(CannotStart, match=r"while starting: error: \['MINE'\]"),
        start_process(replace(start, secrets=("PROD",)), quiet),
    ):
        pass


@pytest.mark.slow
def test_an_engine_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    engine = engine_with("{python}", "-c", "import time; print('loading', flush=True); time.sleep(60)", timeout_s=2.0)
    began = time.monotonic()
    with (
        pytest.raises(CannotStart, match=r"not ready after 2 s; the last line of its log: loading"),
        start_process(start_of(engine, tmp_path / "log"), quiet),
    ):
        pass
    assert time.monotonic() - began < 30


def test_a_missing_program_is_a_reason_and_not_a_traceback(tmp_path: Path) -> None:
    engine = engine_with("/nowhere/server")
    with (
        pytest.raises(CannotStart, match="/nowhere/server"),
        start_process(start_of(engine, tmp_path / "log"), quiet),
    ):
        pass


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(HarnessError, match=f"port {port} on 127.0.0.1 cannot be used"):
            free_port(port)


# A stubborn engine: ignores SIGTERM and hides a grandchild in a session of its own.
STUBBORN = textwrap.dedent(
    """
    import signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen([sys.executable, "-c", "import signal, time; "
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('MARK', flush=True); time.sleep(300)"],
        start_new_session=True)
    time.sleep(300)
    """
)


@pytest.fixture
def guarded() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.launch.guard", sys.executable, "-c", STUBBORN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline() == b"MARK\n"
    family = psutil.Process(process.pid).children(recursive=True)
    yield process
    process.kill()
    process.wait()
    for left in family:
        if left.is_running():
            left.kill()


def gone(family: list[psutil.Process], within_s: float) -> bool:
    _, alive = psutil.wait_procs(family, timeout=within_s)
    return all(p.status() == psutil.STATUS_ZOMBIE for p in alive if p.is_running())


@pytest.mark.slow
def test_the_guard_ends_the_whole_family_when_its_input_ends(guarded: subprocess.Popen[bytes]) -> None:
    family = psutil.Process(guarded.pid).children(recursive=True)
    assert len(family) == 2
    assert guarded.stdin is not None
    guarded.stdin.close()
    assert guarded.wait(timeout=15) == 128 + signal.SIGKILL
    assert gone(family, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
@pytest.mark.slow
def test_the_engine_dies_with_a_killed_guard(guarded: subprocess.Popen[bytes]) -> None:
    child = psutil.Process(guarded.pid).children()
    guarded.kill()
    assert gone(child, 5)


@pytest.mark.slow
def test_a_killed_harness_leaves_nothing_behind(tmp_path: Path) -> None:
    """SIGKILL gives the harness no chance to clean up; the guard sees its input end."""
    program = textwrap.dedent(
        f"""
        import time
        from pathlib import Path
        import engines
        from harness.launch.process import start_process
        from tests.starts import start_of
        with start_process(start_of(engines.load()["fake"], Path({str(tmp_path / "log")!r})), lambda s: None) as r:
            print(r.pages.port, flush=True)
            time.sleep(60)
        """
    )
    harness = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert harness.stdout is not None
    port = int(harness.stdout.readline())
    family = psutil.Process(harness.pid).children(recursive=True)
    assert answers(port)
    os.kill(harness.pid, signal.SIGKILL)
    harness.wait()
    assert gone(family, 15)
    assert not answers(port)


def test_ctrl_c_while_an_engine_is_stopped_is_deferred_and_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell says so

    def interrupted(port: int) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return answers(port)

    with (
        pytest.raises(KeyboardInterrupt),
        start_process(start_of(FAKE, tmp_path / "log"), quiet) as running,
    ):
        family = psutil.Process(running.pid).children(recursive=True)
        monkeypatch.setattr("harness.launch.running.answers", interrupted)
    signal.signal(signal.SIGINT, handler)
    assert gone(family, 1)
