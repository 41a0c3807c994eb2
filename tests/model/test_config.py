"""config.json in the forms that models really have, and in which precision their weights are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.model.checkpoint import Tensor
from harness.model.config import config_of, whole_number
from harness.model.precision import Precision, precision_of
from harness.model.resolve import resolve
from harness.model.work import cache_values
from tests.model.small import CONFIG, write_small


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "small"
    path.mkdir()
    write_small(path)
    return path


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"max_position_embeddings": 64}, 64),
        ({"max_position_embeddings": 64.0}, 64),
        ({"n_positions": 1024}, 1024),  # GPT-2
        ({"n_ctx": 512, "n_positions": "many"}, 512),
        ({"max_sequence_length": 2048}, 2048),  # OLMo
        ({"max_seq_len": 2048}, 2048),  # MPT, DBRX
        ({"seq_length": 8192}, 8192),  # ChatGLM, Qwen
        ({"text_config": {"max_position_embeddings": 96}, "max_position_embeddings": 7}, 96),
        ({"llm_config": {"max_position_embeddings": 96}}, 96),  # InternVL
        ({"language_config": {"max_position_embeddings": 96}}, 96),  # DeepSeek-VL
        ({"thinker_config": {"text_config": {"max_position_embeddings": 96}}}, 96),  # Qwen Omni
        ({"text_config": "none", "max_position_embeddings": 64}, 64),
        ({"text_config": {"hidden_size": 8}}, 33),  # the tokenizer's
    ],
)
def test_the_context_under_the_names_that_models_use(folder: Path, config: dict[str, Any], context: int) -> None:
    (folder / "config.json").write_text(json.dumps({"vocab_size": 600, **config}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 33}))
    assert resolve(str(folder), folder).context_tokens == context


@pytest.mark.parametrize("value", [None, -1, 0, "4096", [4096], True, float("nan"), 1e30, {}])
def test_a_context_that_is_no_number_is_named(folder: Path, value: Any) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, "max_position_embeddings": value}))
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(HarnessError, match=r'max_position_embeddings is .*; add "max_position_embeddings": N into it'):
        resolve(str(folder), folder)


def test_the_line_names_the_part_and_what_it_asks_for_is_enough(folder: Path) -> None:
    """As Gemma 3 4B has it: everything else is the default of the model's class."""
    text: dict[str, Any] = {"hidden_size": 8, "sliding_window": 1024}
    (folder / "config.json").write_text(json.dumps({"text_config": text}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 10**30}))
    with pytest.raises(HarnessError, match='add "max_position_embeddings": N into its text_config'):
        resolve(str(folder), folder)
    (folder / "config.json").write_text(json.dumps({"text_config": {**text, "max_position_embeddings": 64}}))
    found = resolve(str(folder), folder)
    assert (found.context_tokens, found.cache_values, found.work.kv_values_per_token) == (64, None, None)


BASE = {"n_layer": 2, "n_head": 8, "n_embd": 64}


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (BASE, 2 * 2 * 8 * 8),
        ({"num_layers": 2, "num_attention_heads": 8, "hidden_size": 64, "kv_channels": 16}, 2 * 2 * 8 * 16),
        ({**BASE, "multi_query": True}, 2 * 2 * 1 * 8),  # GPTBigCode, Falcon 7B
        ({**BASE, "multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 4}, 2 * 2 * 4 * 8),
        ({**BASE, "multi_query_attention": True, "multi_query_group_num": 2}, 2 * 2 * 2 * 8),  # ChatGLM
        ({**BASE, "n_head": [8, 4]}, None),
        ({**BASE, "n_head": 0}, None),
    ],
)
def test_the_cache_of_a_token_by_other_names(config: dict[str, Any], values: int | None) -> None:
    assert config_of(config).kv_values == values


def test_the_cache_of_a_token_from_the_projections() -> None:
    parts = [
        Tensor(f"model.layers.{i}.self_attn.{p}_proj.weight", "BF16", (32, 64), 4096) for i in "01" for p in "qkvo"
    ]
    vision = Tensor("vision_tower.layers.0.self_attn.k_proj.weight", "BF16", (99, 64), 12672)
    assert cache_values(config_of({}), [*parts, vision]) == 2 * 2 * 32
    assert cache_values(config_of({}), [vision]) is None


def test_an_id_beyond_the_embedding_is_in_no_prompt(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": 300}))
    found = resolve(str(folder), folder)
    assert max(found.vocabulary) < 300 == found.vocab_size


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3), (3.0, 3), (3.5, None), (True, None), (10**400, None), (float("inf"), None), ("3", None)],
)
def test_whole_numbers(value: Any, number: int | None) -> None:
    assert whole_number(value) == number


# -- precision ----------------------------------------------------------------------------------------------------


def tensors(*parts: tuple[str, str, int]) -> list[Tensor]:
    return [Tensor(name, dtype, (size,), size) for name, dtype, size in parts]


UNNAMED = "a scheme that it does not name"


@pytest.mark.parametrize(
    ("config", "parts", "dtype", "method"),
    [
        ({}, [("a.weight", "BF16", 8), ("b.weight", "F32", 4)], "bfloat16", None),
        ({"torch_dtype": "float32"}, [("a.weight", "BF16", 8)], "bfloat16", None),
        ({"dtype": "torch.float16"}, [("a.weight", "F16", 8), ("mask", "BOOL", 1)], "float16", None),
        ({}, [("a.weight", "BF16", 8), ("position_ids", "I64", 8)], "bfloat16", None),
        ({}, [("a.weight", "F16", 8), ("h.0.attention.bias", "U8", 9)], "float16", None),
        ({}, [("a.qweight", "I32", 8), ("a.scales", "F16", 9)], "I32", UNNAMED),
        ({}, [("a.weight", "U8", 8), ("a.weight.absmax", "F32", 1), ("e.weight", "BF16", 90)], "U8", UNNAMED),
        ({}, [("a.weight", "F8_E4M3", 8), ("e.weight", "BF16", 9)], "F8_E4M3", UNNAMED),
        ({"torch_dtype": "float8_e4m3fn"}, [("a.weight", "BF16", 8)], "float8_e4m3fn", UNNAMED),
        ({"quantization": {"group_size": 64, "bits": 4}}, [("a.weight", "U32", 8)], "mlx, 4 bits", "mlx"),
        ({"quantization_config": {"quant_method": 7, "bits": "x"}}, [("a.weight", "U8", 8)], "quantised", "quantised"),
        ({"quantization_config": None}, [("a.weight", "BF16", 8)], "bfloat16", None),
        ({}, [("a.weight", "F64", 8)], "F64", None),
    ],
)
def test_precision_is_that_of_the_tensors_and_of_a_declared_scheme(
    tmp_path: Path, config: dict[str, Any], parts: list[tuple[str, str, int]], dtype: str, method: str | None
) -> None:
    assert precision_of(tmp_path, config_of(config), tensors(*parts)) == Precision(dtype, method)


@pytest.mark.parametrize(
    ("name", "content", "dtype"),
    [
        ("quantize_config.json", {"bits": 4, "group_size": 128, "desc_act": False}, "gptq, 4 bits"),
        ("quantize_config.json", {"bits": 4, "quant_method": "awq"}, "awq, 4 bits"),
        ("quant_config.json", {"w_bit": 4, "q_group_size": 128, "version": "GEMM"}, "awq, 4 bits"),
        ("hf_quant_config.json", {"producer": {}, "quantization": {"quant_algo": "NVFP4"}}, "nvfp4"),
        ("hf_quant_config.json", [], "modelopt"),
    ],
)
def test_a_scheme_that_a_file_beside_the_config_declares(folder: Path, name: str, content: Any, dtype: str) -> None:
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(HarnessError, match=rf"quantised weights \({dtype}\)"):
        resolve(str(folder), folder)
