"""A model: a folder, a digest, and the ids that a prompt may contain."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from harness.errors import HarnessError
from harness.model.work import Work, tensors_of, work_of
from harness.records.manifest import ModelFacts

_PLAIN = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}  # as safetensors names it -> as configs do
_BITS = ("num_bits", "bits", "w_bit", "weight_bits")  # keys of a quantisation config with the bits of a weight


@dataclass(frozen=True, slots=True)
class Model:
    """One model at one revision."""

    name: str  # shown in charts: "tiny", a hub id, or the folder's name
    revision: str | None  # commit on the hub; None for local ones
    digest: str  # sha256 over config.json, tokenizer.json and the safetensors files
    folder: Path
    vocabulary: tuple[int, ...]  # ids that a random prompt may contain
    vocab_size: int  # rows of the embedding
    context_tokens: int
    parameters: int
    weight_dtype: str  # "bfloat16", "float16" or "float32"
    architecture: str
    license: str | None
    work: Work

    def facts(self) -> ModelFacts:
        """The model's part of the manifest; without paths of this machine."""
        return ModelFacts(
            name=self.name,
            revision=self.revision,
            digest=self.digest,
            architecture=self.architecture,
            parameters=self.parameters,
            weight_dtype=self.weight_dtype,
            context_tokens=self.context_tokens,
            vocabulary=len(self.vocabulary),
            license=self.license,
            weight_bytes=self.work.weight_bytes,
            decode_bytes=self.work.decode_bytes,
            kv_values_per_token=self.work.kv_values_per_token,
            flops_per_token=self.work.flops_per_token,
        )


def read_model(folder: Path, name: str, revision: str | None = None) -> Model:
    """Reads a folder in the Hugging Face layout. Raises HarnessError with the name of what is missing."""
    config = read_object(folder / "config.json", "a model folder needs the checkpoint's config.json")
    shards = shards_of(folder)
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise HarnessError(
            f"{folder}: no tokenizer.json; save it with transformers: "
            "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)."
        )
    text = config.get("text_config", config)
    context = text.get("max_position_embeddings")
    if not isinstance(context, int):
        raise HarnessError(f"{folder / 'config.json'}: no max_position_embeddings: the context is not known.")
    vocabulary = plain_ids(tokenizer, text.get("vocab_size"))
    tensors = [tensor for shard in shards for tensor in tensors_of(shard)]
    return Model(
        name=name,
        revision=revision,
        digest=files_digest([folder / "config.json", *shards, tokenizer]),
        folder=folder,
        vocabulary=vocabulary,
        vocab_size=text["vocab_size"] if isinstance(text.get("vocab_size"), int) else max(vocabulary) + 1,
        context_tokens=context,
        parameters=sum(math.prod(tensor.shape) for tensor in tensors),
        weight_dtype=_plain_dtype(config, text, shards[0]),
        architecture=str((config.get("architectures") or ["unknown"])[0]),
        license=config.get("license") or _card_license(folder / "README.md"),
        work=work_of(config, tensors),
    )


def shards_of(folder: Path) -> list[Path]:
    """The checkpoint's safetensors files: those in the index, else model.safetensors, else all of them.

    Some folders have the same weights twice (consolidated.safetensors): with both, the parameter count, and with it the
    roofline, would be doubled."""
    found = sorted(folder.glob("*.safetensors"))
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        wanted = sorted({folder / name for name in read_object(index, "it lists the shards")["weight_map"].values()})
        if missing := [path.name for path in wanted if not path.is_file()]:
            raise HarnessError(f"{folder}: {missing[0]} is missing, one of {len(wanted)} shards; copy it there.")
        return wanted
    if not found:
        raise HarnessError(
            f"{folder}: no *.safetensors file; every engine's weights are made from these: "
            "give the folder of the original checkpoint."
        )
    return [single] if single in found else found


def read_object(path: Path, why: str) -> dict[str, Any]:
    """The JSON object in a file; `why`: what it is needed for. Raises HarnessError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HarnessError(f"{path.parent}: no {path.name}; {why}.") from None
    except (OSError, ValueError) as error:
        raise HarnessError(f"{path}: cannot be read: {error}.") from None
    if not isinstance(value, dict):
        raise HarnessError(f"{path}: not a JSON object.")
    return value


def files_digest(files: list[Path]) -> str:
    """sha256 over each file's name, size and bytes, sorted by name. With the size, two splits of the same bytes get
    different digests."""
    total = hashlib.sha256()
    for path in sorted(files, key=lambda p: p.name):
        total.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                total.update(block)
    return total.hexdigest()


def stored_dtype(config: dict[str, Any], text: dict[str, Any], shard: Path) -> str:
    """The dtype that config.json declares; the dtype of the first shard's largest tensor if none is declared, or if
    that tensor is not bfloat16, float16 or float32 (8 bits, whatever is declared)."""
    declared = config.get("dtype") or config.get("torch_dtype") or text.get("dtype") or text.get("torch_dtype")
    largest = max(tensors_of(shard), key=lambda tensor: math.prod(tensor.shape), default=None)
    stored = largest.dtype if largest else "F32"
    if declared is None or stored not in _PLAIN:
        declared = _PLAIN.get(stored, stored)
    return str(declared).removeprefix("torch.")


def quantization_of(config: dict[str, Any]) -> tuple[str, str] | None:
    """(the config's name of the method, the same with the bits of a weight); None if the checkpoint is not
    quantised."""
    parts = (config, config.get("text_config") or {})
    found = (part.get(key) for part in parts for key in ("quantization_config", "compression_config"))
    scheme = next((one for one in found if isinstance(one, dict)), None)
    if scheme is None:
        return None
    method = str(scheme.get("quant_method") or scheme.get("quant_algo") or "quantised").lower()
    bits = next((scheme[key] for key in _BITS if isinstance(scheme.get(key), int)), None)
    if method == "compressed-tensors":
        return method, _compressed(scheme)
    return method, f"{method}, {bits} bits" if bits else method


def _compressed(scheme: dict[str, Any]) -> str:
    """For compressed-tensors: the format of its first group of layers."""
    for group in (scheme.get("config_groups") or {}).values():
        weights = (group or {}).get("weights") or {}
        if weights.get("num_bits"):
            kind = "float" if weights.get("type") == "float" else "int"
            return f"compressed-tensors, {kind} {weights['num_bits']} bits"
    return "compressed-tensors"


def _plain_dtype(config: dict[str, Any], text: dict[str, Any], shard: Path) -> str:
    """The dtype of the weights. Raises HarnessError for a quantised checkpoint, which only a candidate may have."""
    name, scheme = stored_dtype(config, text, shard), quantization_of(config)
    if scheme or name not in _PLAIN.values():
        what = f"quantised weights ({scheme[1]})" if scheme else f"{name} weights"
        raise HarnessError(
            f"{shard.parent}: {what}; a comparison's model has bfloat16, float16 or float32 weights, not quantised "
            "ones: give the original checkpoint, and name this one as `model` of a [[candidate]]."
        )
    return name


def plain_ids(path: Path, vocab_size: int | None) -> tuple[int, ...]:
    """The ids of ordinary tokens.

    Left out: added and special tokens (they would end or steer a prompt), ids beyond the embedding, and tokens that are
    empty or a part of a character (their text would not encode back to them)."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise HarnessError(f"{path}: not a tokenizer file ({error}).") from None
    added = set(tokenizer.get_added_tokens_decoder())
    limit = tokenizer.get_vocab_size() if vocab_size is None else vocab_size
    ids = sorted(i for i in tokenizer.get_vocab(with_added_tokens=False).values() if i not in added and i < limit)
    texts = tokenizer.decode_batch([[i] for i in ids], skip_special_tokens=False)
    plain = tuple(i for i, text in zip(ids, texts, strict=True) if text and "\ufffd" not in text)
    if not plain:
        raise HarnessError(f"{path}: no ordinary token, so no prompt can be drawn from it.")
    return plain


def _card_license(card: Path) -> str | None:
    """`license:` of the model card's front matter."""
    if not card.is_file():
        return None
    for line in card.read_text(encoding="utf-8", errors="replace").splitlines()[1:40]:
        if line.startswith("license:"):
            return line.removeprefix("license:").strip() or None
        if line.startswith("---"):
            break
    return None
