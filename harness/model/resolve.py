"""Finds the model that the user names: `tiny`, a folder, or a hub id with an optional revision."""

from __future__ import annotations

import shutil
from pathlib import Path

from filelock import FileLock

from harness.errors import HarnessError
from harness.model.hub import download
from harness.model.model import Model, read_model
from harness.model.tiny import DIGEST, make_tiny
from harness.model.weights import Converter, mountable, weights
from harness.paths import expanded

__all__ = ["Converter", "Model", "mountable", "resolve", "weights"]


def resolve(name: str, cache: Path) -> Model:
    """The model called `name`: "tiny" (made under `cache` on first use), a local folder in the Hugging Face layout, or
    organisation/name[@revision] on the hub. Raises HarnessError."""
    if name == "tiny":
        return _tiny(cache)
    path = expanded(name)
    if path.is_dir():
        return read_model(path.resolve(), path.resolve().name)
    if path.is_file():
        raise HarnessError(
            f"{name}: a file; give the folder with the checkpoint's safetensors, config.json and "
            "tokenizer.json (a GGUF file in that folder is used too)."
        )
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise HarnessError(
            f"{name}: no such folder. Give 'tiny', a local folder or a hub id (organisation/name[@revision])."
        )
    repo, _, revision = name.partition("@")
    folder, commit = download(repo, revision or None)
    return read_model(folder, repo, commit)


def _tiny(cache: Path) -> Model:
    """Makes the model in a temporary folder and renames it, so that a killed run leaves nothing that looks complete;
    the lock keeps a second process from making it at the same time."""
    folder = cache.resolve() / "models" / f"tiny-{DIGEST[:12]}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                part = folder.with_name(f"{folder.name}.part")
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
                make_tiny(part)
                part.rename(folder)
    model = read_model(folder, "tiny")
    if model.digest != DIGEST:  # runs on other machines would have another model
        raise HarnessError(
            f"{folder}: 'tiny' has other bytes here (digest {model.digest[:12]}, expected {DIGEST[:12]}); delete "
            "this folder and try again; if that does not help, report it and use MODEL=FOLDER."
        )
    return model
