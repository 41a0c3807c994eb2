"""What `import harness` offers, and what it costs."""

import subprocess
import sys

import pytest

import harness


@pytest.mark.parametrize("name", harness.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(harness, name) is not None
    assert name in dir(harness)


def test_nothing_else_is() -> None:
    with pytest.raises(AttributeError, match="no attribute 'measure'"):
        _ = harness.measure


@pytest.mark.live
def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, harness; print(sorted({'numpy', 'pyarrow', 'msgspec', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
