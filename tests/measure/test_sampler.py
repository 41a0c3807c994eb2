"""What is sampled beside a run."""

from types import SimpleNamespace

import pynvml
import pytest

from harness.measure.sampler import find_gpu, sample_gpu


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
