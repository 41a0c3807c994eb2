"""Names of models: hub ids, folders with odd names, and the hub's own cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.model.names import hub_id
from harness.model.resolve import mountable, resolve
from harness.model.tokenizer import find_tokenizer
from harness.model.variant import read_variant
from tests.model.small import write_small

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("org/name", ("org/name", None)),
        ("org/name@main", ("org/name", "main")),
        ("org/name@refs/pr/7", ("org/name", "refs/pr/7")),
        ("org/name@feature/a@b", ("org/name", "feature/a@b")),
        ("gpt2", ("gpt2", None)),
        ("gpt2@v1", ("gpt2", "v1")),
        ("hf://org/name@v1", ("org/name", "v1")),
        ("https://huggingface.co/org/name/", ("org/name", None)),
        ("https://hf.co/org/name/tree/refs/pr/7", ("org/name", "refs/pr/7")),
        ("org/name@", None),
        ("org/name/file", None),
        ("./org", None),
        ("../name", None),
        ("/org/name", None),
        ("~/name", None),
        ("org//name", None),
        ("my model", None),
        ("C:\\models", None),
        ("", None),
    ],
)
def test_hub_ids(text: str, found: tuple[str, str | None] | None) -> None:
    assert hub_id(text) == found


@pytest.mark.parametrize("name", ["my models/Qwën: 0.5B", "100% [x] {y} $HOME", "-rf", "a\tb\x1b[2J"])
def test_a_folder_by_any_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    write_small(folder)
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    called = folder.name.replace("\t", " ").replace("\x1b", "\\x1b")
    for text in (str(folder), f"{folder}/", f"{folder}/.", ".", str(tmp_path / "link")):
        assert resolve(text, tmp_path).name == called
        assert find_tokenizer(text, tmp_path).is_file()


@pytest.mark.parametrize("name", ["x\0y", "a" * 5000, "~nobody-of-this-name/x"])
def test_a_name_that_no_folder_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(HarnessError, match="no such folder") as refused:
        resolve(name, tmp_path)
    assert len(str(refused.value)) < 400 and str(refused.value).isprintable()


def snapshot(cache: Path) -> Path:
    """A model in the hub's cache: links to files that are named by their content."""
    repo = cache / "models--org--na-me"
    folder = repo / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    write_small(folder)
    (repo / "blobs").mkdir()
    for file in list(folder.iterdir()):
        file.rename(repo / "blobs" / file.name)
        file.symlink_to(f"../../blobs/{file.name}")
    return folder


def test_the_hubs_cache_is_called_by_its_models_name(tmp_path: Path) -> None:
    folder = snapshot(tmp_path / "hub")
    (tmp_path / "linked").symlink_to(folder)
    for path in (folder, tmp_path / "linked", folder.parent.parent):
        found = resolve(str(path), tmp_path)
        assert (found.name, found.revision, found.folder) == ("org/na-me", COMMIT, folder)
    assert read_variant(str(folder), found).name == "org/na-me"


def test_of_several_snapshots_the_one_of_the_main_branch(tmp_path: Path) -> None:
    folder = snapshot(tmp_path)
    (folder.parent / ("f" * 40)).mkdir()
    with pytest.raises(HarnessError, match="has 2 snapshots"):
        resolve(str(folder.parent.parent), tmp_path)
    (folder.parent.parent / "refs").mkdir()
    (folder.parent.parent / "refs" / "main").write_text(COMMIT)
    assert resolve(str(folder.parent.parent), tmp_path).folder == folder


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, name: str) -> None:
    folder = snapshot(tmp_path)
    model = resolve(str(folder), tmp_path)
    (folder / name).resolve().unlink()
    for read in (lambda: resolve(str(folder), tmp_path), lambda: mountable(folder, model.digest, tmp_path / "c")):
        with pytest.raises(HarnessError, match=rf"{name}: a link to \.\./\.\./blobs/{name}, which is not there"):
            read()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"metadata": {}}, "no weight_map"),
        ({"weight_map": []}, "no weight_map"),
        ({"weight_map": {"x": "text/a.safetensors"}}, "names 'text/a.safetensors'"),
        ({"weight_map": {"x": "../a.safetensors"}}, "names '../a.safetensors'"),
        ({"weight_map": {"x": "/etc/passwd"}}, "names '/etc/passwd'"),
        ({"weight_map": {"x": "model.bin"}}, "names 'model.bin'"),
        ({"weight_map": {"x": ["a"]}}, r"names \['a'\]"),
    ],
)
def test_an_index_that_leads_elsewhere(tmp_path: Path, content: object, words: str) -> None:
    write_small(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(HarnessError, match=rf"index\.json: {words}"):
        resolve(str(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["pytorch_model.bin"], "only pytorch_model.bin, a pickle, which is never read: convert it"),
        (["adapter_model.safetensors", "adapter_config.json"], "an adapter .* merge it into the base"),
    ],
)
def test_weights_that_are_none(tmp_path: Path, files: list[str], words: str) -> None:
    write_small(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    if "adapter_config.json" in files:
        (tmp_path / "config.json").unlink()
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(HarnessError, match=words):
        resolve(str(tmp_path), tmp_path)


def test_a_tensor_that_is_in_two_shards_counts_once(tmp_path: Path) -> None:
    write_small(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    assert resolve(str(tmp_path), tmp_path).parameters == 40
