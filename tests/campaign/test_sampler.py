"""What is sampled beside a run."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from harness.campaign.sampler import find_gpu, observe, read_samples, sample_gpu


@pytest.fixture(autouse=True)
def _looked_for_anew() -> Iterator[None]:
    find_gpu.cache_clear()
    yield
    find_gpu.cache_clear()


def test_without_an_nvidia_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert sample_gpu(find_gpu()) == {}


@pytest.mark.parametrize(("visible", "expected"), [("", 0), ("3,1", 3), ("GPU-ab", "GPU-ab")])
def test_it_is_the_gpu_that_the_engines_get(monkeypatch: pytest.MonkeyPatch, visible: str, expected: object) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda number: number)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: uuid)
    assert find_gpu() == expected


def test_what_a_gpu_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(gpu: int) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda gpu: SimpleNamespace(used=1000))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerUsage", refuses)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", lambda gpu: SimpleNamespace(gpu=40))
    assert sample_gpu(7) == {"gpu_memory_bytes": 1000, "gpu_busy_percent": 40}


@pytest.mark.live
def test_a_run_shorter_than_the_interval_has_its_samples(tmp_path: Path) -> None:
    """Those of just before and just after it, and of the other samples only the ones that lie within."""
    with subprocess.Popen(["sleep", "60"]) as child:
        before, after = observe(os.getpid()), observe(os.getpid())
        child.kill()
    assert before["engine_rss_bytes"] > 0
    out = tmp_path / "s"
    out.write_text("".join(json.dumps({"at_ns": at, "engine_cpu_s": at}) + "\n" for at in (5, 15, 25)) + '{"at_')
    rows = read_samples(out, before, after, 10, 20)
    named = [(at, value) for at, name, value in rows if name == "engine_cpu_s"]
    assert named == [(0.0, before["engine_cpu_s"]), (1e-8, after["engine_cpu_s"]), (5e-9, 15.0)]
    assert "at_ns" not in {name for _, name, _ in rows}


@pytest.mark.live
def test_what_cannot_be_seen_or_is_gone_has_no_sample(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as child:
        pass
    assert observe(None) == observe(child.pid) == {}
