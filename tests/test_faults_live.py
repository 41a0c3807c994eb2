"""From the front door: a server that stops in the middle of a run, one that only takes long to prefill, and slots that
send together."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness.judge.checks.evidence import Check
from harness.model.tokenizer import find_tokenizer
from harness.paths import cache_folder
from harness.records.run import read_run
from harness.report.single import judge_run
from tests.cli import harness
from tests.nullengine.server_parts import null_process

pytestmark = pytest.mark.live
STOPPED_S = 2.0


def tokens_written(url: str) -> int:
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    return int(text.split("tokens_total ")[1].splitlines()[0])


@contextlib.contextmanager
def stopping(pid: int, url: str, after_tokens: int) -> Iterator[None]:
    """Stops the process for two seconds, once, when it has written so many tokens."""
    over = threading.Event()

    def stop() -> None:
        while not over.wait(0.05):
            if tokens_written(url) >= after_tokens:
                os.kill(pid, signal.SIGSTOP)
                time.sleep(STOPPED_S)
                os.kill(pid, signal.SIGCONT)
                return

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def replayed(url: str, out: Path, *flags: str) -> dict[str, Check]:
    """The checks of one run."""
    tokenizer = str(find_tokenizer("tiny", cache_folder()).parent)
    asked = ("--url", url, "--engine", "fake", "--model", "bench", "--tokenizer", tokenizer, "--out", out)
    lengths = () if "--workload" in flags else ("--input-tokens", "16")
    done = harness("replay", *asked, *lengths, *flags)
    assert done.returncode in (0, 1), done.stderr
    _, checks = judge_run(read_run(out))
    found = {check.code: check for check in checks}
    assert ("STALL" in done.stdout) == (found["STALL"].verdict != "ok"), done.stdout
    return found


def test_a_server_that_is_stopped_for_two_seconds(tmp_path: Path) -> None:
    flags = ("--output-tokens", "50", "--concurrency", "4", "--requests")
    with null_process("--ttft", "0.05", "--interval", "0.01", "--context", "100000") as (pid, (host, port)):
        url = f"http://{host}:{port}"
        clean = replayed(url, tmp_path / "clean", *flags, "48")
        with stopping(pid, url, tokens_written(url) + 500):
            found = replayed(url, tmp_path / "stopped", *flags, "24")
    assert clean["STALL"].verdict == "ok"
    assert found["STALL"].verdict == "doubt", found["STALL"].message
    (one,) = found["STALL"].numbers["stalls"]
    assert one["whole"] and one["seconds"] == pytest.approx(STOPPED_S, abs=0.3)
    # The null server has a counter of its tokens and a gauge of its streams.
    assert clean["TOKEN_COUNT"].numbers["counter_tokens"] == 48 * 50
    assert clean["LITTLE"].verdict == "ok" and clean["LITTLE"].numbers["engine_in_flight"] == pytest.approx(4, abs=1)


def test_a_slow_prefill_is_no_standstill(tmp_path: Path) -> None:
    with null_process("--ttft", "1.3", "--interval", "0.01", "--context", "100000") as (_, (host, port)):
        found = replayed(
            f"http://{host}:{port}", tmp_path / "r", "--output-tokens", "10", "--requests", "4", "--concurrency", "2"
        )
    assert found["STALL"].verdict == "ok"


def test_equal_lengths_go_in_lock_step_and_drawn_ones_do_not(tmp_path: Path) -> None:
    file = tmp_path / "drawn.toml"
    file.write_text(
        'name = "drawn"\n[workload]\ninput_tokens = {from = 16, to = 32}\noutput_tokens = {from = 4, to = 60}\n'
        "[[workload.load]]\nconcurrency = 16\nrequests = 320\n"
    )
    with null_process("--ttft", "0.02", "--interval", "0.004", "--context", "100000") as (_, (host, port)):
        url = f"http://{host}:{port}"
        equal = replayed(url, tmp_path / "equal", "--output-tokens", "32", "--requests", "32", "--concurrency", "16")
        drawn = replayed(url, tmp_path / "drawn", "--workload", str(file))
    assert equal["STEADY_STATE"].verdict == "doubt" and "lock-step" in equal["STEADY_STATE"].message
    assert drawn["STEADY_STATE"].verdict == "ok", drawn["STEADY_STATE"].message
    assert drawn["STEADY_STATE"].numbers["synchrony"] < 0.2
