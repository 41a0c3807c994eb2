"""vLLM on the CPU as most people get it: from the package index alone, with the ordinary torch.

`.ci/run` installs it so, before anything is measured; test_real_engines.py looks at what was measured with it. Its
container image, and the other engines, are made with the machine's own pip settings."""

import json

import pytest

import engines
from harness.adapter import Venv
from harness.launch.install import MARK, environment_folder, is_installed
from harness.paths import cache_folder
from tests.parts import missing

VLLM = engines.load()["vllm"]


@pytest.mark.slow
def test_the_vllm_that_is_measured_has_the_torch_of_the_package_index() -> None:
    cache, recipe = cache_folder(), VLLM.native.install
    if not is_installed(VLLM, "cpu", VLLM.version, cache):
        missing("vLLM is not installed; make compare installs it")
    packages = json.loads((environment_folder(VLLM, "cpu", VLLM.version, cache) / MARK).read_text())["packages"]
    found = [package for package in packages if package.startswith("torch")]
    assert isinstance(recipe, Venv)
    if found == [f"{recipe.requirements[0]}+cpu"]:
        pytest.skip(
            "vLLM was installed before with the CPU build of torch; .ci/run from nothing takes the ordinary one"
        )
    assert found == [recipe.requirements[0]] == ["torch==2.13.0"]


def test_the_engines_of_one_torch_ask_for_the_same_parts_of_it() -> None:
    """The ordinary torch requires one version of triton and of CUDA's libraries, the CPU build none: a list with
    another one installs where pip finds the CPU build, and nowhere else."""
    known = {name: e.native.install for name, e in engines.load().items()}
    lists = {n: r for n, r in known.items() if isinstance(r, Venv) and "torch==2.13.0" in r.requirements}
    assert {"vllm", "sglang", "transformers"} <= set(lists)
    for name, recipe in lists.items():
        assert {word for word in recipe.requirements if word.startswith("triton==")} <= {"triton==3.7.1"}, name
        assert recipe.constraints == lists["vllm"].constraints, name
