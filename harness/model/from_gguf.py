"""A Llama that comes as one GGUF file, made into a checkpoint that every engine loads: bfloat16, with the same bits in
safetensors and in a second GGUF."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from harness.errors import HarnessError
from harness.model.bpe import BYTE_LEVEL, tokenizer_json
from harness.model.exact import Bits, from_bf16, to_bf16
from harness.model.files import SINGLE, write_json_file
from harness.model.llama_names import from_gguf, rotated_heads, separate
from harness.model.safetensors_file import write_safetensors

# What GGUF calls `smollm`: each digit alone, the rest as GPT-2 splits it.
_PRE = {
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL],
    }
}
_DROPPED = ("general.architecture", "general.file_type", "general.quantization_version")  # the writer's, or untrue now
Fact = Callable[[str], Any]


def write_checkpoint(source: Path, folder: Path, gguf_name: str) -> None:
    """Writes model.safetensors, config.json, generation_config.json, tokenizer.json, tokenizer_config.json and the GGUF
    `gguf_name` into an existing folder. Raises HarnessError for a GGUF that is no Llama with a `smollm` tokenizer."""
    reader = gguf.GGUFReader(source)

    def fact(key: str) -> Any:
        field = reader.fields.get(key)
        return None if field is None else field.contents()

    kinds = (fact("general.architecture"), fact("tokenizer.ggml.model"), fact("tokenizer.ggml.pre"))
    if kinds[:2] != ("llama", "gpt2") or kinds[2] not in _PRE:
        raise HarnessError(f"{source.name}: not a Llama with a byte-level BPE tokenizer that is known here ({kinds}).")
    bits = {tensor.name: _bits(tensor) for tensor in reader.tensors}
    _write_gguf(folder / gguf_name, reader, bits)
    heads, kv_heads = fact("llama.attention.head_count"), fact("llama.attention.head_count_kv")
    named = {from_gguf(name): values for name, values in bits.items()}
    for name, values in named.items():
        if count := rotated_heads(name, heads, kv_heads):
            named[name] = separate(values, count)
    write_safetensors(folder / SINGLE, named)
    write_json_file(folder / "config.json", _config(fact, tied="lm_head.weight" not in named))
    ends = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    ids = {key: fact(f"tokenizer.ggml.{end}_token_id") for key, end in ends.items()}
    write_json_file(folder / "generation_config.json", {**ids, "do_sample": False})
    _write_tokenizer(folder, fact)


def _bits(tensor: Any) -> Bits:
    """Its values in bf16. gguf's own dequantisation is one product and one sum of float32 numbers a value, rounded
    alike everywhere."""
    values = gguf.quants.dequantize(np.array(tensor.data), tensor.tensor_type)
    return to_bf16(np.ascontiguousarray(values, np.float32).reshape(tuple(int(n) for n in reversed(tensor.shape))))


def _write_gguf(path: Path, reader: Any, bits: dict[str, Bits]) -> None:
    """The same file in bf16, with its facts. Vectors are float32 with the values of their bf16 bits: as they are in the
    source they might not be those of the safetensors."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in _DROPPED:
            inner = field.types[1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    for name, values in bits.items():
        if values.ndim == 1:
            writer.add_tensor(name, from_bf16(values))
        else:
            writer.add_tensor(name, values.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _config(fact: Fact, tied: bool) -> dict[str, object]:
    """config.json; rope and dtype under both the old and the new keys of transformers."""
    theta = _decimal(fact("llama.rope.freq_base"))
    heads, hidden = fact("llama.attention.head_count"), fact("llama.embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(fact("tokenizer.ggml.tokens")),
        "hidden_size": hidden,
        "intermediate_size": fact("llama.feed_forward_length"),
        "num_hidden_layers": fact("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": fact("llama.attention.head_count_kv"),
        "head_dim": hidden // heads,
        "max_position_embeddings": fact("llama.context_length"),
        "rope_theta": theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "rms_norm_eps": _decimal(fact("llama.attention.layer_norm_rms_epsilon")),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "bos_token_id": fact("tokenizer.ggml.bos_token_id"),
        "eos_token_id": fact("tokenizer.ggml.eos_token_id"),
        "pad_token_id": fact("tokenizer.ggml.padding_token_id"),
        "torch_dtype": "bfloat16",
        "dtype": "bfloat16",
        "license": fact("general.license"),
    }


def _decimal(value: float) -> float:
    """A float32 as it was written: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _write_tokenizer(folder: Path, fact: Fact) -> None:
    tokens, types = fact("tokenizer.ggml.tokens"), fact("tokenizer.ggml.token_type")
    special = [i for i, kind in enumerate(types) if kind != gguf.TokenType.NORMAL]
    merges = [(first, second) for first, second in (merge.split(" ") for merge in fact("tokenizer.ggml.merges"))]
    pre = _PRE[fact("tokenizer.ggml.pre")]
    write_json_file(folder / "tokenizer.json", tokenizer_json(tokens, merges, special, pre))
    ends = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    write_json_file(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **{key: tokens[fact(f"tokenizer.ggml.{end}_token_id")] for key, end in ends.items()},
            "add_bos_token": False,
            "model_max_length": fact("llama.context_length"),
            "clean_up_tokenization_spaces": False,
            "chat_template": fact("tokenizer.chat_template"),
        },
    )
