"""A Llama in two layouts: the tensor names and the row order of Hugging Face and of GGUF."""

from __future__ import annotations

import numpy as np

from harness.model.exact import Bits

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_LAYER, _BLOCK, _WEIGHT = "model.layers.", "blk.", ".weight"
_FROM_GGUF = {gguf: ours for ours, gguf in NAMES.items()}


def to_gguf(name: str) -> str:
    """The name of a tensor in GGUF, from its name in safetensors."""
    block, stem = _parted(name, _LAYER)
    return f"{_BLOCK + block if block else ''}{NAMES[stem]}{_WEIGHT}"


def from_gguf(name: str) -> str:
    """The other way. Raises KeyError for a tensor that a Llama does not have."""
    block, stem = _parted(name, _BLOCK)
    return f"{_LAYER + block if block else ''}{_FROM_GGUF[stem]}{_WEIGHT}"


def _parted(name: str, layers: str) -> tuple[str, str]:
    """("3.", "attn_q") of blk.3.attn_q.weight; without a layer ("", the stem)."""
    stem = name.removesuffix(_WEIGHT)
    if not stem.startswith(layers):
        return "", stem
    number, stem = stem.removeprefix(layers).split(".", 1)
    return f"{number}.", stem


def rotated_heads(name: str, heads: int, kv_heads: int) -> int:
    """How many heads the rows of this tensor (by its name in safetensors) belong to, if they are rotated by position:
    its row order then differs between the layouts. 0 for any other tensor."""
    if name.endswith("self_attn.q_proj.weight"):
        return heads
    return kv_heads if name.endswith("self_attn.k_proj.weight") else 0


def interleave(bits: Bits, heads: int) -> Bits:
    """Reorders each head's rows from halves (0..31, 32..63) to pairs (0, 32, 1, 33, ...).

    Hugging Face rotates row i with row i + 32, llama.cpp's `llama` rotates row 2i with row 2i + 1: without this, every
    attention score of a GGUF engine would be wrong. The same as `permute` in llama.cpp's converter."""
    rows, columns = bits.shape
    halves = bits.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows, columns)


def separate(bits: Bits, heads: int) -> Bits:
    """The inverse of interleave: from pairs (0, 32, 1, 33, ...) back to halves."""
    rows, columns = bits.shape
    pairs = bits.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows, columns)
