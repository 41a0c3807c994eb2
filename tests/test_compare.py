"""`harness compare` and `harness report` through the front door, on the null engine: what is written, and resumed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from harness.records.schedules import read_schedule
from harness.workload.schedule import combined_digest
from tests.briefly import HARNESS
from tests.cli import harness as here
from tests.compare_parts import SMALL, assert_compared, harness, small_file, with_engines

pytestmark = pytest.mark.live

CHARTS = 6


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_file(tmp_path_factory.mktemp("plan"))


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


def test_some_answers_are_kept_and_what_was_asked_for_is_said(measured: Path) -> None:
    for run in measured.glob("runs/*/*/*"):
        table = pq.read_table(run / "requests.parquet").to_pydict()
        kept = [ids for ids in table["output_ids"] if ids]
        assert 2 <= len(kept) <= 4 and {len(ids) for ids in kept} == {8}
        probe = json.loads((run / "manifest.json").read_text())["probe"]
        assert probe["asked_for"] == {
            "ignore_eos": True,
            "temperature": 0,
            "return_token_ids": True,
            "stream": True,
        }
        alone = probe["alone"]
        if run.parent.name == alone["load"]:  # the null server's ids depend on the prompt alone
            assert table["output_ids"][alone["index"]] == alone["ids"]
    assert alone["load"] == "offline"


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
    assert done.returncode == 2 and "another profile;" in done.stderr
    asked = json.loads((copy / "plan.json").read_text())
    (copy / "plan.json").write_text(json.dumps({**asked, "model_digest": "00"}))
    done = here("compare", small, "--engines", "fake", "--resume", copy)
    assert done.returncode == 2 and "its own file and model" in done.stderr


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


def test_a_new_engine_file_is_a_new_engine(tmp_path: Path) -> None:
    listed = harness("engines", env=with_engines(tmp_path, mine="env={}"))
    assert listed.returncode == 0
    names = [line.split()[0] for line in listed.stdout.splitlines()[1:] if not line.startswith(" ")]
    assert names == sorted(names) and {"fake", "mine"} <= set(names)


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
