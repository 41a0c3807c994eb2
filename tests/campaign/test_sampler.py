"""What is sampled beside a run."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from harness.campaign.sampler import Sampled, find_gpus, observe, read_samples, sample_gpus
from harness.driver.address import local
from harness.launch.endpoint import Endpoint


@pytest.fixture(autouse=True)
def _looked_for_anew() -> Iterator[None]:
    find_gpus.cache_clear()
    yield
    find_gpus.cache_clear()


def test_without_an_nvidia_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert sample_gpus(find_gpus(("0", "1"))) == {}


@pytest.mark.parametrize(
    ("given", "expected"), [((), ()), (("3", "1"), (3, 1)), (("GPU-ab", "0"), ("GPU-ab", 0)), (("9", "1"), (1,))]
)
def test_they_are_the_gpus_that_the_engine_gets(
    monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], expected: tuple[object, ...]
) -> None:
    def by_number(number: int) -> int:
        if number == 9:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return number

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", by_number)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: uuid)
    assert find_gpus(given) == expected


def test_several_gpus_are_summed_and_their_busy_time_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda gpu: SimpleNamespace(used=1000 * gpu))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerUsage", lambda gpu: 250_000)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", lambda gpu: SimpleNamespace(gpu=30 * gpu))
    assert sample_gpus((1, 2)) == {"gpu_memory_bytes": 3000, "gpu_power_w": 500, "gpu_busy_percent": 45}


def test_what_a_gpu_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(gpu: int) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda gpu: SimpleNamespace(used=1000))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerUsage", refuses)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", lambda gpu: SimpleNamespace(gpu=40))
    assert sample_gpus((7,)) == {"gpu_memory_bytes": 1000, "gpu_busy_percent": 40}


def sampled(pid: int, out: Path) -> Sampled:
    return Sampled(pid, (), out)


@pytest.mark.live
def test_a_run_shorter_than_the_interval_has_its_samples(tmp_path: Path) -> None:
    """Those of just before and just after it, and of the other samples only the ones that lie within."""
    out = tmp_path / "s"
    me = sampled(os.getpid(), out)
    with subprocess.Popen(["sleep", "60"]) as child:
        before, after = observe(me), observe(me)
        child.kill()
    assert before["engine_rss_bytes"] > 0
    out.write_text("".join(json.dumps({"at_ns": at, "engine_cpu_s": at}) + "\n" for at in (5, 15, 25)) + '{"at_')
    rows = read_samples(me, (before, after), 10, 20)
    named = [(at, value) for at, name, value in rows if name == "engine_cpu_s"]
    assert named == [(0.0, before["engine_cpu_s"]), (1e-8, after["engine_cpu_s"]), (5e-9, 15.0)]
    assert "at_ns" not in {name for _, name, _ in rows}


@pytest.mark.live
def test_what_cannot_be_seen_or_is_gone_has_no_sample(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as child:
        pass
    assert observe(None) == observe(sampled(child.pid, tmp_path / "s")) == {}
    assert read_samples(None, ({}, {}), 10, 20) == []


def test_an_attached_server_is_not_sampled(tmp_path: Path) -> None:
    there = Endpoint(requests=local(1), pages=local(1), launch="attach", stopped=lambda: None)
    assert Sampled.of(there) is None
    mine = replace(there, launch="process", pid=7, gpus=("0",), log=tmp_path / "vllm-round-1.log")
    assert Sampled.of(mine) == Sampled(7, ("0",), tmp_path / "vllm-round-1.samples")
