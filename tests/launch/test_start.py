"""One start as it is decided: what is run, what is kept of it, and that no place of this machine is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import engines
from harness.adapter import Device, Engine, Native, Profile, Venv, Workload
from harness.errors import CannotStart
from harness.launch.compose import compose_file
from harness.launch.start import Start
from harness.launch.values import Places, launch_values, settings
from harness.workload.candidate import Candidate
from tests.loads import load
from tests.starts import start_of

NATIVE = Native(
    install=Venv(("invented",)),
    command=("{program}", "serve", "{model}", "--port", "{port}", "--context", "{context_tokens}", "--kept={cache}"),
    program="{env}/bin/python",
    env={"LIBRARY": "{env}/lib/one.so", "KEPT": "{cache}/kernels", "CORES": "{cores}", "PLAIN": "1"},
)
ENGINE = replace(
    engines.load()["fake"],
    name="invented",
    null=False,
    native=NATIVE,
    native_cuda=replace(NATIVE, command=(*NATIVE.command, "--cuda")),
    prefix_cache=(("--no-cache",), ("--cache",)),
    gpu_flags=("--tp", "{gpus}"),
)
REAL = [
    (engine, device)
    for engine in engines.load().values()
    for device in ("cpu", "cuda")
    if engine.native_on(device) and not engine.null
]


def start(
    folder: Path, device: Device = "cpu", gpus: tuple[str, ...] = (), prefix_cache: bool = False, **own: Any
) -> Start:
    """Its environment lies in `folder`."""
    values = {
        "env": folder,
        "program": f"{folder}/bin/python",
        "model": "/weights/model",
        "cache": "/home/me/kept",
        "cores": "0,1",
        "gpus": max(1, len(gpus)),
        "prefix_cache": prefix_cache,
    }
    candidate = Candidate(engine="invented", name="mine", **own)
    return start_of(ENGINE, folder / "log", port=8123, device=device, gpus=gpus, candidate=candidate, values=values)


def test_the_command_is_the_engines_with_the_candidates_arguments_after_it(tmp_path: Path) -> None:
    own = ("--quantization", "a b", "{port}", "$HOME")  # as they are: no braces filled, no shell
    found = start(tmp_path, args=own).command()
    assert found == [
        *(f"{tmp_path}/bin/python", "serve", "/weights/model", "--port", "8123", "--context", "64"),
        *("--kept=/home/me/kept", "--no-cache", *own),
    ]
    assert "--cache" in start(tmp_path, prefix_cache=True).command()


def test_the_launch_line_has_braces_for_what_belongs_to_this_start(tmp_path: Path) -> None:
    found = start(tmp_path, args=("--own", "x")).launch_line()
    assert found == (
        *("{program}", "serve", "{model}", "--port", "{port}", "--context", "64", "--kept={cache}"),
        *("--no-cache", "--own", "x"),
    )


def test_a_variable_that_names_a_missing_file_of_the_environment_is_left_out(tmp_path: Path) -> None:
    there = {"KEPT": "/home/me/kept/kernels", "CORES": "0,1", "PLAIN": "1"}
    assert start(tmp_path).env() == there
    assert "LIBRARY" not in start(tmp_path).comparable_env()
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "one.so").touch()
    assert start(tmp_path).env() == {**there, "LIBRARY": f"{tmp_path}/lib/one.so"}
    assert start(tmp_path).comparable_env()["LIBRARY"] == "{env}/lib/one.so"


def test_a_candidates_variables_are_added_and_win(tmp_path: Path) -> None:
    one = start(tmp_path, env={"PLAIN": "2", "OWN": "a $b {port}"})
    assert (one.env()["PLAIN"], one.env()["OWN"], one.env()["CORES"]) == ("2", "a $b {port}", "0,1")
    kept = one.comparable_env()
    assert (kept["PLAIN"], kept["OWN"], kept["KEPT"]) == ("2", "a $b {port}", "{cache}/kernels")


def test_gpus_are_said_only_where_it_gets_some(tmp_path: Path) -> None:
    one = start(tmp_path, "cuda", ("2", "GPU-ab"))
    assert one.command()[-4:] == ["--cuda", "--no-cache", "--tp", "2"]
    assert one.env()["CUDA_VISIBLE_DEVICES"] == one.comparable_env()["CUDA_VISIBLE_DEVICES"] == "2,GPU-ab"
    without = start(tmp_path)
    assert "--tp" not in without.command() and "CUDA_VISIBLE_DEVICES" not in without.env()


@pytest.mark.parametrize("name", ["vllm", "sglang", "tgi", "lmdeploy", "tensorrtllm"])
def test_an_engine_runs_code_of_a_model_only_if_its_candidate_says_so(name: str, tmp_path: Path) -> None:
    engine = engines.load()[name]
    candidate = Candidate(engine=name)
    device: Device = "cuda" if engine.native_cuda else "cpu"
    plain = Start(engine, candidate, device, {}, (), tmp_path / "log")
    trusting = replace(plain, candidate=replace(candidate, trust_remote_code=True))
    assert plain.trust_flags == () and len(trusting.trust_flags) == 1
    assert "trust" in trusting.trust_flags[0] and trusting.trust_flags[0] not in compose_file(engine).read_text()
    if engine.native_cuda:
        words = [replace(one, values={"prefix_cache": False}).words() for one in (plain, trusting)]
        assert words[1] == [*words[0], *trusting.trust_flags] and not any("trust" in word for word in words[0])


def test_requests_over_grpc_have_a_port_of_their_own(tmp_path: Path) -> None:
    triton = engines.load()["triton"]
    one = start_of(triton, tmp_path / "log", port=8123, values={"grpc_port": 8124})
    assert (one.port, one.requests_port) == (8123, 8124)
    assert start(tmp_path).requests_port == 8123
    with pytest.raises(CannotStart, match="no native start here"):
        one.command()


@pytest.mark.parametrize(("engine", "device"), REAL, ids=lambda v: getattr(v, "name", v))
def test_two_starts_of_an_engine_in_other_places_leave_the_same_line(
    engine: Engine, device: Device, tmp_path: Path
) -> None:
    one, other = (placed(engine, device, tmp_path / name, port) for name, port in (("one", 8001), ("other", 8999)))
    assert one.command() != other.command()
    assert one.launch_line() == other.launch_line() and one.comparable_env() == other.comparable_env()
    kept = json.dumps([one.launch_line(), one.comparable_env()])
    assert str(tmp_path) not in kept and "8001" not in kept and "{port}" in kept


def placed(engine: Engine, device: Device, folder: Path, port: int) -> Start:
    folder.mkdir()
    native = engine.native_on(device)
    assert native is not None
    places = Places(folder, folder / "kept", native.program.format(env=folder), folder / "model", 2 * 2 * 64)
    work = Workload(input_tokens=8, output_tokens=4, load=(load(1),))
    gpus = ("0",) if device == "cuda" else ()
    table = settings(engine, Profile(dtype="bfloat16"), work)
    values = launch_values(engine, table, places, (port, port + 1), gpus)
    return Start(engine, Candidate(engine=engine.name), device, values, gpus, folder / "log")
