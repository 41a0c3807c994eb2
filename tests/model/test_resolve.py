"""Folders, files and formats: what is taken, and the one line that says why not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from harness.errors import HarnessError
from harness.model.resolve import Converter, resolve, weights
from harness.model.safetensors_file import write_safetensors
from tests.model.small import CONFIG, write_small


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "small"
    path.mkdir()
    write_small(path)
    return path


def write_beside(folder: Path, kind: gguf.GGMLQuantizationType) -> None:
    writer = gguf.GGUFWriter(folder / "beside.gguf", "llama")
    values = np.ones((4, 32), np.float32)
    writer.add_tensor("blk.0.attn_q.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.add_tensor("output_norm.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def converter(tmp_path: Path, code: str) -> Converter:
    script = tmp_path / "convert.py"
    script.write_text(code)
    return Converter(Path(sys.executable), script)


def test_tiny_is_made_once_and_shared(tmp_path: Path) -> None:
    model = resolve("tiny", tmp_path)
    made = model.folder.stat().st_mtime_ns
    assert resolve("tiny", tmp_path) == model
    assert model.folder.stat().st_mtime_ns == made
    assert model.parameters == 27_271_680
    assert model.context_tokens == 4096
    assert min(model.vocabulary) == 2 and len(model.vocabulary) == 8062
    assert weights(model, "safetensors", tmp_path, None) == model.folder
    assert weights(model, "gguf", tmp_path, None).parent == model.folder
    assert str(tmp_path) not in repr(model.facts())


def test_an_interrupted_make_leaves_nothing_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("harness.model.resolve.make_tiny", stop)
        with pytest.raises(KeyboardInterrupt):
            resolve("tiny", tmp_path)
    assert resolve("tiny", tmp_path).name == "tiny"


def test_a_tiny_of_other_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.model.resolve.make_tiny", write_small)
    with pytest.raises(HarnessError, match="other bytes"):
        resolve("tiny", tmp_path)


def test_local_folder(folder: Path, tmp_path: Path) -> None:
    model = resolve(str(folder), tmp_path)
    assert (model.name, model.revision, model.parameters, model.weight_dtype) == ("small", None, 40, "bfloat16")
    assert model.context_tokens == 64


def test_the_digest_follows_the_weights(folder: Path, tmp_path: Path) -> None:
    before = resolve(str(folder), tmp_path).digest
    (folder / "notes.txt").write_text("no part of the model")
    assert resolve(str(folder), tmp_path).digest == before
    write_safetensors(folder / "model.safetensors", {"a.weight": np.zeros((4, 8), np.uint16)})
    assert resolve(str(folder), tmp_path).digest != before


def test_a_second_copy_of_the_weights_is_not_counted(folder: Path, tmp_path: Path) -> None:
    (folder / "consolidated.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert resolve(str(folder), tmp_path).parameters == 40


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def missing_shard(folder: Path) -> None:
    index = {"weight_map": {"a.weight": "model.safetensors", "b.weight": "model-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def config(**changes: object) -> Callable[[Path], None]:
    kept = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}

    def damage(folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(kept))

    return damage


def eight_bits(folder: Path) -> None:
    """Declared as bfloat16."""
    header = json.dumps({"a.weight": {"dtype": "F8_E4M3", "shape": [4, 8], "data_offsets": [0, 32]}}).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(32)
    (folder / "model.safetensors").write_bytes(data)


def without_context(folder: Path) -> None:
    """Neither in config.json nor, as some have it, in the tokenizer's."""
    config(max_position_embeddings=None)(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 10**30}))


FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove("config.json"), "no config.json"),
        (remove("tokenizer.json"), "no tokenizer.json; save it with transformers"),
        (remove("model.safetensors"), "no *.safetensors file"),
        (cut, "not a whole safetensors file"),
        (missing_shard, "no model-00002.safetensors; it is one of 2 shards"),
        (without_context, "no max_position_embeddings, so its context is not known"),
        (without_context, 'add "max_position_embeddings": N into it.'),
        (config(torch_dtype="float8_e4m3fn"), "quantised weights (float8_e4m3fn)"),
        (config(quantization_config={"quant_method": "awq", "bits": 4}), "quantised weights (awq, 4 bits); "),
        (config(compression_config={"quant_method": "compressed-tensors"}), "quantised weights (compressed-tensors)"),
        (config(text_config={**CONFIG, "quantization_config": FP8}), "quantised weights (fp8); "),
        (eight_bits, "quantised weights (F8_E4M3); a comparison's model has bfloat16, float16 or float32 weights"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "not a tokenizer file"),
    ],
)
def test_a_damaged_folder(folder: Path, tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(folder)
    with pytest.raises(HarnessError) as caught:
        resolve(str(folder), tmp_path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_gguf_file_is_not_a_model(folder: Path, tmp_path: Path) -> None:
    write_beside(folder, gguf.GGMLQuantizationType.BF16)
    with pytest.raises(HarnessError, match="give the folder with the checkpoint's safetensors"):
        resolve(str(folder / "beside.gguf"), tmp_path)


def test_the_gguf_beside_is_used(folder: Path, tmp_path: Path) -> None:
    write_beside(folder, gguf.GGMLQuantizationType.BF16)
    assert weights(resolve(str(folder), tmp_path), "gguf", tmp_path, None) == folder / "beside.gguf"


@pytest.mark.parametrize(
    ("kind", "words"), [("Q8_0", "is quantised: it holds 1 Q8_0"), ("F16", "holds 1 F16"), ("F32", "holds 1 F32")]
)
def test_a_gguf_of_other_precision_is_refused(folder: Path, tmp_path: Path, kind: str, words: str) -> None:
    write_beside(folder, gguf.GGMLQuantizationType[kind])
    with pytest.raises(HarnessError, match=words):
        weights(resolve(str(folder), tmp_path), "gguf", tmp_path, None)


@pytest.mark.live
def test_conversion_is_done_once(folder: Path, tmp_path: Path) -> None:
    model = resolve(str(folder), tmp_path)
    source = tmp_path / "source"
    source.mkdir()
    write_beside(source, gguf.GGMLQuantizationType.BF16)
    copy = converter(
        tmp_path,
        "import shutil, sys\n"
        "assert sys.argv[1].endswith('/small') and sys.argv[2:4] == ['--outtype', 'bf16'], sys.argv\n"
        f"shutil.copy({str(source / 'beside.gguf')!r}, sys.argv[5])\n",
    )
    made = weights(model, "gguf", tmp_path, lambda: copy)
    assert made == tmp_path / "models" / "gguf" / f"{model.digest}-bf16.gguf"
    assert weights(model, "gguf", tmp_path, None) == made
    assert {path.suffix for path in made.parent.iterdir()} <= {".gguf", ".lock"}


@pytest.mark.live
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; print('first\\nlast line', file=sys.stderr); sys.exit(1)", "failed: last line; put a bf16"),
        ("pass", "failed: no message"),
        ("import sys; open(sys.argv[5], 'w').write('no gguf')", "not a readable GGUF file"),
    ],
)
def test_a_conversion_that_fails(folder: Path, tmp_path: Path, code: str, words: str) -> None:
    model = resolve(str(folder), tmp_path)
    with pytest.raises(HarnessError, match=words):
        weights(model, "gguf", tmp_path, lambda: converter(tmp_path, code))
    assert not list((tmp_path / "models" / "gguf").glob("*.gguf"))


@pytest.mark.live
def test_no_converter(folder: Path, tmp_path: Path) -> None:
    model = resolve(str(folder), tmp_path)
    with pytest.raises(HarnessError, match="no GGUF in its folder and no converter"):
        weights(model, "gguf", tmp_path, None)
    gone = Converter(tmp_path / "no-python", tmp_path / "convert.py")
    with pytest.raises(HarnessError, match="cannot be started"):
        weights(replace(model, name="other"), "gguf", tmp_path, lambda: gone)
