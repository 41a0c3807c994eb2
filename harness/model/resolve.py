"""Finds the model that the user names: `tiny`, a folder, or a hub id with an optional revision."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from filelock import FileLock

from harness.errors import HarnessError
from harness.model.convert import Converter
from harness.model.hub import download
from harness.model.model import Model, read_model
from harness.model.names import MADE, existing, hub_id, snapshot_folder, snapshot_of
from harness.model.packaged import Packaged, damage, make
from harness.model.smollm2 import PACKAGED
from harness.model.tiny import DIGEST, make_tiny
from harness.model.weights import mountable, weights, weights_there
from harness.steps import Say
from harness.visible import visible

__all__ = ["Converter", "Model", "mountable", "resolve", "weights", "weights_there"]


def resolve(name: str, cache: Path, say: Say = lambda text: None, secrets: Collection[str] = ()) -> Model:
    """The model called `name`: one that is made here (under `cache`, on first use), a local folder in the Hugging Face
    layout, or organisation/name[@revision] on the hub. `say` hears of what takes long; `secrets`: names of variables
    that pip must not see. Raises HarnessError."""
    if name == "tiny":
        return _tiny(cache)
    base, _, label = name.partition(":")
    if (packaged := PACKAGED.get(base)) is not None:
        if label:
            raise HarnessError(
                f"{visible(name)}: a comparison's model is {base} itself; name other weights of it as `model` of a "
                "[[candidate]]."
            )
        return _packaged(packaged, cache, say, secrets)
    path = existing(name)
    if path is not None and path.is_dir():
        folder = snapshot_folder(path.resolve())
        found = snapshot_of(folder)
        return read_model(folder, *found) if found else read_model(folder, folder.name or str(folder))
    if path is not None:
        raise HarnessError(
            f"{visible(name)}: a file; give the folder with the checkpoint's safetensors, config.json and "
            "tokenizer.json (a GGUF file in that folder is used too)."
        )
    wanted = hub_id(name)
    if wanted is None:
        raise HarnessError(
            f"{visible(name)}: no such folder. Give {' or '.join(map(repr, MADE))}, a local folder or a hub id "
            "(organisation/name[@revision])."
        )
    repo, revision = wanted
    folder, commit = download(repo, revision)
    return read_model(folder, repo, commit)


def _tiny(cache: Path) -> Model:
    folder = cache.resolve() / "models" / f"tiny-{DIGEST[:12]}"
    _make_once(folder, make_tiny)
    model = read_model(folder, "tiny")
    if model.digest != DIGEST:  # runs on other machines would have another model
        raise HarnessError(
            f"{folder}: 'tiny' has other bytes here (digest {model.digest[:12]}, expected {DIGEST[:12]}); delete "
            "this folder and try again; if that does not help, report it and use MODEL=FOLDER."
        )
    return model


def _packaged(packaged: Packaged, cache: Path, say: Say, secrets: Collection[str]) -> Model:
    folder = packaged.folder(cache)
    log = folder.with_name(f"{folder.name}.log")
    _make_once(folder, lambda part: make(packaged, part, log, say, secrets))
    if found := damage(packaged, folder):
        raise HarnessError(f"{folder}: '{packaged.name}' is damaged ({found}); delete this folder and try again.")
    return read_model(folder, packaged.name)


def _make_once(folder: Path, make: Callable[[Path], None]) -> None:
    """Makes the model in a temporary folder and renames it, so that a killed run leaves nothing that looks complete;
    the lock keeps a second process from making it at the same time."""
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            part = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            make(part)
            part.rename(folder)
