"""The model `tiny` as a GGUF file: the same weight bits, in the names and the row order that llama.cpp reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import gguf
import numpy as np

from harness.model.exact import Bits, from_bf16
from harness.model.llama_names import interleave, rotated_heads, to_gguf
from harness.model.tiny_tokenizer import BOS, EOS, SPECIAL, Vocabulary
from harness.model.tiny_weights import Shape


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
        heads = rotated_heads(name, shape.heads, shape.kv_heads)
        yield to_gguf(name), interleave(tensors[name], heads) if heads else tensors[name]
