"""Stored files: older ones are read, those of an unknown schema are refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.errors import HarnessError
from harness.judge.comparison import Comparison, compare, stored_comparison
from harness.records.calibration import Calibration, read_calibration
from harness.records.campaign import read_campaign
from harness.records.comparison_folder import read_comparison
from harness.records.run import read_run
from harness.records.stored import write_json
from harness.workload.loads import AllAtOnce, ClosedLoop
from tests.invented import calibration, campaign, floor, write_comparison

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SAMPLE = NOTEBOOKS / "sample-2026-11-21"  # of schema 1
RUN = SAMPLE / "runs" / "vllm" / "c4" / "round-1"


def test_the_runs_of_an_older_folder_are_read() -> None:
    assert json.loads((RUN / "manifest.json").read_text())["schema"] == 1
    manifest = read_run(RUN).manifest
    assert (manifest.schema, manifest.candidate.name, manifest.candidate.engine) == (2, "vllm", "vllm")
    assert (manifest.candidate.title, manifest.endpoint.version) == ("vLLM", "0.32.0")
    assert manifest.load == ClosedLoop(requests=16, concurrency=4)
    assert isinstance(read_run(SAMPLE / "runs/vllm/offline/round-1").manifest.load, AllAtOnce)
    assert manifest.endpoint.settings["prefix_cache"] is False and "declared" not in manifest.endpoint.settings
    assert manifest.endpoint.same_machine is True and manifest.endpoint.image is None
    assert (manifest.probe is not None) and len(manifest.probe.answer_ids) > 16


def test_an_older_folder_is_judged_as_it_was() -> None:
    set_out, runs = read_comparison(SAMPLE)
    assert set_out.candidates == ("llamacpp", "vllm")
    assert set_out.loads == ("c1", "c2", "c4", "c8", "c16", "offline")
    judged = compare(runs, set_out)
    pair = judged.pair("vllm", "llamacpp", "c4", "output_throughput")
    assert pair is not None and pair.verdict == "slower" and pair.ratio == pytest.approx(0.44, abs=0.005)
    doubted = {check.code for cell in judged.cells for check in cell.checks if check.verdict == "doubt"}
    assert (doubted, judged.invalid_cells) == ({"STEADY_STATE"}, ())


def test_an_older_calibration_is_read(tmp_path: Path) -> None:
    old = msgspec.to_builtins(calibration(floor("c1")))
    floors = [{**one, "load_point": one.pop("load")} for one in old.pop("floors")]
    machine = {"id": "box-1", "cpu": "CPU 1", "gpu": "GPU 1"}
    (tmp_path / "calibration.json").write_text(json.dumps({**old, "schema": 1, "floors": floors, "machine": machine}))
    found = read_calibration(tmp_path)
    assert isinstance(found, Calibration)
    assert (found.floors[0].load, found.machine.gpus) == ("c1", ("GPU 1",))


READERS: tuple[tuple[str, Callable[[Path], Any]], ...] = (
    ("manifest.json", lambda folder: read_run(folder)),
    ("campaign.json", read_campaign),
    ("calibration.json", read_calibration),
    ("comparison.json", stored_comparison),
)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A folder with one file of each kind."""
    shutil.copytree(RUN, tmp_path, dirs_exist_ok=True)
    write_json(tmp_path / "campaign.json", campaign())
    write_json(tmp_path / "calibration.json", calibration(floor()))
    shutil.copy(NOTEBOOKS / "sample" / "comparison.json", tmp_path)
    return tmp_path


@pytest.mark.parametrize(("name", "read"), READERS)
def test_each_kind_of_file_is_read(stored: Path, name: str, read: Callable[[Path], Any]) -> None:
    assert read(stored) is not None


@pytest.mark.parametrize(("name", "read"), READERS)
@pytest.mark.parametrize("schema", [99, 0, "2", None])
def test_an_unknown_schema_is_refused(stored: Path, name: str, read: Callable[[Path], Any], schema: Any) -> None:
    found = json.loads((stored / name).read_text())
    (stored / name).write_text(json.dumps({**found, "schema": schema}))
    with pytest.raises(HarnessError, match=rf"{name}: its schema is {schema!r}") as caught:
        read(stored)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "read"), READERS)
@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2}', '{"schema": 1}'])
def test_what_cannot_be_read_is_one_line(stored: Path, name: str, read: Callable[[Path], Any], text: str) -> None:
    (stored / name).write_text(text)
    with pytest.raises(HarnessError, match=name) as caught:
        read(stored)
    assert "\n" not in str(caught.value)


def test_an_older_report_is_to_be_written_again(stored: Path) -> None:
    (stored / "comparison.json").write_text('{"schema": 1}')
    with pytest.raises(HarnessError, match="harness report"):
        stored_comparison(stored)


def test_a_comparison_that_was_interrupted_in_its_second_round_is_judged(tmp_path: Path) -> None:
    made = write_comparison(tmp_path / "made", rounds=2)
    shutil.rmtree(made / "runs" / "alpha" / "c4" / "round-2")
    shutil.rmtree(made / "runs" / "alpha" / "offline" / "round-2")
    shutil.rmtree(made / "runs" / "beta" / "c1" / "round-2")
    write_json(made / "campaign.json", campaign(rounds=2, finished=False))
    set_out, runs = read_comparison(made)
    judged = compare(runs, set_out)
    assert isinstance(judged, Comparison) and not judged.finished
    assert {(cell.candidate, cell.load): len(cell.rounds) for cell in judged.cells} == {
        ("alpha", "c1"): 2, ("alpha", "c4"): 1, ("alpha", "offline"): 1,
        ("beta", "c1"): 1, ("beta", "c4"): 2, ("beta", "offline"): 2,
    }  # fmt: skip
