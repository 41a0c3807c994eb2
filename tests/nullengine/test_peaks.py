"""How fast this machine reads memory and multiplies; the numbers of GPUs, from an invented driver."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.nullengine import peaks
from harness.nullengine.peaks import GPU_CACHE_BYTES, cpu_flops, faster_unit, gpu_peaks, highest, machine_peaks
from harness.records.calibration import Peak


def test_one_peak_for_each_size_of_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "TRY_S", 0.01)
    monkeypatch.setattr(peaks, "visible_gpus", tuple)
    found = machine_peaks([8_000_000, None, 2_000_000, 8_000_000])
    sizes = [peak.working_set_bytes or 0 for peak in found]
    assert sizes == pytest.approx([2_000_000, 8_000_000], rel=0.01)
    for peak in found:
        # A machine that runs this test reads more than 100 MB/s, and less than 100 TB/s: no unit is off by 1000.
        assert 1e8 < peak.bytes_per_s < 1e14
        assert peak.flops_per_s is not None and 1e8 < peak.flops_per_s < 1e16
        assert "float32" in peak.how and "cores" in peak.how


def test_without_weights_nothing_is_measured() -> None:
    assert machine_peaks([None]) == ()


def test_units_for_fewer_bits_are_allowed_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faster_unit(["fpu", "sse2", "avx2"]) == ("", 1.0)
    assert faster_unit(["avx512_bf16", "avx512_vnni"])[1] == 4.0
    assert faster_unit(["avx512_vnni", "amx_tile"])[1] == 16.0
    assert faster_unit(["fp", "asimddp", "i8mm"])[1] == 4.0  # on Arm
    monkeypatch.setattr(peaks, "TRY_S", 0.01)
    monkeypatch.setattr(peaks, "_cpu_words", lambda: ["amx_tile"])
    _, how = cpu_flops()
    assert "times 16 for its amx units" in how


def test_the_higher_of_two_measurements() -> None:
    quiet, disturbed = Peak("cpu", 20.0, 5.0, "a", 0.5, 8), Peak("cpu", 9.0, 7.0, "b", 0.5, 8)
    assert highest([disturbed], [quiet]) == (Peak("cpu", 20.0, 7.0, "a", 0.5, 8),)


def driver(name: str, **missing: Any) -> SimpleNamespace:
    """NVML with one GPU, as the two calls report an H200: 3,201 MHz and 6,144 bits, 4.9 TB/s."""

    class NVMLError(Exception):
        pass

    def refused(*_: object) -> None:
        raise NVMLError

    made = SimpleNamespace(
        NVMLError=NVMLError,
        NVML_CLOCK_MEM=2,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMaxClockInfo=lambda gpu, kind: 3201,
        nvmlDeviceGetMemoryBusWidth=lambda gpu: 6144,
        nvmlDeviceGetName=lambda gpu: name,
    )
    for call in missing:
        setattr(made, call, refused)
    return made


def test_a_gpu_by_its_clock_and_its_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "visible_gpus", lambda: ("0",))
    monkeypatch.setattr(peaks, "nvml", driver("NVIDIA H200"))
    small, large = gpu_peaks()
    assert large.bytes_per_s == pytest.approx(4.92e12, rel=0.01)
    assert small.bytes_per_s == pytest.approx(5 * large.bytes_per_s)  # its cache may hold them
    assert (small.working_set_bytes, large.working_set_bytes) == (0, GPU_CACHE_BYTES)
    assert large.flops_per_s == pytest.approx(4 * 989e12) and "data sheet" in large.how


def test_a_gpu_that_is_not_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "visible_gpus", lambda: ("0",))
    monkeypatch.setattr(peaks, "nvml", driver("Invented GPU"))
    assert {(peak.flops_per_s, "FLOP/s not known" in peak.how) for peak in gpu_peaks()} == {(None, True)}
    monkeypatch.setattr(peaks, "nvml", driver("NVIDIA H200", nvmlDeviceGetMemoryBusWidth=None))
    assert gpu_peaks() == ()
