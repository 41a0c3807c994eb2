"""What one token costs an engine at least: bytes to read, numbers to keep, multiplications. The bounds of the PLAUSIBLE
check rest on it, so everything here is the least that is needed; what is not known is None."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

HEADER_LIMIT = 100 << 20  # bytes; the safetensors library's own limit for the header
_EMBEDDING = re.compile(r"(embed_tokens|wte|tok_embeddings|word_embeddings|embed_in|token_embd)\.weight$")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output)\.weight$")
_EXPERTS = re.compile(r"(?<!shared_)experts\b|_exps\.")
_UNUSED = re.compile(r"(^|[._])(vision|visual|audio|mtp|multi_modal)")  # by a text that is decoded token by token
# Keys of a config whose cache is not one entry a token and layer: a window, a state, layers that share.
_OTHER_CACHE = ("mamba", "ssm", "linear_", "conv_", "kv_shared", "attn_layer", "hybrid", "recurrent", "rwkv")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a checkpoint."""

    name: str
    dtype: str  # as safetensors or GGUF names it
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Work:
    """What one token costs. `weight_bytes`: of all weights; `decode_bytes`: of those that one decode step reads,
    without the input embedding (one row of it) and the experts that one token does not use; `kv_values_per_token`:
    numbers in the KV cache for each token, 2 x layers x KV heads x head size; `flops_per_token`: of a prompt's token,
    2 x parameters, without the input embedding (one row a token) and the output layer (once a prompt)."""

    weight_bytes: int
    decode_bytes: int | None
    kv_values_per_token: int | None
    flops_per_token: int | None


def tensors_of(shard: Path) -> Iterator[Tensor]:
    """Every tensor of a safetensors file, from the header alone. Raises HarnessError if the file is not whole."""
    try:
        with shard.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > HEADER_LIMIT:
                raise ValueError("the header's length is implausible")
            header = json.loads(file.read(size))
        end = max((v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"), default=0)
        if shard.stat().st_size != 8 + size + end:
            raise ValueError(f"{shard.stat().st_size} bytes, expected {8 + size + end}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HarnessError(f"{shard}: not a whole safetensors file ({error}); copy it again.") from None
    for name, tensor in header.items():
        if name != "__metadata__":
            start, stop = tensor["data_offsets"]
            yield Tensor(name, tensor["dtype"], tuple(tensor["shape"]), stop - start)


def work_of(config: Mapping[str, Any], tensors: Iterable[Tensor]) -> Work:
    """What one token of a checkpoint in the Hugging Face layout costs. `config`: its config.json."""
    text = config.get("text_config", config)
    whole = list(tensors)
    used = [tensor for tensor in whole if not _UNUSED.search(tensor.name)]
    share = _expert_share(text)
    inner = [tensor for tensor in used if not _EMBEDDING.search(tensor.name) and not _HEAD.search(tensor.name)]
    flops = _sum((2 * math.prod(tensor.shape), tensor) for tensor in inner)
    return Work(
        weight_bytes=sum(tensor.bytes for tensor in whole),
        decode_bytes=decode_bytes(used, share),
        kv_values_per_token=_kv_values(text),
        flops_per_token=_least(flops, share),
    )


def decode_bytes(tensors: Iterable[Tensor], expert_share: float | None) -> int | None:
    """The bytes of the tensors that one decode step reads at least; None if there are experts and it is not known how
    many of them a token uses. Without an output layer of its own, the input embedding is read as one."""
    used = list(tensors)
    tied = not any(_HEAD.search(tensor.name) for tensor in used)
    read = [tensor for tensor in used if tied or not _EMBEDDING.search(tensor.name)]
    return _least(_sum((tensor.bytes, tensor) for tensor in read), expert_share)


def _sum(sized: Iterable[tuple[int, Tensor]]) -> tuple[int, int]:
    """(of the experts, of everything else)."""
    experts = others = 0
    for size, tensor in sized:
        if _EXPERTS.search(tensor.name):
            experts += size
        else:
            others += size
    return experts, others


def _least(sums: tuple[int, int], expert_share: float | None) -> int | None:
    experts, others = sums
    if not experts:
        return others
    return None if expert_share is None else others + int(experts * expert_share)


def _expert_share(text: Mapping[str, Any]) -> float | None:
    """The share of the experts that one token uses."""
    of = next((text[k] for k in ("num_experts", "num_local_experts", "n_routed_experts") if text.get(k)), None)
    used = next((text[k] for k in ("num_experts_per_tok", "num_experts_per_token", "moe_topk") if text.get(k)), None)
    return used / of if isinstance(of, int) and isinstance(used, int) and of >= used else None


def _kv_values(text: Mapping[str, Any]) -> int | None:
    """None for a cache that does not hold every token at every layer: less may be read than this."""
    layers = text.get("num_hidden_layers")
    windowed = text.get("sliding_window") and text.get("use_sliding_window", True)
    kinds = set(text.get("layer_types") or ()) - {"full_attention"}
    if not isinstance(layers, int) or windowed or kinds or any(part in key for key in text for part in _OTHER_CACHE):
        return None
    if isinstance(latent := text.get("kv_lora_rank"), int):  # one latent vector instead of keys and values
        return layers * (latent + int(text.get("qk_rope_head_dim") or 0))
    heads = text.get("num_attention_heads")
    kv_heads = text.get("num_key_value_heads") or heads
    size = text.get("head_dim") or (text["hidden_size"] // heads if heads and text.get("hidden_size") else None)
    return 2 * layers * kv_heads * size if isinstance(kv_heads, int) and isinstance(size, int) else None
