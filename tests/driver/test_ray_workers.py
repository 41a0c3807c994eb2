"""Drivers on a Ray cluster of two nodes, both on this machine."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.decode.exchange import decode
from harness.driver.address import Address, local
from harness.driver.http import by_ids, job_of
from harness.driver.job import Interrupted
from harness.driver.ray_workers import replay_on_ray
from harness.errors import HarnessError
from harness.launch.running import free_port
from harness.model.tokenizer import find_tokenizer
from harness.nullengine.calibrate import DIALECT, errors, key_of, null_server, read_truth
from harness.paths import cache_folder
from harness.records.run import read_run
from harness.workload.schedule import Request, Schedule

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    utils = pytest.importorskip("ray.cluster_utils", reason="the extra `ray` is not installed")
    made = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    yield made.address
    made.shutdown()


def test_two_nodes_bring_one_result_with_their_clocks_compared(cluster: str, tmp_path: Path) -> None:
    schedule = Schedule(tuple(Request(i, tuple(range(i, i + 8)), 8) for i in range(24)), 8)
    with null_server(0.05, 0.01) as endpoint:
        job = job_of(endpoint, by_ids(DIALECT), schedule, 10.0)
        replayed, machines = replay_on_ray(job, 2, cluster, tmp_path)
        truths = read_truth(endpoint)
    records = sorted(decode(replayed, schedule, DIALECT.parse), key=lambda r: r.index)
    assert [(r.index, r.error, r.output_tokens) for r in records] == [(i, None, 8) for i in range(24)]
    assert len({machine["node"] for machine in machines}) == 2
    for machine in machines:
        # Both nodes are this machine and have its clock: what is measured must be 0 within what it claims.
        assert abs(machine["clock_offset_ns"]) <= machine["clock_uncertainty_ns"]
        assert 0 < machine["clock_uncertainty_ns"] < 20_000_000
    # Each keeps its own zero, the common moment on its own clock: times count from one moment.
    first = {min(r.sent_s or 9.0 for r in records if r.index % 2 == k) for k in (0, 1)}
    assert all(0 <= sent < 1.0 for sent in first)
    keys = {order.index: key_of(order.payload.split(b"\r\n\r\n", 1)[1]) for order in job.orders}
    found = errors(records, keys, truths, (0.05, 0.01))
    assert len(found.ttft_s) == 24 and -0.001 < found.ttft_s.min() < 0.05


@pytest.mark.parametrize(
    ("how", "lengths", "ended"),
    [
        (signal.SIGINT, (4, 4, 5000, 5000, 5000, 5000), 2),  # of each driver one request
        (signal.SIGTERM, (4, 5000), 1),  # one driver has nothing left to do, the other is at it
    ],
)
def test_interrupted_drivers_hand_over_what_they_have(
    cluster: str, tmp_path: Path, how: signal.Signals, lengths: tuple[int, ...], ended: int
) -> None:
    schedule = Schedule(tuple(Request(i, (i, 1, 2), length) for i, length in enumerate(lengths)), 2)
    before = {one: signal.signal(one, signal.default_int_handler) for one in (signal.SIGINT, signal.SIGTERM)}
    over = threading.Event()
    try:
        with null_server(0.05, 0.01) as endpoint:
            job = job_of(endpoint, by_ids(DIALECT), schedule, 100.0)
            threading.Thread(target=_interrupt_after, args=(endpoint, ended, how, over), daemon=True).start()
            with pytest.raises(Interrupted) as stop:
                replay_on_ray(job, 2, cluster, tmp_path)
    finally:
        over.set()
        for one, handler in before.items():
            signal.signal(one, handler)
    records = sorted(decode(stop.value.replayed, schedule, DIALECT.parse), key=lambda r: r.index)
    errors = [None] * ended + ["interrupted"] * ended
    assert [(r.index, r.error) for r in records] == list(enumerate(errors))
    assert {r.output_tokens for r in records[:ended]} == {4} and all(r.output_tokens > 3 for r in records[ended:])


def _interrupt_after(endpoint: Address, ended: int, how: signal.Signals, over: threading.Event) -> None:
    """Signals this process a little after the server has answered so many requests, unless it is over by then."""
    while ended > 0:
        time.sleep(0.05)
        ended -= len(read_truth(endpoint))
    if not over.wait(0.5):
        os.kill(os.getpid(), how)


@pytest.fixture
def guarded() -> Iterator[str]:
    """A cluster that lets in only who has its token."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    port, ray = free_port(), Path(sys.executable).with_name("ray")
    options = [f"--port={port}", "--num-cpus=2", "--include-dashboard=false", "--block"]
    command: list[str | Path] = [ray, "start", "--head", *options]
    env = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "let-me-in" * 4}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "Ray runtime started" in line:
            break
    yield f"127.0.0.1:{port}"
    process.terminate()  # and with it what it started
    process.communicate(timeout=60)


def test_a_cluster_that_wants_a_token_gets_it_or_is_named(guarded: str, tmp_path: Path) -> None:
    tokenizer = find_tokenizer("tiny", cache_folder()).parent
    flags = ("--requests", "8", "--concurrency", "4", "--workers", "2", "--input-tokens", "16", "--output-tokens", "8")
    with null_server(0.02, 0.004) as endpoint:
        command = [sys.executable, "-m", "harness.cli", "replay", "--url", endpoint.url, "--engine", "openai", *flags]
        command += ["--model", "m", "--tokenizer", str(tokenizer), "--ray", guarded, "--out"]
        for n, (token, said) in enumerate((("", "no token is set"), ("wrong" * 8, "no connection to a Ray cluster"))):
            env = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "HOME": str(tmp_path)}
            done = subprocess.run([*command, str(tmp_path / str(n))], env=env, capture_output=True, text=True)
            (line,) = [line for line in done.stderr.splitlines() if line.startswith("harness: ")]
            assert done.returncode == 2 and f"--ray {guarded}: {said}" in line and "RAY_AUTH_TOKEN" in line
        env["RAY_AUTH_TOKEN"] = "let-me-in" * 4
        done = subprocess.run([*command, str(tmp_path / "r")], env=env, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr + done.stdout
    (one, other) = read_run(tmp_path / "r").manifest.client.machines
    assert one["node"] == other["node"] and abs(one["clock_offset_ns"]) <= one["clock_uncertainty_ns"]


def test_where_no_cluster_is_it_says_so() -> None:
    job = job_of(local(9), by_ids(DIALECT), Schedule((Request(0, (1,), 1),), 1), 1.0)
    with pytest.raises(HarnessError, match="no Ray cluster there"):
        replay_on_ray(job, 1, "127.0.0.1:1", None)
