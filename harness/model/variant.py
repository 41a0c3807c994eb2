"""Other weights of a comparison's model, which a candidate brings itself: quantised, or in another precision."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import gguf

from harness.errors import HarnessError
from harness.model.checkpoint import tensors_of
from harness.model.config import read_config
from harness.model.files import files_digest, shards_of
from harness.model.gguf_file import BadGguf, GgufHeader, read_gguf
from harness.model.hub import download
from harness.model.model import Model
from harness.model.names import MADE, existing, hub_id, snapshot_folder, snapshot_of
from harness.model.precision import precision_of
from harness.model.smollm2 import PACKAGED
from harness.model.work import decode_bytes, embedding_rows, work_of
from harness.visible import visible


@dataclass(frozen=True, slots=True)
class Variant:
    """Other weights. `weight_dtype`: their precision, such as "Q8_0", "fp8", "awq, 4 bits" or "bfloat16". `method`: the
    quantisation method in the checkpoint's config; None if it is not quantised, or a GGUF."""

    name: str  # of the file or folder, or the hub id
    path: Path
    kind: Literal["safetensors", "gguf"]
    digest: str
    weight_dtype: str
    method: str | None
    weight_bytes: int  # of all weights
    decode_bytes: int | None  # of those that one decode step reads; None: not known


def read_variant(name: str, model: Model) -> Variant:
    """The weights called `name`: a GGUF file, a folder in the Hugging Face layout, or a hub id with an optional
    @revision. Raises HarnessError if they cannot be read, or belong to another model."""
    base, _, label = name.partition(":")
    if base in MADE:
        return _packaged(name, base, label, model)
    path = existing(name)
    if path is not None and path.is_file():
        return _gguf(path.resolve(), model)
    if path is not None and path.is_dir():
        files = sorted(path.glob("*.gguf"))
        if files and not list(path.glob("*.safetensors")):
            if len(files) > 1:
                raise HarnessError(f"{name}: has {len(files)} GGUF files; name one of them.")
            return _gguf(files[0].resolve(), model)
        folder = snapshot_folder(path.resolve())
        snapshot = snapshot_of(folder)
        return _checkpoint(folder, snapshot[0] if snapshot else folder.name, model)
    wanted = hub_id(name)
    if wanted is None:
        raise HarnessError(
            f"{visible(name)}: no such file or folder. Give a GGUF file, a folder or a hub id (organisation/name)."
        )
    folder, _ = download(*wanted)
    return _checkpoint(folder, wanted[0], model)


def _packaged(name: str, base: str, label: str, model: Model) -> Variant:
    """The other weights of a model that is made here, such as smollm2:Q4_1; they lie in its folder."""
    packaged = PACKAGED.get(base)
    there = f"{base}:{packaged.quantised}" if packaged else ""
    if model.name != base:
        raise HarnessError(f'{visible(name)}: is another model than {model.name}; say model = "{base}" for all.')
    if not label or packaged is None:
        hint = f", or name {there}" if there else ""
        raise HarnessError(f"{visible(name)}: is the comparison's model itself; leave the key out{hint}.")
    if label.casefold() != packaged.quantised.casefold():
        raise HarnessError(f"{visible(name)}: no such weights; there is {there}.")
    return replace(_gguf(model.folder / packaged.quantised_gguf, model), name=there)


def _gguf(path: Path, model: Model) -> Variant:
    try:
        header = read_gguf(path)
    except BadGguf as problem:
        raise HarnessError(f"{path}: {problem}.") from None
    if (parts := header.number("split.count")) is not None and parts > 1:
        raise HarnessError(f"{path}: one of {parts} parts; join them with llama-gguf-split --merge and give that file.")
    matrices = [tensor for tensor in header.tensors if sum(1 for n in tensor.shape if n > 1) > 1]
    if not matrices:
        raise HarnessError(f"{path}: has no weight matrices.")
    if (tokens := header.number("tokenizer.ggml.tokens")) is not None:
        _same_vocabulary(tokens, model, path)
    kinds: Counter[str] = Counter()
    for tensor in matrices:
        kinds[tensor.dtype] += math.prod(tensor.shape)
    # Which share of its experts a token uses is not read from a GGUF: with experts, the bytes of a step are not known.
    return Variant(
        name=visible(path.name, None),
        path=path,
        kind="gguf",
        digest=_digest(path),
        weight_dtype=_file_type(header, kinds),
        method=None,
        weight_bytes=sum(tensor.bytes for tensor in header.tensors),
        decode_bytes=decode_bytes(header.tensors, None),
    )


def _file_type(header: GgufHeader, kinds: Counter[str]) -> str:
    """The file's own label (Q4_K_M mixes types), else the type of most of its weights."""
    stored = header.number("general.file_type")
    most = kinds.most_common(1)[0][0]
    plain = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
    if stored is not None:
        try:
            label = gguf.LlamaFileType(stored).name
            label = label.removeprefix("MOSTLY_").removeprefix("ALL_")
            if label.startswith(most.split("_")[0]):  # a file that was converted by hand may keep its old label
                return plain.get(label, label)
        except ValueError:
            pass
    return plain.get(most, most)


def _checkpoint(folder: Path, name: str, model: Model) -> Variant:
    config = read_config(folder)
    shards = shards_of(folder)
    tensors = tensors_of(shards)
    if (size := config.number(("vocab_size",)) or embedding_rows(tensors)) is not None:
        _same_vocabulary(size, model, folder)
    precision = precision_of(folder, config, tensors)
    work = work_of(config, tensors)
    return Variant(
        name=visible(name, None),
        path=folder,
        kind="safetensors",
        digest=files_digest([folder / "config.json", *shards]),
        weight_dtype=precision.dtype,
        method=precision.method,
        weight_bytes=work.weight_bytes,
        decode_bytes=work.decode_bytes,
    )


def _same_vocabulary(count: int, model: Model, path: Path) -> None:
    if count < max(model.vocabulary) + 1 or abs(count - model.vocab_size) > max(512, model.vocab_size // 50):
        raise HarnessError(
            f"{path}: is another model than {model.name}: its vocabulary has {count} tokens, not {model.vocab_size}."
        )


def _digest(path: Path) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            whole.update(block)
    return whole.hexdigest()
