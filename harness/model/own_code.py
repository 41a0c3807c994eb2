"""Code that a model's folder brings with it: where it is declared, and a copy of the folder without it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.model.files import read_object, shards_of

# Files in which a folder names classes of its own (`auto_map`).
_DECLARING = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
# What a converter reads beside the weights. No *.py, and no pickles (*.bin, *.pt, *.pkl), which are code as well.
_DATA = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".md")
# Names of tokenizer classes that transformers 5 writes and 4 does not know: all of them read tokenizer.json.
_NEW_TOKENIZERS = {"TokenizersBackend", "PythonBackend", "SentencePieceBackend", "TokenizersBackendFast"}


def declares_code(folder: Path) -> tuple[str, ...]:
    """The files that name code of the folder, or of another repository, to be run with the model."""
    return tuple(name for name in _DECLARING if _auto_map(folder / name))


def needs_code_to_tokenize(folder: Path) -> str | None:
    """The file that names a tokenizer's own code; None if there is none."""
    for name in ("tokenizer_config.json", "config.json"):
        named = _auto_map(folder / name)
        if named and (name == "tokenizer_config.json" or "AutoTokenizer" in named):
            return name
    return None


def _auto_map(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return read_object(path, "").get("auto_map")
    except HarnessError:
        return None


def data_only(folder: Path, to: Path, trusted: bool = False) -> None:
    """Fills the empty folder `to` with links to the data of a model's folder: configs, tokenizer, safetensors. Configs
    are copies that name no code and that transformers 4 can read. `trusted`: with its code. Raises HarnessError."""
    shards = shards_of(folder)
    for path in sorted(folder.iterdir()):
        wanted = path in shards or (path.suffix.lower() in _DATA) or (trusted and path.suffix == ".py")
        if not wanted or not path.is_file():
            continue
        if path.name in (*_DECLARING, "generation_config.json"):
            text = json.dumps(_rewritten(path, trusted), ensure_ascii=False, indent=1)
            (to / path.name).write_text(text, encoding="utf-8")
        else:
            _link(path.resolve(), to / path.name)


def _rewritten(path: Path, trusted: bool) -> dict[str, Any]:
    found = read_object(path, "")
    if not trusted:
        found = _without_code(found)
    if path.name == "tokenizer_config.json":
        return _old_tokenizer_config(found)
    return _old_config(found) if path.name == "config.json" else found


def _without_code(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_code(one) for key, one in value.items() if key not in ("auto_map", "custom_pipelines")}
    return [_without_code(one) for one in value] if isinstance(value, list) else value


def _old_tokenizer_config(found: dict[str, Any]) -> dict[str, Any]:
    """What transformers 5 writes, in the keys of transformers 4, which the converter runs with."""
    if found.get("tokenizer_class") in _NEW_TOKENIZERS:
        found = {**found, "tokenizer_class": "PreTrainedTokenizerFast"}
    extra = found.get("extra_special_tokens")
    if isinstance(extra, list):
        found = {key: value for key, value in found.items() if key != "extra_special_tokens"}
        found.setdefault("additional_special_tokens", extra)
    return found


def as_fast_tokenizer(folder: Path) -> bool:
    """Names the class that reads nothing but tokenizer.json in a copy made by `data_only`; False without that file."""
    path = folder / "tokenizer_config.json"
    if not path.is_file() or not (folder / "tokenizer.json").is_file():
        return False
    found = {**read_object(path, ""), "tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    return True


def _old_config(found: dict[str, Any]) -> dict[str, Any]:
    """The same for config.json: the base of the rotary embedding under its old keys too, or a class of transformers 4
    fills in its own default, another model."""
    nested = {key: _old_config(value) for key, value in found.items() if key.endswith("_config") and _is_object(value)}
    found = {**found, **nested}
    rope = found.get("rope_parameters")
    if not isinstance(rope, Mapping):
        return found
    full, sliding = rope.get("full_attention", rope), rope.get("sliding_attention")
    if isinstance(full, Mapping) and "rope_theta" in full:
        found.setdefault("rope_theta", full["rope_theta"])
    if isinstance(full, Mapping) and full.get("rope_type", "default") != "default":
        found.setdefault("rope_scaling", {key: value for key, value in full.items() if key != "rope_theta"})
    if isinstance(sliding, Mapping) and "rope_theta" in sliding:
        found.setdefault("rope_local_base_freq", sliding["rope_theta"])
    return found


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _link(file: Path, to: Path) -> None:
    """A link that stays valid in a container too where it can; a copy where the disk is another one."""
    try:
        to.symlink_to(file)
    except OSError:
        try:
            os.link(file, to)
        except OSError:
            shutil.copy2(file, to)
