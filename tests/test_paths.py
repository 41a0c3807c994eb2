"""The cache folder in every environment that a user, a container or a cluster has."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.model.tokenizer import find_tokenizer
from harness.paths import cache_folder, cache_hint, expanded

NAME = "inference-engine-comparison"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HARNESS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({}, f"home/.cache/{NAME}"),
        ({"HARNESS_CACHE": "", "XDG_CACHE_HOME": ""}, f"home/.cache/{NAME}"),
        ({"XDG_CACHE_HOME": "relative"}, f"home/.cache/{NAME}"),
        ({"XDG_CACHE_HOME": "{tmp}/my [cache]"}, f"my [cache]/{NAME}"),
        ({"XDG_CACHE_HOME": "{tmp}/x", "HARNESS_CACHE": "own"}, "own"),
        ({"HARNESS_CACHE": "~/own"}, "home/own"),
    ],
)
def test_where_the_cache_is(env: dict[str, str], folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value.replace("{tmp}", str(tmp_path)))
    assert cache_folder() == tmp_path / folder and (tmp_path / folder).is_dir()
    assert cache_hint(str(tmp_path / folder / "models" / "x")).startswith("; set HARNESS_CACHE")
    assert cache_hint(str(tmp_path / "results")) == cache_hint(None) == ""


def no_home(path: Path) -> Path:
    if str(path).startswith("~"):
        raise RuntimeError("Could not determine home directory.")
    return path


def test_a_user_without_a_home_folder_is_told_and_needs_none_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(HarnessError, match="set HARNESS_CACHE to a folder"):
        cache_folder()
    assert cache_hint("/x") == "" and expanded("~nobody/x") == Path("~nobody/x")
    (tmp_path / "tokenizer.json").write_text("{}")
    assert find_tokenizer(str(tmp_path)) == tmp_path / "tokenizer.json"


def test_what_cannot_be_the_cache_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file"))
    with pytest.raises(HarnessError, match=r"file: cannot be the cache folder \(File exists\); set HARNESS_CACHE"):
        cache_folder()
