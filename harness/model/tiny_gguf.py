"""The model `tiny` as a GGUF file: the same weight bits, in the names and the row order that llama.cpp reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import gguf
import numpy as np

from harness.model.exact import Bits, from_bf16
from harness.model.tiny_tokenizer import BOS, EOS, SPECIAL, Vocabulary
from harness.model.tiny_weights import Shape

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


def write_gguf(path: Path, shape: Shape, epsilon: float, vocab: Vocabulary, tensors: Mapping[str, Bits]) -> None:
    """One file. Matrices keep their bf16 bits; norms become float32, which holds the same values."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.mlp)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head)
    writer.add_value_length(shape.head)
    writer.add_layer_norm_rms_eps(epsilon)
    writer.add_rope_dimension_count(shape.head)
    writer.add_rope_freq_base(shape.theta)
    writer.add_vocab_size(shape.vocab)
    kinds = [gguf.TokenType.CONTROL] * len(SPECIAL)
    kinds += [gguf.TokenType.NORMAL] * (len(vocab.tokens) - len(SPECIAL))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(vocab.tokens))
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in vocab.merges])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_add_bos_token(False)  # true: every text prompt would be one token longer than elsewhere
    for name, bits in _renamed(shape, tensors):
        if bits.ndim == 1:
            writer.add_tensor(name, from_bf16(bits))
        else:
            writer.add_tensor(name, bits.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _renamed(shape: Shape, tensors: Mapping[str, Bits]) -> Iterator[tuple[str, Bits]]:
    for name in sorted(tensors):
        stem = name.removesuffix(".weight")
        block = ""
        if stem.startswith("model.layers."):
            layer, stem = stem.removeprefix("model.layers.").split(".", 1)
            block = f"blk.{layer}."
        bits = tensors[name]
        if stem == "self_attn.q_proj":
            bits = interleave(bits, shape.heads)
        elif stem == "self_attn.k_proj":
            bits = interleave(bits, shape.kv_heads)
        yield f"{block}{NAMES[stem]}.weight", bits


def interleave(bits: Bits, heads: int) -> Bits:
    """Reorders each head's rows from halves (0..31, 32..63) to pairs (0, 32, 1, 33, ...).

    Hugging Face rotates row i with row i + 32, llama.cpp's `llama` rotates row 2i with row 2i + 1: without this, every
    attention score of a GGUF engine would be wrong. The same as `permute` in llama.cpp's converter."""
    rows, columns = bits.shape
    halves = bits.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows, columns)
