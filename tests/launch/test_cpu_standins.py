"""What stands in for torchvision's compiled part in SGLang's environment, beside either build of torch."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

STANDINS = Path(__file__).parents[2] / "engines" / "sglang_cpu" / "cpu_standins.py"


@pytest.mark.parametrize(
    ("cuda", "defined"),
    [(None, ["torchvision::nms", "torchvision::qnms"]), ("13.0", [])],
    ids=["CPU build", "ordinary build"],
)
def test_operators_are_declared_only_where_nobody_else_does(
    cuda: str | None, defined: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the ordinary torch, torchvision's own part loads and declares them: a second time ends the process."""
    found: list[str] = []
    torch = ModuleType("torch")
    vars(torch).update(
        version=SimpleNamespace(cuda=cuda),
        library=SimpleNamespace(define=lambda name, schema: found.append(name)),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    spec = importlib.util.spec_from_file_location("cpu_standins", STANDINS)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (finder,) = (one for one in sys.meta_path if type(one).__name__ == "BeforeTorchvision")
    finder.find_spec("json", None)
    assert found == [] and finder in sys.meta_path
    finder.find_spec("torchvision", None)
    assert found == defined and finder not in sys.meta_path
