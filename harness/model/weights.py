"""The file or folder of weights for an engine; makes sure that a GGUF has the checkpoint's own precision."""

from __future__ import annotations

import math
import os
import shutil
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from filelock import FileLock

from harness.errors import HarnessError
from harness.model.convert import OUT_TYPE, Converter, check_code, convert
from harness.model.files import require
from harness.model.gguf_file import BadGguf, read_gguf
from harness.model.model import Model

_EXACT_SHARE = 16  # matrices in float32, which hold 16-bit values exactly, may be one 16th of all values


def weights(
    model: Model,
    kind: Literal["safetensors", "gguf"],
    cache: Path,
    converter: Callable[[], Converter] | None,
    trusted: bool = False,
) -> Path:
    """The folder with the safetensors, or a GGUF file of the same weights in the same precision.

    A GGUF in the model's folder is used, else one is converted once and kept under the model's digest; `converter` is
    called only then, because it may have to be installed. `trusted`: the conversion may run code of the model's
    folder; its result is kept apart. Raises HarnessError if the GGUF in the folder has another precision, if the
    conversion would need code that is not trusted, or if it fails."""
    if there := weights_there(model, kind, cache, trusted):
        return there
    done = _converted(model, cache, trusted)
    if not done.is_file():
        done.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{done}.lock"):
            if not done.is_file():  # another process may have made it meanwhile
                _convert(model, done, converter)
    return done


def weights_there(
    model: Model, kind: Literal["safetensors", "gguf"], cache: Path, trusted: bool = False
) -> Path | None:
    """The same if nothing has to be converted; None if a conversion is needed and possible, as far as is known without
    trying. Raises HarnessError if it is not: nothing need be installed to say so."""
    if kind == "safetensors":
        return model.folder
    if beside := _beside(model):
        return beside
    done = _converted(model, cache, trusted)
    if done.is_file():
        return done
    check_code(model, trusted)
    return None


def _converted(model: Model, cache: Path, trusted: bool) -> Path:
    made = f"{model.digest}-{OUT_TYPE[model.weight_dtype]}{'-own-code' if trusted else ''}.gguf"
    return cache / "models" / "gguf" / made


def _beside(model: Model) -> Path | None:
    """The GGUF in the model's folder; None if there is none. One with another precision is an error, because whoever
    put it there expects it to be used."""
    files = sorted(model.folder.glob("*.gguf"))
    reasons: dict[Path, str] = {}
    for path in files:
        reason = mismatch(path, model.weight_dtype)
        if reason is None:
            return path
        reasons[path] = reason
    for path, reason in reasons.items():
        raise HarnessError(
            f"{path}: {reason}, but the checkpoint is {model.weight_dtype}; engines are never compared with different "
            f"precision: replace it with a {OUT_TYPE[model.weight_dtype]} file or remove it from the folder."
        )
    return None


def mismatch(path: Path, dtype: str) -> str | None:
    """Why this GGUF is not in `dtype`; None if it is. Matrices must have that type; vectors (norms, biases) and a few
    small matrices (an expert router) may also be float32, which represents their values exactly."""
    try:
        tensors = read_gguf(path).tensors
    except BadGguf as problem:
        return str(problem)
    wanted = OUT_TYPE[dtype].upper()
    others: Counter[str] = Counter()
    values: Counter[str] = Counter()
    for tensor in tensors:
        values[tensor.dtype] += math.prod(tensor.shape)
        vector = sum(1 for n in tensor.shape if n > 1) <= 1
        if tensor.dtype != wanted and not (vector and tensor.dtype == "F32"):
            others[tensor.dtype] += 1
    if not tensors:
        return "holds no tensors"
    if values["F32"] * _EXACT_SHARE <= values.total():
        del others["F32"]
    if not others:
        return None
    kind, count = others.most_common(1)[0]
    verb = "holds" if kind in ("F32", "F16", "BF16") else "is quantised: it holds"
    return f"{verb} {count} {kind} tensors"


def _convert(model: Model, done: Path, get_converter: Callable[[], Converter] | None) -> None:
    if get_converter is None:
        raise HarnessError(
            f"{model.name}: no GGUF in its folder and no converter here; put a "
            f"{OUT_TYPE[model.weight_dtype]} GGUF file into {model.folder}."
        )
    convert(model, done, get_converter(), mismatch)


def mountable(path: Path, digest: str, cache: Path) -> Path:
    """`path` in a form that can be mounted into a container: the hub's cache has symbolic links to files outside the
    folder, which are broken inside a container, so these become hard links, or copies if the cache is on another disk.
    Raises HarnessError if an unprivileged engine could not read the files."""
    _check_readable(path)
    if path.is_file() or not any(file.is_symlink() for file in path.iterdir()):
        return path.resolve()
    folder = cache.resolve() / "models" / "linked" / digest
    with FileLock(f"{_parent(folder)}.lock"):
        if not folder.is_dir():
            part = folder.with_name(f"{digest}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            for file in path.iterdir():
                _link(file.resolve(), part / file.name)
            part.rename(folder)
    return folder


def _check_readable(path: Path) -> None:
    files = [path] if path.is_file() else [path, *path.iterdir()]
    for file in files:
        if file.is_symlink():
            require(file, "it is a part of the model")
        needed = stat.S_IROTH | (stat.S_IXOTH if file.is_dir() else 0)
        mine = file.stat().st_uid == 0 and os.geteuid() == 0  # then the container's root is the owner
        if file.stat().st_mode & needed != needed and not mine:
            raise HarnessError(f"{file}: only its owner can read it, not a container: chmod -R o+rX {path}")


def _parent(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def _link(file: Path, to: Path) -> None:
    if file.is_dir():
        return  # no engine reads subfolders
    try:
        os.link(file, to)
    except OSError:
        shutil.copy2(file, to)
