"""A model's folder may bring code: none of it runs, and no converter sees a secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import engines
from harness.errors import HarnessError
from harness.launch.install import MARK, environment_folder
from harness.model.convert import Converter
from harness.model.own_code import data_only
from harness.model.resolve import resolve, weights
from harness.model.safetensors_file import write_safetensors
from harness.paths import cache_folder
from tests.model.small import CONFIG, write_small

# What the converter asks of this architecture before it loads the tokenizer.
QWEN = {"architectures": ["QWenLMHeadModel"], "num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 1} | {
    "intermediate_size": 8,
    "seq_length": 64,
    "rotary_emb_base": 10000,
    "layer_norm_epsilon": 1e-6,
}
SECRETS = {"HF_TOKEN": "hf_canary", "OPENAI_API_KEY": "sk-canary", "MY_OWN": "canary", "DB": "pg://me:canary@host/x"}
MODULE = "import os, pathlib\npathlib.Path({canary!r}).write_text(repr(dict(os.environ)))\n"
# What llama.cpp's converter does for the architectures that config.json chooses, without transformers: it loads the
# modules that the folder names, with the folder on the path.
CONVERTER = """
import json, os, pathlib, shutil, sys
folder = pathlib.Path(sys.argv[1])
pathlib.Path({seen!r}).write_text(json.dumps([sorted(os.listdir(folder)), dict(os.environ), os.getcwd()]))
sys.path.insert(0, str(folder))
for name in ("config.json", "tokenizer_config.json"):
    for named in json.loads((folder / name).read_text()).get("auto_map", {{}}).values():
        __import__((named[0] if isinstance(named, list) else named).split(".")[0])
for path in folder.glob("*.py"):
    __import__(path.stem)
shutil.copy({made!r}, sys.argv[5])
"""


def hostile(folder: Path, tokenizer: bool) -> Path:
    """A folder whose configs name modules of it; returns the file that they would write."""
    folder.mkdir()
    write_small(folder)
    canary = folder.parent / "canary"
    for name in ("configuration_x.py", "modeling_x.py", "tokenization_x.py", "torch.py", "json.py"):
        (folder / name).write_text(MODULE.format(canary=str(canary)))
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    own = {"AutoConfig": "configuration_x.X", "AutoModelForCausalLM": "modeling_x.X"}
    nested = {"quantizer": {"auto_map": own}}
    (folder / "config.json").write_text(json.dumps({**CONFIG, "auto_map": own, "extra": nested}))
    if tokenizer:
        named = {"AutoTokenizer": ["tokenization_x.T", None]}
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T", "auto_map": named}))
    return canary


def convert(folder: Path, tmp_path: Path, trusted: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], Any, str]:
    """What the converter sees of the folder, of the environment, and where it runs."""
    seen, script = tmp_path / "seen", tmp_path / "convert.py"
    script.write_text(CONVERTER.format(seen=str(seen), made=str(bf16_gguf(tmp_path / "made.gguf"))))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    converter = Converter(Path(sys.executable), script, ("MY_OWN",), trusted)
    weights(resolve(str(folder), tmp_path), "gguf", tmp_path / "cache", lambda: converter, trusted)
    files, environment, where = json.loads(seen.read_text())
    return files, environment, where


def bf16_gguf(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    kind = gguf.GGMLQuantizationType.BF16
    writer.add_tensor("w", gguf.quants.quantize(np.ones((4, 32), np.float32), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.live
def test_the_converter_gets_no_code_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = hostile(tmp_path / "model", tokenizer=False)
    monkeypatch.chdir(tmp_path / "model")  # as `--model .`: nothing may be imported from here either
    files, environment, where = convert(tmp_path / "model", tmp_path, False, monkeypatch)
    assert not canary.exists()
    assert files == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert "canary" not in repr({k: v for k, v in environment.items() if k not in ("PWD", "OLDPWD")})
    assert environment["HF_HUB_OFFLINE"] == environment["TRANSFORMERS_OFFLINE"] == "1"
    assert environment["PATH"] == os.environ["PATH"] and environment["HOME"] == os.environ["HOME"]
    assert Path(where) != tmp_path / "model" and environment["HF_HOME"].startswith(where)


def test_a_tokenizer_with_code_is_refused_before_anything_is_installed(tmp_path: Path) -> None:
    hostile(tmp_path / "model", tokenizer=True)
    model = resolve(str(tmp_path / "model"), tmp_path)
    assert weights(model, "safetensors", tmp_path, None) == model.folder

    def installed() -> Converter:
        raise AssertionError

    with pytest.raises(HarnessError, match=r"tokenizer_config\.json: names code of its own .*trust_remote_code = true"):
        weights(model, "gguf", tmp_path, installed)


@pytest.mark.live
def test_code_that_is_trusted_by_name_runs_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = hostile(tmp_path / "model", tokenizer=True)
    (tmp_path / "model" / "json.py").unlink()  # which the converter of this test has imported already
    files, _, _ = convert(tmp_path / "model", tmp_path, True, monkeypatch)
    assert "tokenization_x.py" in files and "pytorch_model.bin" not in files
    text = canary.read_text()
    assert not any(value in text for value in SECRETS.values())
    (made,) = (tmp_path / "cache" / "models" / "gguf").glob("*.gguf")
    assert made.name.endswith("-own-code.gguf")  # never served to a candidate that did not ask for it


NEW_TOKENIZER = {"backend": "tokenizers", "tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<s>"]}
ROPE = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0}


def test_what_transformers_5_writes_is_copied_as_4_reads_it(tmp_path: Path) -> None:
    """Without the old keys, a Llama of transformers 4 has 10,000 as its base: other weights, silently."""
    write_small(tmp_path)
    local = {"full_attention": {"rope_type": "default", "rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    new = {**CONFIG, "rope_parameters": ROPE, "text_config": {"rope_parameters": local, "dtype": "bfloat16"}}
    (tmp_path / "config.json").write_text(json.dumps(new))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(NEW_TOKENIZER))
    (tmp_path / "copy").mkdir()
    data_only(tmp_path, tmp_path / "copy")
    made = json.loads((tmp_path / "copy" / "config.json").read_text())
    assert (made["rope_theta"], made["rope_scaling"]) == (500000.0, {"rope_type": "llama3", "factor": 8.0})
    assert (made["text_config"]["rope_theta"], made["text_config"]["rope_local_base_freq"]) == (1e6, 1e4)
    assert "rope_scaling" not in made["text_config"]
    tokenizer = json.loads((tmp_path / "copy" / "tokenizer_config.json").read_text())
    assert (tokenizer["tokenizer_class"], tokenizer["additional_special_tokens"]) == (
        "PreTrainedTokenizerFast",
        ["<s>"],
    )
    assert "extra_special_tokens" not in tokenizer
    assert (tmp_path / "copy" / "model.safetensors").resolve() == tmp_path / "model.safetensors"


@pytest.mark.live
def test_a_tokenizer_class_that_the_converter_does_not_know_is_read_by_its_tokenizer_json(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    write_small(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "OfNextYear"}))
    script = tmp_path / "convert.py"
    script.write_text(
        "import json, pathlib, shutil, sys\n"
        "named = json.loads((pathlib.Path(sys.argv[1]) / 'tokenizer_config.json').read_text())['tokenizer_class']\n"
        "if named != 'PreTrainedTokenizerFast': sys.exit(f'ValueError: Tokenizer class {named} does not exist')\n"
        f"shutil.copy({str(bf16_gguf(tmp_path / 'made.gguf'))!r}, sys.argv[5])\n"
    )
    model = resolve(str(folder), tmp_path)
    assert weights(model, "gguf", tmp_path, lambda: Converter(Path(sys.executable), script)).is_file()


@pytest.mark.live
def test_a_failed_conversion_says_that_code_was_left_out(tmp_path: Path) -> None:
    hostile(tmp_path / "model", tokenizer=False)
    script = tmp_path / "convert.py"
    script.write_text("import sys; sys.exit('\\x1b[2Jno such class')")
    with pytest.raises(HarnessError) as refused:
        weights(
            resolve(str(tmp_path / "model"), tmp_path),
            "gguf",
            tmp_path,
            lambda: Converter(Path(sys.executable), script),
        )
    line = str(refused.value)
    assert "failed: \\x1b[2Jno such class; its own code (config.json: auto_map) was not run, trust_remote_code" in line


@pytest.mark.slow
@pytest.mark.live
def test_the_real_converter_runs_no_code_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An architecture for which it loads the tokenizer with remote code; the harness's own refusal is lifted."""
    engine, cache = engines.load()["llamacpp"], cache_folder()
    script = environment_folder(engine, "cpu", engine.version, cache) / "source" / "convert_hf_to_gguf.py"
    done = sorted(path.parent for path in (cache / "engines").glob(f"*/{MARK}"))
    able = [path / "bin/python" for path in done if list(path.glob("lib/python3*/site-packages/sentencepiece"))]
    if not script.is_file() or not able:
        pytest.skip("no converter, or no environment with transformers, in the cache folder")
    canary = hostile(tmp_path / "model", tokenizer=True)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, **QWEN}))
    write_safetensors(
        tmp_path / "model" / "model.safetensors", {"transformer.wte.weight": np.ones((600, 8), np.uint16)}
    )
    monkeypatch.setattr("harness.model.weights.check_code", lambda model, trusted: None)
    with pytest.raises(HarnessError, match="the conversion to GGUF failed"):
        weights(resolve(str(tmp_path / "model"), tmp_path), "gguf", tmp_path, lambda: Converter(able[0], script))
    assert not canary.exists()
    # The same folder and converter, as they were called before: this test can fail.
    env = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    command: list[str | Path] = [
        able[0],
        script,
        tmp_path / "model",
        "--outtype",
        "bf16",
        "--outfile",
        tmp_path / "out.gguf",
    ]
    subprocess.run(command, capture_output=True, env=env, stdin=subprocess.DEVNULL, check=False)
    assert canary.exists()
