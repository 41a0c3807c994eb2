"""What is sampled beside a run."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pynvml
import pytest

from harness.campaign.readers import find_gpus, sample_gpus, sample_processes
from harness.campaign.sampler import INTERVAL_S, Sampled, observe, read_samples, sampling
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


READINGS = {
    "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(used=1000 * gpu),
    "nvmlDeviceGetPowerUsage": lambda gpu: 250_000,
    "nvmlDeviceGetTotalEnergyConsumption": lambda gpu: 7_000_000,
    "nvmlDeviceGetUtilizationRates": lambda gpu: SimpleNamespace(gpu=30 * gpu),
    "nvmlDeviceGetClockInfo": lambda gpu, kind: {pynvml.NVML_CLOCK_SM: 1500, pynvml.NVML_CLOCK_MEM: 2600}[kind] + gpu,
    "nvmlDeviceGetTemperature": lambda gpu, kind: 50 + gpu,
    "nvmlDeviceGetCurrentClocksEventReasons": lambda gpu: {1: 0x4, 2: 0x20}[gpu],
}


def refuses(*_: object) -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def test_several_gpus_become_one_value_for_each_series(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, reading in READINGS.items():
        monkeypatch.setattr(pynvml, name, reading)
    assert sample_gpus((1, 2)) == {
        "gpu_memory_bytes": 3000,
        "gpu_power_w": 500,
        "gpu_energy_j": 14_000,
        "gpu_busy_percent": 45,
        "gpu_sm_clock_mhz": 1501.5,
        "gpu_memory_clock_mhz": 2601.5,
        "gpu_temperature_c": 52,
        "gpu_clock_limits": 0x24,
    }


def test_what_a_gpu_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    told = ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUtilizationRates")
    for name, reading in READINGS.items():
        monkeypatch.setattr(pynvml, name, reading if name in told else refuses)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCurrentClocksThrottleReasons", refuses)
    assert sample_gpus((1,)) == {"gpu_memory_bytes": 1000, "gpu_busy_percent": 30}


def test_an_older_driver_has_another_name_for_what_limits_the_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(gpu: int) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)

    for name in READINGS:
        monkeypatch.setattr(pynvml, name, refuses)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCurrentClocksEventReasons", missing)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCurrentClocksThrottleReasons", lambda gpu: 0x40)
    assert sample_gpus((1,)) == {"gpu_clock_limits": 0x40}


def sampled(pid: int, out: Path) -> Sampled:
    return Sampled(pid, (), str(out))


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
    assert named == [(0.0, before["engine_cpu_s"]), (5e-9, 15.0), (1e-8, after["engine_cpu_s"])]
    assert "at_ns" not in {name for _, name, _ in rows}


@pytest.mark.live
def test_what_cannot_be_seen_or_is_gone_has_no_sample(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as child:
        pass
    assert observe(None) == observe(sampled(child.pid, tmp_path / "s")) == {}
    assert read_samples(None, ({}, {}), 10, 20) == []


@pytest.mark.live
def test_a_stopped_engine_has_no_sample_and_not_one_of_zeros() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        found = psutil.Process(child.pid)
        assert sample_processes([found])["engine_rss_bytes"] > 0
        child.kill()
    assert sample_processes([found]) == {}
    assert sample_processes([]) == {"engine_cpu_s": 0.0, "engine_rss_bytes": 0.0}


def test_an_attached_server_is_not_sampled(tmp_path: Path) -> None:
    there = Endpoint(requests=local(1), pages=local(1), launch="attach", stopped=lambda: None)
    assert Sampled.of(there) is None
    mine = replace(there, launch="process", pid=7, gpus=("0",), log=tmp_path / "vllm-round-1.log")
    assert Sampled.of(mine) == Sampled(7, ("0",), str(tmp_path / "vllm-round-1.samples"))


@pytest.mark.live
def test_the_process_samples_and_says_what_it_takes(tmp_path: Path) -> None:
    """The engine's CPU time, a program's watts, and its own CPU time, all in every sample."""
    command = ("sh", "-c", "while echo 42.5; do sleep 0.1; done")
    with subprocess.Popen(["sleep", "60"]) as child:
        found = Sampled(os.getpid(), (), str(tmp_path / "s"), command)
        start = time.monotonic_ns()
        with sampling(found):
            time.sleep(3 * INTERVAL_S + 1.0)
        end = time.monotonic_ns()
        child.kill()
    series: dict[str, list[float]] = {}
    for _, name, value in read_samples(found, ({}, {}), start, end):
        series.setdefault(name, []).append(value)
    assert len(series["engine_cpu_s"]) >= 2
    assert series["command_power_w"][-1] == 42.5
    taken = series["sampler_cpu_s"]
    assert 0 < taken[0] <= taken[-1] < 5
    left = [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == list(command)]
    assert not left  # the program ends with the sampling
