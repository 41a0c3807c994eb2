"""The file or folder of weights for an engine; makes sure that a GGUF has the checkpoint's own precision."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gguf
from filelock import FileLock

from harness.errors import HarnessError
from harness.model.model import Model

OUT_TYPE = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}  # ours -> the converter's


@dataclass(frozen=True, slots=True)
class Converter:
    """llama.cpp's convert_hf_to_gguf.py and a Python that has torch and transformers to run it with."""

    python: Path
    script: Path


def weights(
    model: Model, kind: Literal["safetensors", "gguf"], cache: Path, converter: Callable[[], Converter] | None
) -> Path:
    """The folder with the safetensors, or a GGUF file of the same weights in the same precision.

    A GGUF in the model's folder is used, else one is converted once and kept under the model's digest; `converter` is
    called only then, because it may have to be installed. Raises HarnessError if the GGUF in the folder has another
    precision, or if the conversion fails."""
    if kind == "safetensors":
        return model.folder
    if beside := _beside(model):
        return beside
    done = cache / "models" / "gguf" / f"{model.digest}-{OUT_TYPE[model.weight_dtype]}.gguf"
    if not done.is_file():
        done.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{done}.lock"):
            if not done.is_file():  # another process may have made it meanwhile
                _convert(model, done, converter)
    return done


def _beside(model: Model) -> Path | None:
    """The GGUF in the model's folder; None if there is none. One with another precision is an error, because whoever
    put it there expects it to be used."""
    files = sorted(model.folder.glob("*.gguf"))
    reasons = {path: mismatch(path, model.weight_dtype) for path in files}
    for path, reason in reasons.items():
        if reason is None:
            return path
    for path, reason in reasons.items():
        raise HarnessError(
            f"{path}: {reason}, but the checkpoint is {model.weight_dtype}; engines are never compared with different "
            f"precision: replace it with a {OUT_TYPE[model.weight_dtype]} file or remove it from the folder."
        )
    return None


def mismatch(path: Path, dtype: str) -> str | None:
    """Why this GGUF is not in `dtype`; None if it is. Matrices must have that type; vectors (norms, biases) may also be
    float32, which represents their values exactly."""
    try:
        tensors = gguf.GGUFReader(path).tensors
    except (OSError, ValueError, IndexError, KeyError) as error:
        return f"not a readable GGUF file ({error})"
    wanted = OUT_TYPE[dtype].upper()
    others: Counter[str] = Counter()
    for tensor in tensors:
        name = tensor.tensor_type.name
        vector = sum(1 for n in tensor.shape if n > 1) <= 1
        if name != wanted and not (vector and name == "F32"):
            others[name] += 1
    if not tensors:
        return "holds no tensors"
    if not others:
        return None
    kind, count = others.most_common(1)[0]
    verb = "holds" if kind in ("F32", "F16", "BF16") else "is quantised: it holds"
    return f"{verb} {count} {kind} tensors"


def _convert(model: Model, done: Path, get_converter: Callable[[], Converter] | None) -> None:
    """Converts into a temporary file, then moves it to `done`: a killed run leaves no file that looks complete."""
    if get_converter is None:
        raise HarnessError(
            f"{model.name}: no GGUF in its folder and no converter here; put a "
            f"{OUT_TYPE[model.weight_dtype]} GGUF file into {model.folder}."
        )
    converter = get_converter()
    out_type = OUT_TYPE[model.weight_dtype]
    with tempfile.TemporaryDirectory(dir=done.parent, prefix="part-") as folder:
        part = Path(folder) / "model.gguf"
        command: list[str | Path] = [
            converter.python,
            converter.script,
            model.folder,
            "--outtype",
            out_type,
            "--outfile",
            part,
        ]
        # offline: the converter must read this folder, not look the model up elsewhere
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        try:
            run = subprocess.run(
                command, capture_output=True, encoding="utf-8", errors="replace", env=environment, check=False
            )
        except OSError as error:
            raise HarnessError(f"{model.name}: the GGUF converter cannot be started: {error}.") from None
        if run.returncode or not part.is_file():
            lines = [line.strip() for line in run.stderr.splitlines() if line.strip()]
            raise HarnessError(
                f"{model.name}: the conversion to GGUF failed: {lines[-1] if lines else 'no message'}"
                f"; put a {out_type} GGUF file into {model.folder}."
            )
        if reason := mismatch(part, model.weight_dtype):
            raise HarnessError(f"{model.name}: the converted GGUF {reason}, wanted {out_type}.")
        part.replace(done)


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
