"""What a candidate adds to its engine's compose file, as Docker Compose reads the result; no daemon is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.adapter import Device, Engine, Profile, Workload
from harness.launch.compose import image_variable, render
from harness.launch.docker_host import Image
from harness.launch.start import Start
from harness.launch.values import Places, launch_values, settings
from harness.workload.candidate import Candidate
from tests.containers import ENGINES, SERVICES, require_compose
from tests.loads import load

pytestmark = pytest.mark.live

ON_GPUS = [engine for engine in ENGINES if "cuda" in engine.containers]
each_service = pytest.mark.parametrize(("engine", "device"), SERVICES, ids=lambda v: getattr(v, "name", v))
each_on_gpus = pytest.mark.parametrize("engine", ON_GPUS, ids=lambda e: e.name)


def rendered(
    engine: Engine, device: Device, folder: Path, gpus: tuple[str, ...] = (), image: str = "mine:1", **own: Any
) -> dict[str, Any]:
    """The whole rendered file, read once more by Docker Compose."""
    require_compose()
    places = Places(folder, folder, "", folder / "model", 2 * 2 * 64)
    work = Workload(input_tokens=8, output_tokens=4, load=(load(1),))
    gpus = gpus or (("0",) if device == "cuda" else ())
    table = settings(engine, Profile(dtype="bfloat16"), work)
    values = launch_values(engine, table, places, (8001, 8002), gpus)
    candidate = Candidate(engine=engine.name, **{"name": engine.name, **own})
    start = Start(engine, candidate, device, values, gpus, folder / "launches" / f"{candidate.name}-round-1.log")
    project = render(start, Image(image, "sha256:0", "amd64"), folder / "launches")
    assert project.file.parent == folder / "launches" and dict(project.env) == {}
    whole: dict[str, Any] = json.loads(project.run("config", "--format", "json"))
    return whole


def service(engine: Engine, device: Device, folder: Path, **how: Any) -> dict[str, Any]:
    found: dict[str, Any] = rendered(engine, device, folder, **how)["services"][device]
    return found


@each_service
def test_arguments_and_variables_come_through_as_they_are(engine: Engine, device: Device, tmp_path: Path) -> None:
    args = ("--own", "two words", "$HOME ${PORT}", "100%", 'a"b')
    env = {"OWN": "$HOME and ${MODEL}", "HF_HUB_OFFLINE": "0"}
    plain, more = (service(engine, device, tmp_path, **own) for own in ({}, {"args": args, "env": env}))
    # Read once more, a dollar sign is written as two again.
    assert more["command"] == [*plain["command"], *(word.replace("$", "$$") for word in args)]
    assert more["environment"] == {**plain["environment"], "OWN": "$$HOME and $${MODEL}", "HF_HUB_OFFLINE": "0"}
    without = {"command", "environment"}
    assert {k: v for k, v in more.items() if k not in without} == {k: v for k, v in plain.items() if k not in without}


@each_service
def test_what_the_engines_own_file_says_stays(engine: Engine, device: Device, tmp_path: Path) -> None:
    """Among it dollar signs for a shell inside, which must not become this machine's variables."""
    got = service(engine, device, tmp_path)
    assert got["ports"][0]["published"] == "8001" and got["ports"][0]["host_ip"] == "127.0.0.1"
    assert got["labels"]["inference-engine-comparison.engine"] == engine.name
    assert got["image"] == "mine:1"
    entry = " ".join(got.get("entrypoint") or ())
    assert ("$$@" in entry) == (engine.name in ("tgi", "sglang"))
    assert "$${HEALTH_PAGE:-/health}" in got["healthcheck"]["test"][1]
    assert ("deploy" in got) == (device == "cuda")


@each_service
def test_a_candidates_image_wins_over_the_users_variable(
    engine: Engine, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(image_variable(engine), "another:9")
    got = service(engine, device, tmp_path, image="registry.example:5000/own/engine@sha256:" + "a" * 64)
    assert got["image"] == "registry.example:5000/own/engine@sha256:" + "a" * 64


GPUS = {
    "one": ("1",),
    "two": ("0", "2"),
    "uuid": ("GPU-8f2d8f4a-0000-1111-2222-333344445555",),
    "mig": ("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb40"),
}


@pytest.mark.parametrize("gpus", GPUS.values(), ids=GPUS)
@each_on_gpus
def test_it_gets_exactly_its_gpus_and_is_told_how_many(engine: Engine, gpus: tuple[str, ...], tmp_path: Path) -> None:
    whole = rendered(engine, "cuda", tmp_path, gpus=gpus)
    got = whole["services"]["cuda"]
    (device,) = got["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": list(gpus), "capabilities": ["gpu"]}
    if engine.most_gpus == 1:
        return
    flag, count = engine.gpu_flags[0], str(len(gpus))
    if flag.startswith("--"):
        assert got["command"][got["command"].index(flag) + 1] == count
        assert engine.gpu_flags[1:] == ("{gpus}",)
    else:
        (content,) = (entry["content"] for entry in whole["configs"].values())
        assert f"tensor_parallel_size: {count}\n" in content


def test_candidates_of_one_engine_are_projects_of_their_own(tmp_path: Path) -> None:
    engine = ENGINES[0]
    names = {
        rendered(engine, engine.containers[0], tmp_path, name=name)["name"] for name in ("one", "Two.2", "three_3")
    }
    assert len(names) == 3 and all(name.startswith("bench-") and name == name.lower() for name in names)
