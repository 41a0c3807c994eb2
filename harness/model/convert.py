"""Makes a GGUF file of a checkpoint with an engine's own converter, which gets the model's data and nothing to run."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from harness.environment import OFFLINE, without_secrets
from harness.errors import HarnessError
from harness.model.model import Model
from harness.model.own_code import as_fast_tokenizer, data_only, declares_code, needs_code_to_tokenize
from harness.visible import visible

OUT_TYPE = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}  # ours -> the converter's
# What its transformers says of a tokenizer class that a later transformers wrote.
_NO_CLASS = re.compile(r"Tokenizer class \w+ does not exist")
TRUST = "trust_remote_code = true"


@dataclass(frozen=True, slots=True)
class Converter:
    """llama.cpp's convert_hf_to_gguf.py and a Python that has torch and transformers to run it with. `secrets`: names
    of environment variables that it must not see. `trusted`: whether it may run code of the model's folder."""

    python: Path
    script: Path
    secrets: tuple[str, ...] = ()
    trusted: bool = False


def check_code(model: Model, trusted: bool) -> None:
    """Raises HarnessError if the conversion would need code of the model's folder that nobody asked to run."""
    file = None if trusted else needs_code_to_tokenize(model.folder)
    if file is not None:
        raise HarnessError(
            f"{model.folder / file}: names code of its own for its tokenizer (auto_map), which the conversion to GGUF "
            f"would run; if you trust it, say {TRUST} in the candidate's table, or put a GGUF file into the folder."
        )


def convert(model: Model, done: Path, converter: Converter, mismatch: Callable[[Path, str], str | None]) -> None:
    """Converts into a temporary file, then moves it to `done`: a killed run leaves no file that looks complete.

    The converter loads tokenizers with `trust_remote_code`, whatever the model. So it gets a copy of the folder without
    any code, an environment without secrets, and no hub: otherwise a model's Python files would run here with the
    user's tokens. Raises HarnessError."""
    out_type = OUT_TYPE[model.weight_dtype]
    with tempfile.TemporaryDirectory(dir=done.parent, prefix="part-") as folder:
        part, source = Path(folder) / "made.gguf", Path(folder) / _folder_name(model.name)
        source.mkdir()
        data_only(model.folder, source, converter.trusted)
        run = _run(converter, source, part, out_type)
        if run.returncode and _NO_CLASS.search(run.stderr) and not converter.trusted and as_fast_tokenizer(source):
            run = _run(converter, source, part, out_type)
        if run.returncode or not part.is_file():
            raise HarnessError(_why_failed(model, run.stderr, out_type, converter.trusted))
        if reason := mismatch(part, model.weight_dtype):
            raise HarnessError(f"{model.name}: the converted GGUF {reason}, wanted {out_type}.")
        part.replace(done)


def _run(converter: Converter, source: Path, part: Path, out_type: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [converter.python, converter.script, source, "--outtype", out_type, "--outfile", part]
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,  # transformers asks there whether to run a model's code
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            cwd=part.parent,
            env=_environment(part.parent, converter.secrets),
            check=False,
        )
    except OSError as error:
        raise HarnessError(f"{source.name}: the GGUF converter cannot be started: {error}.") from None


def _environment(folder: Path, secrets: Collection[str]) -> dict[str, str]:
    """No secrets, no hub, and not the hub's folder, in which a token may lie. The script's own folder stays on the
    path: its modules are there."""
    kept = {n: v for n, v in without_secrets(os.environ, secrets).items() if n != "PYTHONSAFEPATH"}
    return {**kept, **OFFLINE, "HF_HOME": str(folder / "hub"), "DO_NOT_TRACK": "1"}


def _folder_name(name: str) -> str:
    """The converter writes the folder's name into the file."""
    last = re.sub(r"[^A-Za-z0-9._-]+", "-", name.rsplit("/", 1)[-1]).strip(".-")
    return last[:80] or "model"


def _why_failed(model: Model, stderr: str, out_type: str, trusted: bool) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    why = visible(lines[-1], 300) if lines else "no message"
    code = declares_code(model.folder) if not trusted else ()
    hint = f"; its own code ({code[0]}: auto_map) was not run, {TRUST} in the candidate's table runs it" if code else ""
    return f"{model.name}: the conversion to GGUF failed: {why}{hint}; put a {out_type} GGUF file into {model.folder}."
