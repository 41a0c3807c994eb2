"""Model folders that were damaged at random: whatever is in a file, only a HarnessError of one line comes out."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from harness.errors import HarnessError
from harness.model.own_code import data_only
from harness.model.resolve import Model, resolve
from harness.model.tokenizer import Texts
from harness.model.tokenizer_file import load_tokenizer
from harness.model.variant import read_variant
from tests.model.small import CONFIG, write_small
from tests.model.test_own_code import bf16_gguf

EACH = 200  # damaged folders of each kind; half a second
ODD: tuple[Any, ...] = (None, True, -1, 0, 1.5, float("inf"), float("nan"), 10**400, "4096", [], [1], {}, {"a": 1})
ODD += (["\x1b[2J"], 2**63, "\x00", "a\nb", [[[]]], {"text_config": {}})
SCHEME = {"quant_method": "compressed-tensors", "bits": 4, "config_groups": {"g": {"weights": {"num_bits": 4}}}}
NESTED = {"vocab_size": 600, "max_position_embeddings": 64, "num_attention_heads": 4, "quantization_config": SCHEME}
RICH = {
    **CONFIG,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "head_dim": 16,
    "layer_types": ["full_attention"],
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "sliding_window": None,
    "license": "x",
    "kv_lora_rank": 4,
    "auto_map": {},
    "text_config": NESTED,
    "rope_parameters": {"rope_theta": 1.0},
}


def damaged(value: Any, draw: random.Random, depth: int = 0) -> Any:
    """The value with one entry removed or replaced, somewhere in it."""
    if draw.random() < 0.06 or depth > 6 or not isinstance(value, dict | list) or not value:
        return draw.choice(ODD)
    copy = dict(value) if isinstance(value, dict) else list(value)
    key: Any = draw.choice(list(copy)) if isinstance(copy, dict) else draw.randrange(len(copy))
    if isinstance(copy, dict) and draw.random() < 0.2:
        del copy[key]
    else:
        copy[key] = damaged(copy[key], draw, depth + 1)
    return copy


def torn(data: bytes, draw: random.Random) -> bytes:
    """The bytes with some overwritten, removed or added near the front, where lengths stand."""
    found = bytearray(data)
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(max(1, min(len(found), 4000)))
        match draw.randrange(4):
            case 0:
                found[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                del found[at : at + draw.randint(1, 40)]
            case 2:
                found[at:at] = draw.randbytes(draw.randint(1, 9))
            case _:
                found[at : at + 8] = draw.choice((2**63, 2**62, 0, 2**32, 2**20)).to_bytes(8, "little")
    return bytes(found)


def write(path: Path, value: Any, draw: random.Random) -> None:
    for _ in range(draw.randint(1, 3)):
        value = damaged(value, draw)
    path.write_text(json.dumps(value))


def header(folder: Path, draw: random.Random) -> None:
    raw = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    changed = json.dumps(damaged(json.loads(raw[8 : 8 + size]), draw)).encode()
    (folder / "model.safetensors").write_bytes(len(changed).to_bytes(8, "little") + changed + raw[8 + size :])


def beside(folder: Path, draw: random.Random) -> None:
    """The context and the quantisation stand in other files."""
    (folder / "config.json").write_text(json.dumps({"vocab_size": 600}))
    write(folder / "tokenizer_config.json", {"model_max_length": 64, "auto_map": {}, "extra_special_tokens": []}, draw)
    write(folder / "hf_quant_config.json", {"quantization": {"quant_algo": "FP8", "bits": 8}}, draw)


def torn_file(name: str) -> Callable[[Path, random.Random], None]:
    def tear(folder: Path, draw: random.Random) -> None:
        (folder / name).write_bytes(torn((folder / name).read_bytes(), draw))

    return tear


INDEX = {"weight_map": {"a.weight": "model.safetensors", "b.weight": "model.safetensors"}}
KINDS: dict[str, Callable[[Path, random.Random], None]] = {
    "config": lambda folder, draw: write(folder / "config.json", RICH, draw),
    "index": lambda folder, draw: write(folder / "model.safetensors.index.json", INDEX, draw),
    "tokenizer": lambda folder, draw: write(
        folder / "tokenizer.json", json.loads((folder / "tokenizer.json").read_text()), draw
    ),
    "header": header,
    "beside": beside,
    "torn tokenizer": torn_file("tokenizer.json"),
    "torn shard": torn_file("model.safetensors"),
    "torn gguf": torn_file("w.gguf"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("whole") / "small"
    folder.mkdir()
    write_small(folder)
    bf16_gguf(folder / "w.gguf")
    return resolve(str(folder), folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_folder_is_one_line(model: Model, tmp_path: Path, kind: str) -> None:
    whole = {path.name: path.read_bytes() for path in model.folder.iterdir()}
    refused = 0
    for seed in range(EACH):
        folder = tmp_path / str(seed)
        folder.mkdir()
        for name, data in whole.items():
            (folder / name).write_bytes(data)
        KINDS[kind](folder, random.Random(f"{kind} {seed}"))
        try:
            if kind == "torn gguf":
                read_variant(str(folder / "w.gguf"), model)
                continue
            found = resolve(str(folder), tmp_path)
            read_variant(str(folder), model)
            (folder / "copy").mkdir()
            data_only(folder, folder / "copy")
            Texts(folder / "tokenizer.json", found.vocab_size).text(found.vocabulary[:3])
        except HarnessError as problem:
            refused += 1
            assert str(problem).isprintable(), (seed, str(problem))
    assert refused


# It puts a token before every text, and does not say which id that token has.
BEFORE = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
PREFIX = {"type": "TemplateProcessing", "single": BEFORE, "pair": BEFORE, "special_tokens": {}}


@pytest.mark.parametrize(
    "change",
    [{"normalizer": {"type": "Precompiled", "precompiled_charsmap": ""}}, {"post_processor": PREFIX}],
    ids=["as it loads", "as it encodes"],
)
def test_a_panic_of_the_tokenizer_library_is_one_line(
    model: Model, tmp_path: Path, change: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({**json.loads((model.folder / "tokenizer.json").read_text()), **change}))
    with pytest.raises(HarnessError, match="not a tokenizer file"):
        Texts(file)
    assert "normalizer" not in change or capfd.readouterr().err == ""


def test_ctrl_c_is_no_fault_of_a_file(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(file: str) -> Tokenizer:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.model.tokenizer_file.Tokenizer.from_file", interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        load_tokenizer(model.folder / "tokenizer.json")
