"""What one token of a model costs, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from harness.model.checkpoint import Tensor
from harness.model.config import config_of
from harness.model.work import Work, decode_bytes
from harness.model.work import work_of as work_of_config

CONFIG = {"num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4, "hidden_size": 64}
EMBEDDING, HEAD = ("model.embed_tokens.weight", (100, 64)), ("lm_head.weight", (100, 64))
LAYER = ("model.layers.0.mlp.up_proj.weight", (64, 256))
EXPERT = ("model.layers.0.mlp.experts.3.up_proj.weight", (64, 256))
SHARED_EXPERT = ("model.layers.0.mlp.shared_experts.up_proj.weight", (64, 256))
VISION = ("vision_tower.patch_embed.weight", (1000, 64))


def work_of(config: dict[str, Any], parts: list[Tensor]) -> Work:
    return work_of_config(config_of(config), parts)


def tensors(*parts: tuple[str, tuple[int, int]]) -> list[Tensor]:
    """In 16 bits."""
    return [Tensor(name, "BF16", shape, 2 * shape[0] * shape[1]) for name, shape in parts]


def test_a_decode_step_reads_all_but_the_input_embedding() -> None:
    work = work_of(CONFIG, tensors(EMBEDDING, LAYER, HEAD))
    assert work.weight_bytes == 2 * (6400 + 16384 + 6400)
    assert work.decode_bytes == 2 * (16384 + 6400)
    assert work.flops_per_token == 2 * 16384  # the output layer is needed once a prompt
    assert work.kv_values_per_token == 2 * 2 * 4 * 8


def test_a_tied_embedding_is_read_as_the_output_layer() -> None:
    work = work_of(CONFIG, tensors(EMBEDDING, LAYER))
    assert work.decode_bytes == work.weight_bytes == 2 * (6400 + 16384)
    assert work.flops_per_token == 2 * 16384


def test_a_picture_is_not_looked_at_for_every_token() -> None:
    assert work_of(CONFIG, tensors(LAYER, HEAD, VISION)).decode_bytes == 2 * (16384 + 6400)


@pytest.mark.parametrize("names", [("num_experts", "num_experts_per_tok"), ("n_routed_experts", "num_experts_per_tok")])
def test_of_the_experts_only_those_that_one_token_uses(names: tuple[str, str]) -> None:
    parts = tensors(EXPERT, LAYER, SHARED_EXPERT, HEAD)
    work = work_of({**CONFIG, names[0]: 8, names[1]: 2}, parts)
    assert work.decode_bytes == 2 * (16384 // 4 + 2 * 16384 + 6400)
    assert work.flops_per_token == 2 * (16384 // 4 + 2 * 16384)
    unknown = work_of(CONFIG, parts)
    assert (unknown.decode_bytes, unknown.flops_per_token) == (None, None)
    assert unknown.weight_bytes == 2 * (3 * 16384 + 6400)


def test_a_gguf_names_its_tensors_otherwise() -> None:
    parts = tensors(("token_embd.weight", (100, 64)), ("blk.0.ffn_up.weight", (64, 256)), ("output.weight", (100, 64)))
    assert decode_bytes(parts, None) == 2 * (16384 + 6400)
    assert decode_bytes([*parts, *tensors(("blk.0.ffn_up_exps.weight", (64, 256)))], None) is None


@pytest.mark.parametrize(
    ("changes", "values"),
    [
        ({"head_dim": 16}, 2 * 2 * 4 * 16),
        ({"num_key_value_heads": None}, 2 * 2 * 8 * 8),
        ({"kv_lora_rank": 512, "qk_rope_head_dim": 64}, 2 * 576),
        ({"sliding_window": 4096}, None),
        ({"sliding_window": 4096, "use_sliding_window": False}, 2 * 2 * 4 * 8),
        ({"sliding_window": None}, 2 * 2 * 4 * 8),
        ({"layer_types": ["full_attention", "sliding_attention"]}, None),
        ({"layer_types": ["full_attention"] * 2}, 2 * 2 * 4 * 8),
        ({"mamba_d_state": 16}, None),
        ({"num_hidden_layers": None}, None),
    ],
)
def test_the_kv_cache_of_a_token(changes: dict[str, Any], values: int | None) -> None:
    assert work_of({**CONFIG, **changes}, tensors(LAYER)).kv_values_per_token == values
    assert work_of({"text_config": {**CONFIG, **changes}}, tensors(LAYER)).kv_values_per_token == values
