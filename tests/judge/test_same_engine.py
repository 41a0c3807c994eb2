"""One version, one image and one device in all rounds of a candidate."""

from __future__ import annotations

from typing import Any

import pytest

from harness.records.manifest import ImageFacts, MachineFacts
from tests.invented import FOUR, ONE
from tests.invented_runs import Run
from tests.judge.checking import check


def image(digest: str) -> dict[str, Any]:
    return {"endpoint__launch": "compose", "endpoint__image": ImageFacts(name="alpha:1", digest=f"sha256:{digest}")}


@pytest.mark.parametrize(
    ("second", "verdict", "said"),
    [
        ({}, "ok", "One version in all rounds: 1.2.3"),
        ({"endpoint__version": "1.2.4", "endpoint__tested_version": "1.2.4"}, "invalid", "version 1.2.3 and 1.2.4"),
        ({"endpoint__device": "cuda"}, "invalid", "device cpu and cuda"),
        ({"endpoint__device": None}, "ok", "One version"),
        ({"endpoint__version": None}, "doubt", "not known"),
    ],
)
def test_two_rounds(run: Run, second: dict[str, Any], verdict: str, said: str) -> None:
    found = check([run(), run(round_index=2, **second)], "SAME_ENGINE")
    assert found.verdict == verdict and said in found.message


def test_weights_that_changed_between_rounds_are_not_averaged(run: Run) -> None:
    found = check([run(model__weights_digest="1"), run(round_index=2, model__weights_digest="2")], "SAME_ENGINE")
    assert found.verdict == "invalid" and "weights 1 and 2" in found.message


def test_images_are_told_apart_by_their_digest(run: Run) -> None:
    same = [run(**image("1" * 64)), run(round_index=2, **image("1" * 64))]
    assert check(same, "SAME_ENGINE").verdict == "ok"
    found = check([run(**image("1" * 64)), run(round_index=2, **image("2" * 64))], "SAME_ENGINE")
    assert found.verdict == "invalid" and "sha256:1" in found.message and "sha256:2" in found.message
    assert check([run(endpoint__launch="compose")], "SAME_ENGINE").verdict == "doubt"


def test_the_rounds_of_every_load_count(run: Run) -> None:
    found = check([run(load=ONE), run(load=FOUR, round_index=2, endpoint__version="1.2.4")], "SAME_ENGINE")
    assert found.verdict == "invalid"


def test_a_version_that_was_not_tested_is_a_note(run: Run) -> None:
    found = check([run(endpoint__tested_version="0.32.0")], "SAME_ENGINE")
    said = "1.2.3, not the version that the engine file was tested with (0.32.0)."
    assert (found.verdict, found.message) == ("note", said)
    assert check([run(endpoint__tested_version=None)], "SAME_ENGINE").verdict == "ok"


def test_the_unknown_version_of_an_attached_server_is_told_elsewhere(run: Run) -> None:
    changes = {"endpoint__launch": "attach", "endpoint__version": None}
    assert check([run(**changes)], "SAME_ENGINE").verdict == "ok"
    found = check([run(**changes)], "CONFIG_PARITY")
    assert found.verdict == "note" and "version" in found.message


def machine(**changes: Any) -> dict[str, Any]:
    return {"machine": MachineFacts(**{"id": "box-1", "cpu": "Invented CPU 3000", "cores": 8, **changes})}


@pytest.mark.parametrize(
    ("first", "second", "verdict", "said"),
    [
        ({"gpus": ("A",)}, {"gpus": ("A", "A")}, "invalid", "GPUs of the machine A and A, A"),
        ({"cpu": "X"}, {"cpu": "Y"}, "invalid", "CPU X and Y"),
        ({"memory_bytes": 64 << 30}, {"memory_bytes": 32 << 30}, "invalid", "memory 32.0 and 64.0 GiB"),
        ({"memory_bytes": 1000}, {"memory_bytes": 990}, "ok", ""),  # a kernel's own share
        ({"cores": None}, {"cores": 8}, "ok", ""),
        ({"python": "3.11.1"}, {"python": "3.12.0"}, "ok", ""),
    ],
)
def test_one_machine_id_is_one_machine(
    run: Run, first: dict[str, Any], second: dict[str, Any], verdict: str, said: str
) -> None:
    found = check([run(**machine(**first)), run(round_index=2, **machine(**second))], "SAME_ENGINE")
    assert found.verdict == verdict and said in found.message


@pytest.mark.parametrize(
    ("kv_tokens", "verdict"), [((10_000, 9_800), "ok"), ((10_000, 8_000), "doubt"), ((10_000, None), "ok")]
)
def test_a_setting_that_an_engine_derives_may_differ_a_little(
    run: Run, kv_tokens: tuple[int | None, ...], verdict: str
) -> None:
    runs = [run(round_index=r, endpoint__settings={"kv_tokens": n}) for r, n in enumerate(kv_tokens, 1)]
    assert check(runs, "SAME_ENGINE").verdict == verdict


@pytest.mark.parametrize(
    "change",
    [
        {"model__kv_dtype": "fp8"},
        {"endpoint__env": {"ATTENTION": "other"}},
        {"endpoint__gpus": 2},
        {"endpoint__launch": "attach"},
    ],
)
def test_what_changes_between_rounds_makes_it_another_engine(run: Run, change: dict[str, Any]) -> None:
    same = {"endpoint__env": {"ATTENTION": "one"}, "endpoint__launch_line": ("serve",)}
    assert check([run(**same), run(round_index=2, **same)], "SAME_ENGINE").verdict == "ok"
    found = check([run(**same), run(round_index=2, **{**same, **change})], "SAME_ENGINE")
    assert found.verdict == "invalid", found.message


def test_a_switch_is_not_a_number(run: Run) -> None:
    runs = [run(round_index=r, endpoint__settings={"prefix_cache": on}) for r, on in ((1, True), (2, False))]
    found = check(runs, "SAME_ENGINE")
    assert found.verdict == "doubt" and "prefix_cache true and false" in found.message
