"""What one token costs an engine at least: bytes to read, numbers to keep, multiplications. The bounds of the PLAUSIBLE
check rest on it, so everything here is the least that is needed; what is not known is None."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.model.checkpoint import Tensor
from harness.model.config import LAYERS, Config, whole_number

_EMBEDDING = re.compile(r"(embed_tokens|wte|tok_embeddings|word_embeddings|embed_in|token_embd)\.weight$")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output)\.weight$")
_KEYS_VALUES = re.compile(r"\.[kv]_proj\.weight$")
_EXPERTS = re.compile(r"(?<!shared_)experts\b|_exps\.")
_UNUSED = re.compile(r"(^|[._])(vision|visual|audio|mtp|multi_modal)")  # by a text that is decoded token by token
# Keys of a config whose cache is not one entry a token and layer: a window, a state, layers that share.
_OTHER_CACHE = ("mamba", "ssm", "linear_", "conv_", "kv_shared", "attn_layer", "hybrid", "recurrent", "rwkv")


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


def work_of(config: Config, tensors: Iterable[Tensor]) -> Work:
    """What one token of a checkpoint in the Hugging Face layout costs."""
    whole = list(tensors)
    used = [tensor for tensor in whole if not _UNUSED.search(tensor.name)]
    share = _expert_share(config.text)
    inner = [tensor for tensor in used if not _EMBEDDING.search(tensor.name) and not _HEAD.search(tensor.name)]
    flops = _sum((2 * math.prod(tensor.shape), tensor) for tensor in inner)
    return Work(
        weight_bytes=sum(tensor.bytes for tensor in whole),
        decode_bytes=decode_bytes(used, share),
        kv_values_per_token=_kv_values(config),
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


def embedding_rows(tensors: Iterable[Tensor]) -> int | None:
    """Rows of the input embedding; None if no tensor is one."""
    found = [
        t.shape[0] for t in tensors if len(t.shape) == 2 and _EMBEDDING.search(t.name) and not _UNUSED.search(t.name)
    ]
    return max(found, default=None)


def cache_values(config: Config, tensors: Iterable[Tensor]) -> int | None:
    """Numbers in a KV cache of every token at every layer, for one token; from the sizes of the projections where
    config.json lacks a key. None: not known."""
    if config.kv_values is not None:
        return config.kv_values
    rows = [t.shape[0] for t in tensors if _KEYS_VALUES.search(t.name) and not _UNUSED.search(t.name) and t.shape]
    return sum(rows) or None


def _expert_share(text: Mapping[str, Any]) -> float | None:
    """The share of the experts that one token uses."""
    of = _first(text, ("num_experts", "num_local_experts", "n_routed_experts"))
    used = _first(text, ("num_experts_per_tok", "num_experts_per_token", "moe_topk"))
    return used / of if of and used and of >= used else None


def _first(text: Mapping[str, Any], names: Iterable[str]) -> int | None:
    return next((found for name in names if (found := whole_number(text.get(name))) is not None), None)


def _kv_values(config: Config) -> int | None:
    """None for a cache that does not hold every token at every layer: less may be read than this."""
    text, layers = config.text, config.number(LAYERS)
    windowed = text.get("sliding_window") and text.get("use_sliding_window", True)
    kinds = any(kind != "full_attention" for kind in _list(text.get("layer_types") or []))
    if layers is None or windowed or kinds or any(part in key for key in text for part in _OTHER_CACHE):
        return None
    if latent := whole_number(text.get("kv_lora_rank")):  # one latent vector instead of keys and values
        return layers * (latent + (whole_number(text.get("qk_rope_head_dim")) or 0))
    return config.kv_values


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
