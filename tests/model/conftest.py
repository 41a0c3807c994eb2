from pathlib import Path

import pytest

from tests.model.small import write_small


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model's folder."""
    path = tmp_path / "small"
    path.mkdir()
    write_small(path)
    return path
