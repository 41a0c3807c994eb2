"""The GPUs that a candidate gets, on machines that this is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

import engines
from harness import machine
from harness.errors import CannotStart
from harness.launch.values import chosen_gpus
from harness.machine import visible_gpus

ENGINES = engines.load()
VLLM, ONE_AT_MOST = ENGINES["vllm"], replace(ENGINES["vllm"], most_gpus=1)
UUIDS = "GPU-8f2d8f4a-0000-1111-2222-333344445555, MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"


@pytest.fixture(autouse=True)
def _four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_gpus", lambda: ["H100"] * 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_it_gets_the_first_of_those_that_there_are() -> None:
    assert chosen_gpus(VLLM, "cuda", 1) == ("0",)
    assert chosen_gpus(VLLM, "cuda", 3) == ("0", "1", "2")
    assert chosen_gpus(ONE_AT_MOST, "cuda", 1) == ("0",)


@pytest.mark.parametrize(
    ("visible", "there"),
    [
        ("", ()),
        ("-1", ()),
        ("2,0", ("2", "0")),
        (" 3 , 1 ", ("3", "1")),
        ("1,-1,2", ("1",)),
        (UUIDS, tuple(UUIDS.split(", "))),
    ],
)
def test_the_users_choice_is_the_harnesss(
    monkeypatch: pytest.MonkeyPatch, visible: str, there: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus() == there
    if there:
        assert chosen_gpus(VLLM, "cuda", len(there)) == there
    with pytest.raises(CannotStart) as refused:
        chosen_gpus(VLLM, "cuda", len(there) + 1)
    listed = ", ".join(there) or "none"
    assert str(refused.value) == f"profile.gpus is {len(there) + 1}, but {len(there)} can be used here ({listed})"


def test_more_than_an_engine_shares_a_model_among_is_refused() -> None:
    with pytest.raises(CannotStart, match=r"profile\.gpus is 2, but it can split a model over 1 at most"):
        chosen_gpus(ONE_AT_MOST, "cuda", 2)
    assert ENGINES["llamacpp"].most_gpus == 1


def test_a_cpu_has_none() -> None:
    assert chosen_gpus(VLLM, "cpu", 1) == ()
    with pytest.raises(CannotStart, match=r"profile\.gpus is 2, but it runs on a CPU here"):
        chosen_gpus(VLLM, "cpu", 2)


def test_the_null_server_takes_none() -> None:
    assert chosen_gpus(ENGINES["fake"], "cuda", 8) == chosen_gpus(ENGINES["fake"], "cpu", 8) == ()
