"""The model `tiny`: the same bytes everywhere, the same weights in both formats, a tokenizer that loses nothing."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from harness.model.exact import from_bf16, to_bf16
from harness.model.llama_names import NAMES
from harness.model.tiny import make_tiny
from harness.model.tiny_tokenizer import vocabulary
from harness.model.tiny_weights import SHAPE

SHA256 = {
    "config.json": "afc60369b922fdfcd8154e714533bdad13942ce76550a19b34fef0de9e2c9e05",
    "generation_config.json": "f7adfe53c4e1241f8b5bc7d5930fed6a6fc8833374f941f9701ffbaf312ae468",
    "model.gguf": "355535993e1b46585586811a18d66506fd06aefa65652831dc6e2691c10374de",
    "model.safetensors": "8f9413b62d09b93f39fc59446d7380bd0d80466bb6135db2a5a2c903592d11a3",
    "tokenizer.json": "c67fe3a0e5222a24b3907e13b38a9b389a6d5cee554854f5d8afafd330778dd4",
    "tokenizer_config.json": "808d003859efdd18269f6d2efedc40e5ef74ca4348bb5b7413c99cb8623e4efb",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny(folder)
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_same_bytes_everywhere(made: Path, tmp_path: Path) -> None:
    make_tiny(tmp_path)
    assert digests(tmp_path) == digests(made) == SHA256


def test_both_formats_hold_the_same_bits(made: Path) -> None:
    """Every tensor of the GGUF, with the interleaving of the rotary rows undone, against the safetensors."""
    stored = raw_safetensors(made / "model.safetensors")
    read = {t.name: t for t in gguf.GGUFReader(made / "model.gguf").tensors}
    assert len(read) == len(stored)
    for name, bits in stored.items():
        tensor = read[gguf_name(name)]
        assert list(tensor.shape) == list(bits.shape)[::-1]
        if bits.ndim == 1:
            assert tensor.tensor_type.name == "F32"
            assert np.array_equal(tensor.data, from_bf16(bits))
            continue
        assert tensor.tensor_type.name == "BF16"
        values = tensor.data.view(np.uint16)
        if "q_proj" in name or "k_proj" in name:
            heads = SHAPE.heads if "q_proj" in name else SHAPE.kv_heads
            pairs = values.reshape(heads, SHAPE.head // 2, 2, SHAPE.hidden)
            values = pairs.swapaxes(1, 2).reshape(bits.shape)
        assert np.array_equal(values, bits), name


def raw_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read with the library, so that our own writer is checked too; numpy lacks bf16, hence the raw bytes."""
    with safe_open(path, framework="np") as file:
        names = list(file.keys())
        shapes = {name: file.get_slice(name).get_shape() for name in names}
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    out = {}
    for name in sorted(names):
        count = math.prod(shapes[name])
        out[name] = np.frombuffer(data, "<u2", count, start).reshape(shapes[name])
        start += 2 * count
    assert start == len(data)
    return out


def gguf_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if not stem.startswith("model.layers."):
        return f"{NAMES[stem]}.weight"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}.weight"


def test_gguf_says_what_the_configuration_says(made: Path) -> None:
    fields = gguf.GGUFReader(made / "model.gguf").fields
    expected = {
        "general.architecture": "llama",
        "llama.context_length": SHAPE.context,
        "llama.attention.head_count_kv": SHAPE.kv_heads,
        "llama.rope.freq_base": SHAPE.theta,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.eos_token_id": 1,
    }
    assert {key: fields[key].contents() for key in expected} == expected
    tokenizer = Tokenizer.from_file(str(made / "tokenizer.json"))
    tokens = fields["tokenizer.ggml.tokens"].contents()
    assert tokens == [tokenizer.id_to_token(i) for i in range(SHAPE.vocab)]


def test_special_and_partial_tokens_are_never_answered(made: Path) -> None:
    """Their output rows are 0, as no other row is."""
    head = raw_safetensors(made / "model.safetensors")["lm_head.weight"]
    answered = np.flatnonzero(from_bf16(head).any(axis=1))
    assert answered.tolist() == list(vocabulary(SHAPE.vocab).plain)


@pytest.mark.parametrize("text", ["Hello, wörld! 東京", " bade  bado\n\t123", "", "\x00\x7f", "it's 'we'll'"])
def test_tokenizer_loses_nothing(made: Path, text: str) -> None:
    tokenizer = Tokenizer.from_file(str(made / "tokenizer.json"))
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_random_prompts_survive_as_text(made: Path) -> None:
    """Ids -> text -> ids: an engine that takes only text gets the very same prompt."""
    tokenizer = Tokenizer.from_file(str(made / "tokenizer.json"))
    rng = np.random.default_rng(0)
    for _ in range(20):
        ids = rng.choice(vocabulary(SHAPE.vocab).plain, 200).tolist()
        assert tokenizer.encode(tokenizer.decode(ids)).ids == ids


def test_turns_lie_far_from_a_rounding_border() -> None:
    """Libraries may differ in a cosine's last digit; the grid must not turn that into another byte."""
    half = SHAPE.head // 2
    for offset in SHAPE.offsets:
        for i in range(half):
            speed = SHAPE.theta ** (-i / half)
            for turn in (math.cos(speed * offset), math.sin(speed * offset)):
                fraction = (speed * turn * 128) % 1
                assert abs(fraction - 0.5) > 1e-9


def test_bf16_rounds_to_nearest_even() -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, 1.004, -1.004, 0.0, 3.0e-39], np.float32)
    assert to_bf16(values).tolist() == [0x3F80, 0x3F80, 0x3F82, 0x3F81, 0xBF81, 0x0000, 0x0021]
