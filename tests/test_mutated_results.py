"""A results folder that was edited by hand, cut or copied badly: one line for each fault, and the rest is shown."""

from __future__ import annotations

import random
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import harness.report.page as page
from harness.errors import HarnessError
from harness.records.chunks import CHUNKS
from harness.records.run import REQUESTS, read_run
from harness.records.samples import SAMPLES, write_samples
from harness.records.stored import write_json
from tests import loads
from tests.cli import harness
from tests.invented import ALPHA, BETA, calibration, campaign, floor, manifest, records, write_run
from tests.mutated import mutate

CHEAP, DRAWN = 70, 3  # mutations without charts, which take nine tenths of the time, and with them
POINTS = (loads.load(8, 4), loads.load(6))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two candidates, two loads, two rounds, with samples and a calibration."""
    made = tmp_path_factory.mktemp("whole") / "made"
    for engine in (ALPHA, BETA):
        for point in POINTS:
            for r in (1, 2):
                run = made / "runs" / engine.name / point.name / f"round-{r}"
                write_run(run, manifest(engine, point, r), records(engine, point))
                names = ("engine_cpu_s", "engine_rss_bytes", "engine_waiting", "gpu_power_w")
                write_samples(run, [(t / 10, name, float(t)) for name in names for t in range(11)])
    write_json(made / "calibration.json", calibration(floor("c4"), floor("offline")))
    points = tuple(point.name for point in POINTS)
    write_json(made / "campaign.json", replace(campaign(rounds=2), loads=points))
    return made


def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "write_charts", lambda *_: {})
    monkeypatch.setattr(page, "inline_svg", lambda *_: "")


@pytest.mark.parametrize("seed", range(CHEAP + DRAWN))
def test_no_mutation_ends_in_a_traceback(
    whole: Path, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed >= DRAWN:
        undrawn(monkeypatch)
    folder = Path(shutil.copytree(whole, tmp_path / "r"))
    chance = random.Random(seed)
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".parquet"))
    how = mutate(chance.choice(files), chance)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy's overflows: what is out of range is refused where it is read
        done = harness("report", folder)
    status, out, err = done.returncode, done.stdout, done.stderr
    assert status in (0, 1, 2), (how, err)
    assert "Traceback" not in err and "\x1b" not in out + err, how
    assert err.count("\n") == (status == 2), (how, err)


def to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def to_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


MANIFEST = "manifest.json"
BROKEN: dict[str, tuple[str, Callable[[Path], object], str | None]] = {
    "empty": (MANIFEST, lambda path: path.write_bytes(b""), r"manifest\.json: cannot be read: "),
    "deep": (MANIFEST, lambda path: path.write_text('{"schema": ' + "[" * 99999), "nested too deeply"),
    "not UTF-8": (MANIFEST, lambda path: path.write_bytes(b'{"schema": "\xff"}'), "not UTF-8"),
    "a loop": (MANIFEST, to_itself, None),
    "out of range": (MANIFEST, lambda path: replaced(path, '"round": 1', '"round": -1'), r"round: Expected `int` >= 1"),
    "a field": (MANIFEST, lambda path: replaced(path, '"seed": 1', '"seed": "x"'), r"schedule\.seed: Expected `int`"),
    "no slots": (MANIFEST, lambda path: replaced(path, '"in_flight": 4', '"in_flight": 0'), r"schedule\.in_flight"),
    "a copy": (MANIFEST, lambda path: replaced(path, '"round": 1', '"round": 2'), "a copy of another run"),
    "a load": (MANIFEST, lambda path: replaced(path, '"concurrency": 4', '"concurrency": 0'), r"load\.concurrency"),
    "a style": (MANIFEST, lambda path: replaced(path, "#1f6feb", "red;} body{"), r"candidate\.color"),
    "cut": (CHUNKS, lambda path: path.write_bytes(path.read_bytes()[:99]), r"chunks\.parquet: cannot be read: "),
    "a folder": (REQUESTS, to_a_folder, r"requests\.parquet: is not a file"),
    "gone": (REQUESTS, lambda path: path.unlink(), r"requests\.parquet: is missing"),
    "samples": (SAMPLES, lambda path: path.write_bytes(b"x"), r"samples\.parquet: .* What serving took"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_shown(
    whole: Path, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    undrawn(monkeypatch)
    name, change, said = BROKEN[case]
    folder = Path(shutil.copytree(whole, tmp_path / "r"))
    change(folder / "runs" / "alpha" / "c4" / "round-1" / name)
    done = harness("report", folder)
    status, out, err = done.returncode, done.stdout, done.stderr
    flat = " ".join(out.split())
    assert (status, err) == (1, "")
    if said is None:  # a link to itself is no manifest: the run is one that was not finished
        assert "Alpha has 3 of 4 runs" in flat
        return
    assert "1 file could not be read" in flat
    line = " ".join((folder / "table.md").read_text().split())
    assert re.search(said, flat), flat
    assert "could not be read" in line and "could not be read" in (folder / "report.html").read_text()
    assert "Beta" in out and (folder / "comparison.json").is_file()


def test_a_folder_of_which_nothing_can_be_read_is_one_line(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "r"))
    for path in folder.rglob(REQUESTS):
        path.write_bytes(b"")
    done = harness("report", folder)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "requests.parquet" in done.stderr and "8 runs cannot be read" in done.stderr


def test_a_column_that_is_missing_is_not_taken_for_zeros(whole: Path, tmp_path: Path) -> None:
    """Only the columns that older versions did not write may be missing."""
    run = Path(shutil.copytree(whole / "runs" / "alpha" / "c4" / "round-1", tmp_path / "r"))
    table = pq.read_table(run / REQUESTS)
    pq.write_table(table.drop_columns(["due_s", "reads"]), run / REQUESTS)
    assert (read_run(run).requests["reads"] == 0).all()
    pq.write_table(table.drop_columns(["sent_s"]), run / REQUESTS)
    with pytest.raises(HarnessError, match=r"requests\.parquet: no column sent_s"):
        read_run(run)


def test_a_table_saved_again_by_other_tools_is_read(whole: Path, tmp_path: Path) -> None:
    """Whole numbers with gaps come back as floats, texts as dictionaries, rows in another order."""
    run = Path(shutil.copytree(whole / "runs" / "alpha" / "c4" / "round-1", tmp_path / "r"))
    before = read_run(run).requests
    table = pq.read_table(run / REQUESTS)
    values = table["prompt_tokens"].to_pylist()
    as_floats = pa.array([float("nan") if value is None else float(value) for value in values])
    table = table.set_column(table.column_names.index("prompt_tokens"), "prompt_tokens", as_floats)
    at = table.column_names.index("status")
    table = table.set_column(at, "status", table["status"].dictionary_encode())
    pq.write_table(table.take(list(range(table.num_rows))[::-1]), run / REQUESTS)
    after = read_run(run).requests
    for name in ("index", "prompt_tokens", "sent_s"):
        np.testing.assert_array_equal(after[name], before[name])
