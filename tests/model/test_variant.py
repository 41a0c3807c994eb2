"""Other weights of a comparison's model: what they are, and that they are that model's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import engines
from harness.commands.candidates import _check_weights
from harness.errors import CannotStart, HarnessError
from harness.model.resolve import Model, resolve
from harness.model.safetensors_file import write_safetensors
from harness.model.variant import Variant, read_variant
from harness.paths import cache_folder
from tests.model.small import CONFIG, write_small
from tests.quantised import write_q8_0

ENGINES = engines.load()
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}
GPTQ = {"quant_method": "gptq", "bits": 8, "group_size": 128, "desc_act": False, "sym": True}
MXFP4 = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
BITSANDBYTES = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
MODELOPT = {"quant_algo": "FP8", "kv_cache_quant_algo": None}


def compressed(bits: int, kind: str) -> dict[str, Any]:
    weights = {"num_bits": bits, "type": kind, "strategy": "channel", "symmetric": True}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None}
    return {"quant_method": "compressed-tensors", "format": "x", "config_groups": {"group_0": group}}


@pytest.fixture
def model(tmp_path: Path) -> Model:
    folder = tmp_path / "small"
    folder.mkdir()
    write_small(folder)
    return resolve(str(folder), tmp_path)


def checkpoint(folder: Path, **config: Any) -> Path:
    """A folder as a quantised checkpoint comes: no tokenizer is needed, the comparison's model has it."""
    made = folder / "variant"
    made.mkdir()
    (made / "config.json").write_text(json.dumps({**CONFIG, **config}))
    write_safetensors(made / "model.safetensors", {"a.weight": np.zeros((4, 8), np.uint16)})
    return made


@pytest.mark.parametrize(
    ("config", "dtype", "method"),
    [
        ({"quantization_config": FP8}, "fp8", "fp8"),
        ({"quantization_config": AWQ}, "awq, 4 bits", "awq"),
        ({"quantization_config": GPTQ}, "gptq, 8 bits", "gptq"),
        ({"quantization_config": MXFP4}, "mxfp4", "mxfp4"),
        ({"quantization_config": BITSANDBYTES}, "bitsandbytes", "bitsandbytes"),
        ({"quantization_config": MODELOPT}, "fp8", "fp8"),
        (
            {"quantization_config": compressed(4, "int")},
            "compressed-tensors, int 4 bits",
            "compressed-tensors",
        ),
        ({"compression_config": compressed(8, "float")}, "compressed-tensors, float 8 bits", "compressed-tensors"),
        ({"text_config": {**CONFIG, "quantization_config": FP8}}, "fp8", "fp8"),
        ({}, "bfloat16", None),
        ({"torch_dtype": "float16"}, "bfloat16", None),  # its tensors are
    ],
    ids=["fp8", "awq", "gptq", "mxfp4", "bnb", "modelopt", "int4", "compressed", "nested", "plain", "wrong"],
)
def test_a_checkpoint_is_what_its_config_says(
    model: Model, tmp_path: Path, config: dict[str, Any], dtype: str, method: str | None
) -> None:
    found = read_variant(str(checkpoint(tmp_path, **config)), model)
    assert (found.kind, found.name, found.weight_dtype, found.method) == ("safetensors", "variant", dtype, method)
    assert len(found.digest) == 64 and found.digest != model.digest


def test_eight_bits_that_are_declared_as_sixteen_are_eight(model: Model, tmp_path: Path) -> None:
    made = checkpoint(tmp_path)
    header = json.dumps({"a.weight": {"dtype": "F8_E4M3", "shape": [4, 8], "data_offsets": [0, 32]}}).encode()
    (made / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(32))
    assert read_variant(str(made), model).weight_dtype == "F8_E4M3"


def test_the_digest_is_that_of_the_weights(model: Model, tmp_path: Path) -> None:
    made = checkpoint(tmp_path, quantization_config=FP8)
    before = read_variant(str(made), model).digest
    write_safetensors(made / "model.safetensors", {"a.weight": np.ones((4, 8), np.uint16)})
    after = read_variant(str(made), model).digest
    assert after != before
    (made / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": AWQ}))
    assert read_variant(str(made), model).digest != after


@pytest.fixture(scope="module")
def tiny() -> Model:
    return resolve("tiny", cache_folder())


@pytest.fixture(scope="module")
def q8_0(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_q8_0(tiny.folder / "model.gguf", tmp_path_factory.mktemp("q8") / "tiny-q8_0.gguf")


def test_a_gguf_is_what_most_of_its_weights_are(tiny: Model, q8_0: Path) -> None:
    found = read_variant(str(q8_0), tiny)
    assert (found.kind, found.name, found.weight_dtype, found.method) == ("gguf", "tiny-q8_0.gguf", "Q8_0", None)
    assert found.path == q8_0.resolve()
    assert read_variant(str(q8_0.parent), tiny) == found  # the only one in its folder
    plain = read_variant(str(tiny.folder / "model.gguf"), tiny)
    assert (plain.weight_dtype, plain.digest != found.digest) == ("bfloat16", True)


def small_gguf(path: Path, label: gguf.LlamaFileType | None, tokens: int = 600) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    if label is not None:
        writer.add_file_type(label)
    writer.add_token_list([f"t{i}" for i in range(tokens)])
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("w", gguf.quants.quantize(np.ones((4, 32), np.float32), kind), raw_dtype=kind)
    writer.add_tensor("n", np.ones(512, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("label", [None, gguf.LlamaFileType.MOSTLY_F16, gguf.LlamaFileType.MOSTLY_Q8_0])
def test_the_weights_count_and_not_an_old_label(model: Model, tmp_path: Path, label: gguf.LlamaFileType | None) -> None:
    assert read_variant(str(small_gguf(tmp_path / "w.gguf", label)), model).weight_dtype == "Q8_0"


def test_another_models_vocabulary_is_refused(model: Model, tiny: Model, q8_0: Path, tmp_path: Path) -> None:
    wrong = "is another model than small: its vocabulary has"
    with pytest.raises(HarnessError, match=rf"tiny-q8_0\.gguf: {wrong} \d+ tokens, not 600"):
        read_variant(str(q8_0), model)
    made = checkpoint(tmp_path, vocab_size=32000, quantization_config=FP8)
    with pytest.raises(HarnessError, match=f"variant: {wrong} 32000 tokens, not 600"):
        read_variant(str(made), model)
    (made / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": 300}))  # prompts would hold ids beyond it
    with pytest.raises(HarnessError, match="vocabulary has 300 tokens"):
        read_variant(str(made), model)
    (made / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": 640}))  # padded
    assert read_variant(str(made), model).weight_dtype == "bfloat16"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./none", "no such file or folder. Give a GGUF file, a folder or a hub id"),
        ("../none", "no such file or folder"),
        ("{tmp}/empty", "no config.json; a model folder needs the checkpoint's config.json"),
        ("{tmp}/two", "has 2 GGUF files; name one of them"),
        ("{tmp}/bad.gguf", "not a readable GGUF file"),
        ("{tmp}/list", "config.json: not a JSON object"),
    ],
)
def test_what_cannot_be_read_is_one_line(model: Model, tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "config.json").write_text("[]")
    for i in "ab":
        (tmp_path / "two" / f"{i}.gguf").touch()
    (tmp_path / "bad.gguf").write_bytes(b"nothing of the kind")
    with pytest.raises(HarnessError) as refused:
        read_variant(name.format(tmp=tmp_path), model)
    assert said in str(refused.value) and "\n" not in str(refused.value)


# -- which engine can load them -----------------------------------------------------------------------------------


def variant(kind: Any, method: str | None = None) -> Variant:
    return Variant("other", Path("other"), kind, "0" * 64, "x", method, 1, 1)


@pytest.mark.parametrize(
    ("name", "weights", "said"),
    [
        ("vllm", variant("gguf"), "cannot load other: it takes a folder with safetensors"),
        ("llamacpp", variant("safetensors", "fp8"), "cannot load other: it takes a GGUF file"),
        ("tensorrtllm", variant("safetensors", "bitsandbytes"), "weights quantised by bitsandbytes; it loads: fp8, nv"),
        ("triton", variant("safetensors", "fp8"), "cannot load other: weights quantised by fp8; it loads: "),
    ],
)
def test_an_engine_that_cannot_load_them_says_so(name: str, weights: Variant, said: str) -> None:
    with pytest.raises(CannotStart) as refused:
        _check_weights(replace(ENGINES[name], quantized=() if name == "triton" else ENGINES[name].quantized), weights)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("vllm", variant("safetensors", "compressed-tensors")),
        ("vllm", variant("safetensors")),
        ("tgi", variant("safetensors", "awq")),
        ("llamacpp", variant("gguf")),
        ("sglang", None),
    ],
)
def test_an_engine_that_can_load_them_says_nothing(name: str, weights: Variant | None) -> None:
    _check_weights(ENGINES[name], weights)
