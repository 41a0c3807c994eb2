"""What of a model a container is given."""

import os
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.model.resolve import mountable


def snapshot(folder: Path) -> Path:
    """As the hub's cache lays it out: links to files beside the folder."""
    blobs, model = folder / "blobs", folder / "snapshots" / "1"
    blobs.mkdir()
    model.mkdir(parents=True)
    (blobs / "a").write_text("{}")
    (model / "config.json").symlink_to("../../blobs/a")
    return model


def test_links_that_lead_out_become_files(tmp_path: Path) -> None:
    folder = mountable(snapshot(tmp_path), "digest", tmp_path / "cache")
    file = folder / "config.json"
    assert file.read_text() == "{}" and not file.is_symlink()
    assert mountable(tmp_path / "snapshots" / "1", "digest", tmp_path / "cache") == folder


def test_a_folder_of_files_is_itself(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    tmp_path.chmod(0o755)
    assert mountable(tmp_path, "digest", tmp_path / "cache") == tmp_path.resolve()


def test_what_only_its_owner_can_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    file = tmp_path / "config.json"
    file.write_text("{}")
    file.chmod(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HarnessError, match="chmod"):
        mountable(tmp_path, "digest", tmp_path / "cache")
