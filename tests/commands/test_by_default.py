"""Which engines take part in a comparison that names none: a stand-in only where its original cannot start."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import engines
from harness.commands.by_default import by_default
from harness.commands.candidates import Ground, Prepared, choose, prepare
from harness.commands.list_engines import has_run
from harness.launch.docker_host import DockerHost
from harness.launch.install import MARK, environment_folder
from harness.launch.ways import Here
from harness.model.resolve import Model, resolve
from harness.paths import cache_folder
from harness.workload.candidate import Candidate
from harness.workload.plan import Plan
from harness.workload.spec import Workload
from tests.loads import load

KNOWN = engines.load()
ORIGINAL = KNOWN["llamacpp"]
(STAND_IN,) = (engine for engine in KNOWN.values() if engine.instead_of)
PLAN = Plan("x", Workload(input_tokens=16, output_tokens=8, load=(load(3, 1),)))
NOWHERE = Here(None, "no docker command on PATH", "cpu")
NO_CLIENT: Any = None


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty cache, without gcc and without Docker; the cache."""
    monkeypatch.setattr("harness.commands.list_engines.cache_folder", lambda: tmp_path)
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool in ("gcc", "g++") else f"/bin/{tool}")
    monkeypatch.setattr("harness.commands.by_default.look_around", lambda device: NOWHERE)
    return tmp_path


def names(plan: Plan = PLAN) -> set[str]:
    return {engine.name for engine in by_default(KNOWN, plan)}


def test_it_steps_in_where_its_original_can_neither_be_built_nor_run_in_a_container(bare: Path) -> None:
    assert {STAND_IN.name, "vllm", "tgi"} <= names() and STAND_IN.instead_of == ORIGINAL.name
    assert STAND_IN.name in {one.name for one in choose(KNOWN, PLAN, (), "file.toml")}
    assert STAND_IN.name not in names(replace(PLAN, launch="compose"))  # nothing can start there


def test_it_stays_out_where_its_original_is_installed(bare: Path) -> None:
    there = environment_folder(ORIGINAL, "cpu", ORIGINAL.version, bare)
    there.mkdir(parents=True)
    (there / MARK).touch()
    assert STAND_IN.name not in names()


def test_it_stays_out_where_its_original_can_be_built(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: f"/bin/{tool}")
    assert STAND_IN.name not in names()


def test_it_stays_out_where_its_original_runs_in_a_container(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Here(DockerHost(NO_CLIENT, "28", "2.30.0", False), "", "cpu")
    monkeypatch.setattr("harness.commands.by_default.look_around", lambda device: here)
    monkeypatch.setattr("harness.commands.list_engines.image_name", lambda engine, device: "llama.cpp:1")
    monkeypatch.setattr("harness.commands.list_engines.find_image", lambda docker, name: None)  # it would be pulled
    assert STAND_IN.name not in names()
    assert STAND_IN.name in names(replace(PLAN, launch="process"))


def test_it_stays_out_on_a_gpu_for_which_it_has_no_start(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.commands.by_default.look_around", lambda device: replace(NOWHERE, device="cuda"))
    assert STAND_IN.name not in names()


@pytest.fixture(scope="module")
def tiny() -> Model:
    return resolve("tiny", cache_folder())


@pytest.mark.parametrize(("named", "because"), [(False, "in place of llamacpp, which cannot start here"), (True, "")])
def test_that_it_steps_in_is_said(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool, because: str
) -> None:
    monkeypatch.setattr("harness.commands.candidates.ensure_installed", lambda *words: tmp_path / "env")
    plan = replace(PLAN, profile=replace(PLAN.profile, dtype="bfloat16"))
    candidate = Candidate(engine=STAND_IN.name, name=STAND_IN.name)
    found: Prepared = prepare(
        candidate, STAND_IN, Ground(plan, tiny, NOWHERE, tmp_path, named=named), lambda text: None
    )
    assert (found.how, found.because, found.package) == ("native process on the CPU", because, STAND_IN.version)


def test_its_start_knows_the_flags_of_its_original() -> None:
    """Those that are passed; a candidate's own ones are checked by its parser, which names what it does not know."""
    start = STAND_IN.native.command[2]
    words = [*ORIGINAL.native.command, *(word for state in ORIGINAL.prefix_cache for word in state)]
    flags = {word for word in words if word.startswith("--")} - {"--cache-type-k", "--cache-type-v"}
    assert len(flags) > 20 and {flag for flag in flags if f'"{flag}"' not in start} == set()


def test_what_has_run_for_real_is_listed_with_what_never_has() -> None:
    first, second, never = has_run(ORIGINAL)
    assert first.startswith(f"has run: {ORIGINAL.version} on a CPU: process") and "H200" in second
    assert never == "never run: published images"
    assert (
        has_run(KNOWN["tensorrtllm"]) == [f"never run: {KNOWN['tensorrtllm'].never}"] and has_run(KNOWN["fake"]) == []
    )
