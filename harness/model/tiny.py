"""The default model `tiny`: a Llama of about 27 million parameters, made here with the same bytes on every machine. It
needs no download and no licence, and two correct engines give the same answers."""

from __future__ import annotations

from pathlib import Path

from harness.model.files import write_json_file
from harness.model.safetensors_file import write_safetensors
from harness.model.tiny_gguf import write_gguf
from harness.model.tiny_tokenizer import BOS, EOS, vocabulary, write_tokenizer
from harness.model.tiny_weights import SHAPE, tensors

VERSION = "tiny-1"  # the seed; raise it with any change that moves a byte
DIGEST = "7be43e18836dd0666631fd07371d063cacaad5916372f64712e639bea815d41a"  # Model.digest, on any machine
EPSILON = 1e-5
WEIGHTS, GGUF = "model.safetensors", "model.gguf"


def make_tiny(folder: Path) -> None:
    """Writes the whole model, in both formats, into an existing empty folder. About 110 MB."""
    vocab = vocabulary(SHAPE.vocab)
    weights = tensors(SHAPE, vocab.plain, VERSION)
    write_safetensors(folder / WEIGHTS, weights)
    write_gguf(folder / GGUF, SHAPE, EPSILON, vocab, weights)
    write_tokenizer(folder, vocab, SHAPE.context)
    write_json_file(folder / "config.json", _config())
    write_json_file(folder / "generation_config.json", {"bos_token_id": BOS, "eos_token_id": EOS, "do_sample": False})


def _config() -> dict[str, object]:
    """config.json; rope and dtype under both the old and the new keys of transformers."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": SHAPE.vocab,
        "hidden_size": SHAPE.hidden,
        "intermediate_size": SHAPE.mlp,
        "num_hidden_layers": SHAPE.layers,
        "num_attention_heads": SHAPE.heads,
        "num_key_value_heads": SHAPE.kv_heads,
        "head_dim": SHAPE.head,
        "max_position_embeddings": SHAPE.context,
        "rope_theta": SHAPE.theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": SHAPE.theta},
        "rms_norm_eps": EPSILON,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "torch_dtype": "bfloat16",
        "dtype": "bfloat16",
        "license": "apache-2.0",
    }
