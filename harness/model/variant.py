"""Other weights of a comparison's model, which a candidate brings itself: quantised, or in another precision."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gguf

from harness.errors import HarnessError
from harness.model.hub import download
from harness.model.model import Model, files_digest, quantization_of, read_object, shards_of, stored_dtype
from harness.model.work import Tensor, decode_bytes, tensors_of, work_of
from harness.paths import expanded


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
    path = expanded(name)
    if path.is_file():
        return _gguf(path.resolve(), model)
    if path.is_dir():
        files = sorted(path.glob("*.gguf"))
        if files and not list(path.glob("*.safetensors")):
            if len(files) > 1:
                raise HarnessError(f"{name}: has {len(files)} GGUF files; name one of them.")
            return _gguf(files[0].resolve(), model)
        return _checkpoint(path.resolve(), path.resolve().name, model)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise HarnessError(f"{name}: no such file or folder. Give a GGUF file, a folder or a hub id.")
    repo, _, revision = name.partition("@")
    folder, _ = download(repo, revision or None)
    return _checkpoint(folder, repo, model)


def _gguf(path: Path, model: Model) -> Variant:
    try:
        reader = gguf.GGUFReader(path)
        tokens = reader.fields.get("tokenizer.ggml.tokens")
        matrices = [t for t in reader.tensors if sum(1 for n in t.shape if n > 1) > 1]
    except (OSError, ValueError, IndexError, KeyError) as problem:
        raise HarnessError(f"{path}: not a readable GGUF file ({problem}).") from None
    if not matrices:
        raise HarnessError(f"{path}: has no weight matrices.")
    if tokens is not None:
        _same_vocabulary(len(tokens.data), model, path)
    kinds: Counter[str] = Counter()
    for tensor in matrices:
        kinds[tensor.tensor_type.name] += int(tensor.n_elements)
    # Which share of its experts a token uses is not read from a GGUF: with experts, the bytes of a step are not known.
    tensors = [Tensor(t.name, t.tensor_type.name, tuple(map(int, t.shape)), int(t.n_bytes)) for t in reader.tensors]
    return Variant(
        name=path.name,
        path=path,
        kind="gguf",
        digest=_digest(path),
        weight_dtype=_file_type(reader, kinds),
        method=None,
        weight_bytes=sum(tensor.bytes for tensor in tensors),
        decode_bytes=decode_bytes(tensors, None),
    )


def _file_type(reader: gguf.GGUFReader, kinds: Counter[str]) -> str:
    """The file's own label (Q4_K_M mixes types), else the type of most of its weights."""
    field = reader.fields.get("general.file_type")
    most = kinds.most_common(1)[0][0]
    plain = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
    if field is not None:
        try:
            label = gguf.LlamaFileType(int(field.contents())).name
            label = label.removeprefix("MOSTLY_").removeprefix("ALL_")
            if label.startswith(most.split("_")[0]):  # a file that was converted by hand may keep its old label
                return plain.get(label, label)
        except ValueError:
            pass
    return plain.get(most, most)


def _checkpoint(folder: Path, name: str, model: Model) -> Variant:
    config = read_object(folder / "config.json", "it says how the weights are stored")
    text = config.get("text_config", config)
    if isinstance(text.get("vocab_size"), int):
        _same_vocabulary(text["vocab_size"], model, folder)
    shards = shards_of(folder)
    scheme = quantization_of(config)
    dtype = scheme[1] if scheme else stored_dtype(config, text, shards[0])
    files = [folder / "config.json", *shards]
    work = work_of(config, [tensor for shard in shards for tensor in tensors_of(shard)])
    return Variant(
        name=name,
        path=folder,
        kind="safetensors",
        digest=files_digest(files),
        weight_dtype=dtype,
        method=scheme[0] if scheme else None,
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
