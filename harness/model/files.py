"""The files of a model's folder: which are its weights, and one line for each that is missing or odd."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from harness.errors import HarnessError
from harness.visible import visible

JSON_LIMIT = 256 << 20  # bytes; a tokenizer.json of 256,000 tokens has about 35 MB
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "consolidated*.pth")


def read_object(path: Path, why: str) -> dict[str, Any]:
    """The JSON object in a file; `why`: what it is needed for. Raises HarnessError."""
    require(path, why)
    try:
        if path.stat().st_size > JSON_LIMIT:
            raise HarnessError(f"{path}: {path.stat().st_size} bytes; no such file of a model is so large.")
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else visible(str(error))
        raise HarnessError(f"{path}: cannot be read: {reason}.") from None
    if not isinstance(value, dict):
        raise HarnessError(f"{path}: not a JSON object.")
    return value


def write_json_file(path: Path, value: object) -> None:
    """JSON in UTF-8 with \\n line ends on every system, so that digests agree."""
    path.write_bytes((json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode())


def require(path: Path, why: str) -> None:
    """Raises HarnessError if the file is not there; a link that leads nowhere is named as one."""
    if path.is_file():
        return
    if path.is_symlink():
        raise HarnessError(
            f"{path}: a link to {visible(str(path.readlink()))}, which is not there: the download was not finished, or "
            "its files (blobs) were deleted; download the model again."
        )
    if path.exists():
        raise HarnessError(f"{path}: not a file; {why}.")
    raise HarnessError(f"{path.parent}: no {path.name}; {why}.")


def shards_of(folder: Path) -> list[Path]:
    """The checkpoint's safetensors files: those in the index, else model.safetensors, else all of them.

    Some folders have the same weights twice (consolidated.safetensors): with both, the parameter count, and with it the
    roofline, would be doubled. Raises HarnessError."""
    index, single = folder / INDEX, folder / SINGLE
    if index.is_file() or index.is_symlink():
        names = _indexed(index)
        for name in names:
            require(folder / name, f"it is one of {len(names)} shards that {INDEX} names; copy it there")
        return [folder / name for name in names]
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise HarnessError(no_weights(folder))
    shards = [single] if single in found else found
    for shard in shards:
        require(shard, "it holds the weights")
    return shards


def _indexed(index: Path) -> list[str]:
    weight_map = read_object(index, "it lists the shards").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise HarnessError(
            f"{index}: no weight_map, so it does not say which file holds which tensor; delete it if it belongs to "
            "another tool, or take the checkpoint's own."
        )
    for name in weight_map.values():
        plain = isinstance(name, str) and name == PurePosixPath(name).name and name not in ("", ".", "..")
        if not plain or "\0" in name or not name.endswith(".safetensors"):
            raise HarnessError(
                f"{index}: names {visible(repr(name), 100)}, which is no *.safetensors file in this folder itself; "
                "put all shards beside the index."
            )
    return sorted(set(weight_map.values()))


def no_weights(folder: Path) -> str:
    """Why a folder has no weights that can be used, and what to do."""
    if (folder / "adapter_config.json").is_file():
        return f"{folder}: an adapter (LoRA) without its base model; merge it into the base and give that folder."
    pickles = sorted(path for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        return (
            f"{folder}: no *.safetensors file, only {pickles[0].name}, a pickle, which is never read: convert it where "
            "you trust it, with transformers: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)."
        )
    return (
        f"{folder}: no *.safetensors file; every engine's weights are made from these: "
        "give the folder of the original checkpoint."
    )


def files_digest(files: Iterable[Path]) -> str:
    """sha256 over each file's name, size and bytes, sorted by name. With the size, two splits of the same bytes get
    different digests."""
    total = hashlib.sha256()
    for path in sorted(files, key=lambda p: p.name):
        total.update(f"{path.name}\0{path.stat().st_size}\0".encode(errors="surrogateescape"))
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                total.update(block)
    return total.hexdigest()
