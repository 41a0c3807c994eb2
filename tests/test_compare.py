"""`harness compare` and its siblings through the front door, on the null engine and on engines that fail."""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import trustme

from harness.driver.address import Address
from harness.nullengine.calibrate import null_server
from harness.records.schedules import read_schedule
from harness.report.page import write_report
from harness.workload.schedule import combined_digest
from tests.cli import harness as here
from tests.openai_server import Server, answer, models, serving
from tests.signals import as_from_a_terminal

pytestmark = pytest.mark.live

ROOT = Path(__file__).parent.parent
HARNESS = [sys.executable, "-m", "harness.cli"]
SMALL = """
name = "small"
rounds = 2
[workload]
input_tokens = 16
output_tokens = 8
[profile]
context_tokens = 64
[[workload.load]]
concurrency = 1
requests = 3
[[workload.load]]
concurrency = 4
requests = 12
[[workload.load]]
requests = 8
"""
CHARTS = 5
MARK = "STARTED_BY_TEST_COMPARE"
OURS = {MARK: str(os.getpid())}


def harness(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [*HARNESS, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **OURS, **(env or {})}, timeout=300, cwd="/"
    )


def assert_compared(done: subprocess.CompletedProcess[str], folder: Path, alone: bool = True) -> dict[str, Any]:
    """Every cell was measured; returns comparison.json. The null engine is so fast that a busy machine can make
    the client too late for it: this rejects a cell, and nothing else may. `alone`: without a second engine, which the
    null engine is not, the exit status is 1 and the last line says so."""
    assert done.returncode in (0, 1), done.stderr + done.stdout
    comparison: dict[str, Any] = json.loads((folder / "comparison.json").read_text())
    checks = [check for cell in comparison["cells"] for check in cell["checks"]]
    rejecting = {check["code"] for check in checks if check["verdict"] == "invalid"}
    assert rejecting <= {"CLIENT_LAG"} and bool(rejecting or alone) == bool(done.returncode), rejecting
    assert done.stdout.splitlines()[-1].startswith("Nothing to compare with: ") == alone, done.stdout
    return comparison


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plan") / "small.toml"
    file.write_text(SMALL)
    return file


@pytest.fixture(scope="module")
def measured(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished comparison of the null engine."""
    folder = tmp_path_factory.mktemp("results") / "small"
    done = harness("compare", small, "--engines", "fake", "--results", folder)
    assert_compared(done, folder)
    for chart in (folder / "charts").glob("*.png"):
        assert str(chart) in done.stdout.replace("\n", "")
    return folder


def test_every_promised_file_is_there(measured: Path) -> None:
    files = {"comparison.json", "campaign.json", "plan.json", "table.md", "report.html"}
    assert files | {"charts", "runs", "schedule"} <= {p.name for p in measured.iterdir()}
    for kind in ("svg", "png"):
        assert len(list((measured / "charts").glob(f"*.{kind}"))) == CHARTS
    runs = sorted(p.parent for p in measured.glob("runs/*/*/*/manifest.json"))
    assert [str(r.relative_to(measured)) for r in runs] == [
        f"runs/fake/{point}/round-{i}" for point in ("c1", "c4", "offline") for i in (1, 2)
    ]
    promised = {"manifest.json", "requests.parquet", "chunks.parquet", "samples.parquet", "vllm-bench.json"}
    for run in runs:
        assert promised | {"launch.json", "engine.log"} == {p.name for p in run.iterdir()}
        # Runs of a fraction of a second, too.
        assert pq.read_table(run / "samples.parquet")["name"].to_pylist().count("engine_rss_bytes") >= 2
    assert not list(measured.rglob("*.part"))


def test_the_frozen_schedules_are_those_that_were_sent(measured: Path) -> None:
    files = sorted((measured / "schedule").rglob("*.parquet"))
    assert [str(path.relative_to(measured / "schedule")) for path in files] == [
        f"{load}/round-{i}.parquet" for load in ("c1", "c4", "offline") for i in (1, 2)
    ]
    digests = [read_schedule(path).digest for path in files]
    assert len(set(digests)) == 6 and combined_digest(digests[::2] + digests[1::2]) == sent(files[0], measured)["whole"]
    assert digests == [sent(path, measured)["digest"] for path in files]


def sent(schedule: Path, folder: Path) -> dict[str, Any]:
    """What the manifest of the null engine's run says of its schedule."""
    run = folder / "runs" / "fake" / schedule.parent.name / schedule.stem
    found: dict[str, Any] = json.loads((run / "manifest.json").read_text())["schedule"]
    return found


def test_cells_hold_equal_digests_lengths_and_no_errors(measured: Path) -> None:
    comparison = json.loads((measured / "comparison.json").read_text())
    assert [cell["load"] for cell in comparison["cells"]] == ["c1", "c4", "offline"]
    for run in measured.glob("runs/*/*/*"):
        table = pq.read_table(run / "requests.parquet").to_pydict()
        assert set(table["status"]) == {"ok"}
        assert set(table["output_tokens"]) == {8} and set(table["prompt_tokens"]) == {16}
        chunks = pq.read_table(run / "chunks.parquet")
        assert chunks.column_names == ["index", "arrival_ns", "read_ns", "tokens"]
        assert sum(chunks["tokens"].to_pylist()) == 8 * len(table["index"])


def test_the_null_engine_is_measured_as_what_it_is(measured: Path) -> None:
    """10 ms to the first token, 1 ms between tokens: what the driver says of it is known beforehand."""
    comparison = json.loads((measured / "comparison.json").read_text())
    single = next(c for c in comparison["cells"] if c["load"] == "c1")
    assert 0.010 <= single["metrics"]["ttft_p50"]["mean"] < 0.03
    assert 0.0009 <= single["metrics"]["tpot_p50"]["mean"] < 0.002


@pytest.mark.slow
def test_report_redraws_the_same_from_what_is_stored(measured: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(measured, copy)
    before = {p.name: p.read_bytes() for p in (copy / "charts").iterdir() if p.suffix == ".svg"}
    shutil.rmtree(copy / "charts")
    (copy / "comparison.json").unlink()
    assert_compared(harness("report", copy), copy)
    assert {p.name: p.read_bytes() for p in (copy / "charts").iterdir() if p.suffix == ".svg"} == before
    assert (copy / "comparison.json").read_bytes() == (measured / "comparison.json").read_bytes()


@pytest.mark.slow
def test_resume_measures_only_what_is_missing(measured: Path, small: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(measured, copy)
    lost = copy / "runs" / "fake" / "c4" / "round-2"
    kept = (copy / "runs" / "fake" / "c4" / "round-1" / "manifest.json").stat().st_mtime_ns
    (lost / "manifest.json").unlink()
    done = harness("compare", small, "--engines", "fake", "--resume", copy)
    assert_compared(done, copy)
    assert (lost / "manifest.json").is_file()
    assert (copy / "runs" / "fake" / "c4" / "round-1" / "manifest.json").stat().st_mtime_ns == kept
    assert "run 1/1" in done.stdout
    other = small.with_name("other.toml")
    other.write_text(SMALL.replace("output_tokens = 8", "output_tokens = 9"))
    done = here("compare", other, "--engines", "fake", "--resume", copy)
    assert done.returncode == 2 and "was measured with other requests" in done.stderr


def test_resume_refuses_another_profile_and_another_model(measured: Path, small: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(measured, copy)
    other = tmp_path / "other.toml"
    other.write_text(SMALL.replace("context_tokens = 64", "context_tokens = 64\nprefix_cache = true"))
    done = here("compare", other, "--engines", "fake", "--resume", copy)
    assert done.returncode == 2 and "another profile or deadline" in done.stderr
    asked = json.loads((copy / "plan.json").read_text())
    (copy / "plan.json").write_text(json.dumps({**asked, "model_digest": "00"}))
    done = here("compare", small, "--engines", "fake", "--resume", copy)
    assert done.returncode == 2 and "its own file and model" in done.stderr


def test_another_precision_than_the_checkpoints_is_refused(tmp_path: Path) -> None:
    """Some engines would convert, others not: the same name would stand for two models."""
    file = tmp_path / "f.toml"
    file.write_text(SMALL.replace("context_tokens = 64", 'context_tokens = 64\ndtype = "float16"'))
    done = here("compare", file, "--engines", "fake", "--results", tmp_path / "r")
    assert done.returncode == 2
    assert "profile.dtype is float16, but the weights of tiny are bfloat16" in done.stderr


@pytest.mark.slow
def test_latest_leads_to_the_newest_comparison_and_survives_a_report(small: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> int:
        return subprocess.run(
            [*HARNESS, *map(str, arguments)], cwd=tmp_path, capture_output=True, timeout=60
        ).returncode

    assert run("compare", small, "--engines", "fake") == 1  # there is nothing to compare it with
    latest = tmp_path / "results" / "latest"
    first = latest.resolve()
    assert (first / "comparison.json").is_file()
    assert run("report", "results/latest") == 1
    assert latest.resolve() == first


BROKEN_ENGINE = """
from dataclasses import replace
from engines.fake import ENGINE as FAKE
ENGINE = replace(FAKE, name="{name}", title="{name}", color="#10{color}", null=False,
                 native=replace(FAKE.native, {native}))
"""


def with_engines(tmp_path: Path, **natives: str) -> dict[str, str]:
    """An environment whose `engines` package has more files in it: nothing else has to be edited."""
    package = tmp_path / "engines"
    shutil.copytree(ROOT / "engines", package, ignore=shutil.ignore_patterns("__pycache__"))
    for i, (name, native) in enumerate(natives.items()):
        (package / f"{name}.py").write_text(BROKEN_ENGINE.format(name=name, native=native, color=f"{i:04x}"))
    return {"PYTHONPATH": str(tmp_path)}


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


def test_a_new_engine_file_is_a_new_engine(tmp_path: Path) -> None:
    listed = harness("engines", env=with_engines(tmp_path, mine="env={}"))
    assert listed.returncode == 0
    names = [line.split()[0] for line in listed.stdout.splitlines()[1:] if not line.startswith(" ")]
    assert names == sorted(names) and {"fake", "mine"} <= set(names)


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
    if made.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        done = harness("compare", small, "--engines", "fake", "--results", mount / "r")
        assert done.returncode == 2
        assert "No space left on device" in done.stderr and done.stderr.count("\n") == 1
        assert not (mount / "r" / "comparison.json").exists()
        assert engine_processes() == []
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_no_arguments_help_quickly() -> None:
    done = harness()
    assert done.returncode == 0
    assert "compare" in done.stdout and "exit status" in done.stdout
    imported = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import harness.cli"], capture_output=True, text=True
    ).stderr
    assert not any(name in imported for name in ("numpy", "matplotlib", "pyarrow"))


def test_a_comparison_is_not_resumed_with_an_engine_started_otherwise(
    measured: Path, small: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "r"
    shutil.copytree(measured, folder)
    image = {"name": "x:1", "digest": "sha256:0"}
    for file in folder.glob("runs/fake/*/*/manifest.json"):
        earlier = json.loads(file.read_text())
        earlier["endpoint"] |= {"launch": "compose", "image": image}
        file.write_text(json.dumps(earlier))
    done = here("compare", small, "--engines", "fake", "--resume", folder)
    assert done.returncode == 2
    assert "null server was measured there as a container on the cpu, x:1, sha256:0" in done.stderr


# -- candidates -----------------------------------------------------------------------------------------------------

QUICK = SMALL.replace("rounds = 2", "rounds = {rounds}").split("[[workload.load]]\nconcurrency = 4")[0]
KEY = "sk-a-key-of-this-test"


def compared(
    tmp_path: Path, candidates: str, rounds: int = 1, env: dict[str, str] | None = None
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A comparison file with these `[[candidate]]` tables at one load, and where its results are."""
    file, folder = tmp_path / "candidates.toml", tmp_path / "r"
    file.write_text(QUICK.format(rounds=rounds) + candidates)
    return harness("compare", file, "--results", folder, env=env), folder


def manifest(folder: Path, candidate: str, round_index: int = 1) -> dict[str, Any]:
    path = folder / "runs" / candidate / "c1" / f"round-{round_index}" / "manifest.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.fixture
def served() -> Iterator[Address]:
    with null_server(0.01, 0.001) as address:
        yield address


def test_one_engine_takes_part_under_two_names(tmp_path: Path) -> None:
    done, folder = compared(
        tmp_path,
        """
[[candidate]]
name = "plain"
engine = "fake"
[[candidate]]
name = "fake-slow"
engine = "fake"
args = ["--interval", "0.004"]
env = {OWN = "a b"}
profile = {context_tokens = 48}
""",
    )
    comparison = assert_compared(done, folder)
    cells = {cell["candidate"]: cell for cell in comparison["cells"]}
    assert set(cells) == {"plain", "fake-slow"} and comparison["skipped"] == {}
    tpot = {name: cell["metrics"]["tpot_p50"]["mean"] for name, cell in cells.items()}
    assert tpot["plain"] < 0.002 and 0.0039 < tpot["fake-slow"] < 0.008
    plain, slow = (manifest(folder, name) for name in ("plain", "fake-slow"))
    assert plain["schedule"] == slow["schedule"]
    assert plain["candidate"] == {**slow["candidate"], "name": "plain", "title": "plain", "given": {}}
    assert slow["candidate"]["title"] == "null server slow"
    assert slow["candidate"]["given"] == {
        "args": ["--interval", "0.004"],
        "env": {"OWN": "a b"},
        "profile": {"context_tokens": 48},
    }
    # As asked, and as the running engine shows it.
    assert (plain["endpoint"]["settings"]["context_tokens"], plain["probe"]["settings"]) == (64, {"context_tokens": 64})
    assert (slow["endpoint"]["settings"]["context_tokens"], slow["probe"]["settings"]) == (48, {"context_tokens": 48})
    line = plain["endpoint"]["launch_line"]
    assert line[:5] == ["{python}", "-m", "harness.nullengine.server", "--port", "{port}"]
    assert slow["endpoint"]["launch_line"] == [*(w if w != "64" else "48" for w in line), "--interval", "0.004"]
    assert (plain["endpoint"]["env"], slow["endpoint"]["env"]) == ({}, {"OWN": "a b"})
    assert str(tmp_path) not in json.dumps(slow)


def test_a_server_that_already_runs_is_compared_with_one_that_is_started(served: Address, tmp_path: Path) -> None:
    done, folder = compared(
        tmp_path,
        f'''
[[candidate]]
engine = "fake"
[[candidate]]
name = "prod"
engine = "fake"
url = "{served.url}/v1/"
key_env = "KEY_OF_PROD"
''',
        rounds=2,
        env={"KEY_OF_PROD": KEY},
    )
    comparison = assert_compared(done, folder)
    assert [cell["candidate"] for cell in comparison["cells"]] == ["fake", "prod"]
    assert f"prod: already running at {served.url}/v1/" in done.stdout
    assert "(engines = [...] or [[candidate]])" in done.stdout.splitlines()[-1]
    for round_index in (1, 2):
        mine, prod = (manifest(folder, name, round_index) for name in ("fake", "prod"))
        assert mine["schedule"] == prod["schedule"]
        endpoint = prod["endpoint"]
        assert (endpoint["launch"], endpoint["url"]) == ("attach", f"{served.url}/v1/completions")
        assert (endpoint["device"], endpoint["gpus"], endpoint["same_machine"]) == (None, None, True)
        assert endpoint["version"] == mine["endpoint"]["version"]
        assert {"device", "gpus", "prefix_cache"} <= set(endpoint["unknown"])
        assert endpoint["unverified"] == [] and mine["endpoint"]["unknown"] == {}
        assert (mine["model"]["shown"], prod["model"]["shown"]) == (True, False)
        assert mine["model"]["digest"] == prod["model"]["digest"]
        assert prod["counters"] == mine["counters"] == {"requests": 3, "output_tokens": 24}
        assert set(endpoint["cold_start_s"]) == {"first_token"}
        assert prod["candidate"]["given"] == {"url": f"{served.url}/v1/"}
    run = folder / "runs" / "prod" / "c1" / "round-1"
    assert json.loads((run / "launch.json").read_text()) == {"url": f"{served.url}/v1/completions"}
    assert not (run / "engine.log").exists()
    for path in folder.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
    assert KEY not in done.stdout + done.stderr


DEAD = """
[[candidate]]
name = "dead"
engine = "openai"
url = "http://127.0.0.1:9/v1"
"""
MINE = """
[[candidate]]
engine = "mine"
"""


@pytest.mark.slow
def test_a_url_that_answers_nothing_is_skipped_and_the_others_go_on(served: Address, tmp_path: Path) -> None:
    env = with_engines(tmp_path, mine="env={}")
    second = f'[[candidate]]\nname = "second"\nengine = "mine"\nurl = "{served.url}"\n'
    done, folder = compared(tmp_path, MINE + DEAD + second, env=env)
    comparison = assert_compared(done, folder, alone=False)
    assert {cell["candidate"] for cell in comparison["cells"]} == {"mine", "second"}
    assert comparison["skipped"] == {"dead": "nothing answers at http://127.0.0.1:9: connection refused"}
    left_out = [line for line in done.stdout.splitlines() if "left out from here on" in line]
    assert len(left_out) == 1 and left_out[0].endswith("  dead left out from here on: " + comparison["skipped"]["dead"])
    assert not (folder / "runs" / "dead").exists()


@pytest.mark.slow
def test_with_one_candidate_left_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    done, folder = compared(tmp_path, MINE + DEAD, env=with_engines(tmp_path, mine="env={}"))
    assert_compared(done, folder, alone=True)
    last = done.stdout.splitlines()[-1]
    assert done.returncode == 1
    assert "only mine was measured" in last and "dead: nothing answers at http://127.0.0.1:9" in last


def test_a_key_that_is_not_set_and_an_unreadable_certificate_concern_one_candidate(
    served: Address, tmp_path: Path
) -> None:
    done, folder = compared(
        tmp_path,
        f'''
[[candidate]]
engine = "fake"
[[candidate]]
name = "no-key"
engine = "fake"
url = "{served.url}"
key_env = "NO_SUCH_KEY"
[[candidate]]
name = "no-trust"
engine = "fake"
url = "https://127.0.0.1:9"
ca_file = "/nowhere/ca.pem"
''',
    )
    skipped = assert_compared(done, folder)["skipped"]
    assert skipped["no-key"] == "key_env: NO_SUCH_KEY is not set in the environment"
    assert skipped["no-trust"].startswith("ca_file /nowhere/ca.pem: cannot be read as certificates")


@pytest.mark.parametrize("path", ["/v1", "/proxy/v1/chat/completions"])
def test_a_private_certificate_and_a_key_are_for_the_server_alone(path: str, tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    prefix = path.partition("/v1")[0]
    server = Server(lambda sent: 5 if "chat" in path else 0, {f"{prefix}/v1/models": models("llama")})
    with serving(server, context) as address:
        done, folder = compared(
            tmp_path,
            f'''
[[candidate]]
engine = "openai"
url = "https://localhost:{address.port}{path}"
key_env = "KEY_OF_PROD"
ca_file = "{tmp_path}/ca.pem"
fields = {{user = "me"}}
''',
            env={"KEY_OF_PROD": KEY},
        )
    assert_compared(done, folder)
    assert server.keys == {f"Bearer {KEY}"}
    assert {(body["model"], body["user"]) for body in server.asked} == {("llama", "me")}
    known = manifest(folder, "openai")
    route = path if "chat" in path else "/v1/completions"
    assert known["endpoint"]["url"] == f"https://localhost:{address.port}{route}"
    assert known["probe"]["prompt_offset"] == (5 if "chat" in path else 0)
    rows = pq.read_table(folder / "runs" / "openai" / "c1" / "round-1" / "requests.parquet").to_pydict()
    assert set(rows["status"]) == {"ok"} and set(rows["output_tokens"]) == {8}
    for file in folder.rglob("*"):
        assert file.is_dir() or KEY.encode() not in file.read_bytes(), file


def test_a_key_that_a_server_echoes_is_in_no_reason(tmp_path: Path) -> None:
    refusal = answer(json.dumps({"error": {"message": f"Incorrect API key: {KEY}"}}), "401 Unauthorized")
    with serving(Server(pages={"/v1/models": models("llama")}, refuses=refusal)) as address:
        done, folder = compared(
            tmp_path,
            f'''
[[candidate]]
engine = "fake"
[[candidate]]
engine = "openai"
url = "{address.url}"
key_env = "KEY_OF_PROD"
''',
            env={"KEY_OF_PROD": KEY},
        )
    skipped = assert_compared(done, folder)["skipped"]
    assert skipped == {"openai": "failed the probe request: HTTP 401: Incorrect API key: ***"}
    assert KEY not in done.stdout + done.stderr
    for file in folder.rglob("*"):
        assert file.is_dir() or KEY.encode() not in file.read_bytes(), file


def keys(value: Any, prefix: str = "") -> set[str]:
    """The names in a JSON object, with those inside."""
    if not isinstance(value, dict):
        return {prefix}
    return {name for key, inner in value.items() for name in keys(inner, f"{prefix}.{key}")} or {prefix}


def test_replay_and_compare_write_the_same_kind_of_manifest(served: Address, tmp_path: Path) -> None:
    done, folder = compared(tmp_path, f'[[candidate]]\nengine = "fake"\nurl = "{served.url}"\n')
    assert_compared(done, folder)
    run = folder / "runs" / "fake" / "c1" / "round-1"
    shape = ("--input-tokens", "16", "--output-tokens", "8", "--requests", "3", "--concurrency", "1", "--warmup")
    asked = ("--url", served.url, "--engine", "fake", "--model", "bench", "--tokenizer", "tiny")
    replayed = here("replay", *asked, *shape, "--out", tmp_path / "one")
    assert replayed.returncode in (0, 1), replayed.stderr
    one, other = (json.loads((path / "manifest.json").read_text()) for path in (run, tmp_path / "one"))
    # A replay sends no probe: its manifest lacks what that shows, and nothing else.
    assert one["endpoint"].pop("cold_start_s").keys() == {"first_token"} and not other["endpoint"].pop("cold_start_s")
    assert keys(other) - keys(one) <= {".candidate.given.served_model"} and not keys(one) - keys(other)
    for part in ("schema", "harness", "load", "machine", "round"):
        assert one[part] == other[part], part
    assert one["endpoint"] == other["endpoint"]
    assert one["schedule"].keys() == other["schedule"].keys()
    shown = ("settings", "version")
    assert [one["probe"][name] for name in shown] == [other["probe"][name] for name in shown]
    assert {p.name for p in run.iterdir()} | {"calibration.json"} == {p.name for p in (tmp_path / "one").iterdir()}
