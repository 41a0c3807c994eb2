"""A model: a folder, a digest, and the ids that a prompt may contain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.model.checkpoint import Tensor, tensors_of
from harness.model.config import CONTEXT, Config, read_config, whole_number
from harness.model.files import files_digest, no_weights, read_object, require, shards_of
from harness.model.precision import precision_of
from harness.model.tokenizer_file import how_to_make, plain_ids
from harness.model.work import Work, cache_values, embedding_rows, work_of
from harness.records.manifest import ModelFacts
from harness.visible import visible


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
    cache_values: int | None  # numbers in a KV cache of every token at every layer, for one token; None: not known

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
    if not (folder / "config.json").exists() and (folder / "adapter_config.json").is_file():
        raise HarnessError(no_weights(folder))
    config = read_config(folder)
    shards = shards_of(folder)
    tokenizer = folder / "tokenizer.json"
    require(tokenizer, how_to_make(folder))
    tensors = tensors_of(shards)
    vocabulary = plain_ids(tokenizer, _vocab_size(config, tensors))
    return Model(
        name=visible(name, None),
        revision=revision,
        digest=files_digest([folder / "config.json", *shards, tokenizer]),
        folder=folder,
        vocabulary=vocabulary,
        vocab_size=_vocab_size(config, tensors) or max(vocabulary) + 1,
        context_tokens=_context(folder, config),
        parameters=sum(math.prod(tensor.shape) for tensor in tensors),
        weight_dtype=_plain_dtype(folder, config, tensors),
        architecture=config.architecture,
        license=config.license or _card_license(folder / "README.md"),
        work=work_of(config, tensors),
        cache_values=cache_values(config, tensors),
    )


def _vocab_size(config: Config, tensors: list[Tensor]) -> int | None:
    """Rows of the embedding: an id beyond them would end the engine. Without the key, the tensor tells."""
    sizes = [size for size in (config.number(("vocab_size",)), embedding_rows(tensors)) if size is not None]
    return min(sizes, default=None)


def _context(folder: Path, config: Config) -> int:
    """The most tokens of a prompt and its answer. Raises HarnessError if no file says it."""
    if (found := config.number(CONTEXT)) is not None:
        return found
    file = folder / "tokenizer_config.json"
    stated = read_object(file, "").get("model_max_length") if file.is_file() else None
    if (size := whole_number(stated)) is not None:
        return size
    given = next((name for name in CONTEXT if name in config.text), None)
    odd = f"{given} is {visible(repr(config.text[given]), 60)}" if given else f"no {CONTEXT[0]}"
    place = f"into its {config.part}" if config.part else "into it"
    raise HarnessError(
        f"{folder / 'config.json'}: {odd}, so its context is not known (a key that is left out has the default of the "
        f'model\'s class); add "{CONTEXT[0]}": N {place}.'
    )


def _plain_dtype(folder: Path, config: Config, tensors: list[Tensor]) -> str:
    """The dtype of the weights. Raises HarnessError for a quantised checkpoint, which only a candidate may have."""
    found = precision_of(folder, config, tensors)
    if not found.plain:
        what = f"quantised weights ({found.dtype})" if found.method else f"{found.dtype} weights"
        raise HarnessError(
            f"{folder}: {what}; a comparison's model has bfloat16, float16 or float32 weights, not quantised "
            "ones: give the original checkpoint, and name this one as `model` of a [[candidate]]."
        )
    return found.dtype


def _card_license(card: Path) -> str | None:
    """`license:` of the model card's front matter."""
    if not card.is_file():
        return None
    for line in card.read_text(encoding="utf-8", errors="replace").splitlines()[1:40]:
        if line.startswith("license:"):
            return visible(line.removeprefix("license:").strip(), 80) or None
        if line.startswith("---"):
            break
    return None
