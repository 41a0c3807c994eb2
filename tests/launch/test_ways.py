"""Which way an engine is started, on machines that this is not."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

import engines
from harness.adapter import Native
from harness.launch.docker_host import DockerHost
from harness.launch.ways import Here, ways

KNOWN = engines.load()
CPU, CUDA = Native(None, ("engine",)), Native(None, ("engine", "--gpu"))
BOTH = replace(KNOWN["fake"], null=False, containers=("cuda", "cpu"), native=CPU, native_cuda=CUDA)


def docker(gpu: bool) -> DockerHost:
    client: Any = SimpleNamespace()
    return DockerHost(client, "28", "2.26.1", gpu)


def shown(engine: Any, here: Here, launch: Any = "auto") -> list[str]:
    return [str(way) for way in ways(engine, here, launch)[0]]


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        (Here(docker(True), "", "cuda"), ["container on the GPU", "native process on the GPU"]),
        (Here(docker(False), "", "cuda"), ["native process on the GPU"]),
        (Here(docker(False), "", "cpu"), ["container on the CPU", "native process on the CPU"]),
        (Here(None, "no daemon", "cuda"), ["native process on the GPU"]),
        (Here(None, "no daemon", "cpu"), ["native process on the CPU"]),
    ],
)
def test_containers_first_and_never_one_engine_beside_the_gpu(here: Here, expected: list[str]) -> None:
    assert shown(BOTH, here) == expected


def test_what_is_insisted_on_is_the_only_way() -> None:
    here = Here(docker(False), "", "cpu")
    assert shown(BOTH, here, "process") == ["native process on the CPU"]
    assert shown(BOTH, here, "compose") == ["container on the CPU"]


@pytest.mark.parametrize(
    ("here", "reason"),
    [
        (Here(None, "no docker command on PATH", "cuda"), "no container: no docker command on PATH"),
        (Here(docker(False), "", "cuda"), "install the NVIDIA Container Toolkit"),
        (Here(docker(False), "", "cpu"), "no container: it needs an NVIDIA GPU, and there is none here"),
    ],
)
def test_every_way_that_is_not_tried_has_its_reason(here: Here, reason: str) -> None:
    engine = replace(BOTH, containers=("cuda",), native=Native(None, ()))
    assert any(reason in line for line in ways(engine, here)[1])


def test_every_engine_can_start_or_says_why_not() -> None:
    for here in (Here(docker(True), "", "cuda"), Here(docker(False), "", "cpu"), Here(None, "no daemon", "cpu")):
        for engine in KNOWN.values():
            found, reasons = ways(engine, here)
            assert found or reasons, engine.name


def test_the_same_machine_with_a_gpu_starts_every_engine_that_has_a_container() -> None:
    with_image = [engine for engine in KNOWN.values() if engine.containers]
    assert len(with_image) >= 5
    for engine in with_image:
        if not engine.attach_only:
            assert shown(engine, Here(docker(True), "", "cuda"))[0] == "container on the GPU", engine.name


def test_on_the_gpu_the_native_engine_is_the_one_for_it() -> None:
    (way,) = ways(BOTH, Here(None, "", "cuda"))[0]
    assert BOTH.native_on(way.device) is CUDA
    (way,) = ways(BOTH, Here(None, "", "cpu"))[0]
    assert BOTH.native_on(way.device) is CPU
    (way,) = ways(KNOWN["fake"], Here(None, "", "cuda"))[0]
    assert (way.launch, way.device) == ("process", "cpu")
    assert KNOWN["fake"].native_on("cuda") is KNOWN["fake"].native
