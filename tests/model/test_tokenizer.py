"""Tokenizers as checkpoints bring them: what they store for training, and texts that encode back to the same ids."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from harness.errors import HarnessError
from harness.model.tokenizer import Texts, find_tokenizer
from harness.model.tokenizer_file import load_tokenizer, plain_ids
from tests.model.small import write_small

SPECIAL = ("<unk>", "<s>", "</s>")
WORDS = [f"{c}{v}{d}" for c in "bdfgkl" for v in "aeiou" for d in "mnrst"]


def sentencepiece(first: str = "always", strips: bool = True) -> Tokenizer:
    """As Llama 2 has it: the mark of a space at each word, byte tokens, a decoder that drops the first space."""
    vocab, merges = {token: i for i, token in enumerate(SPECIAL)}, []
    for token in (*(f"<0x{i:02X}>" for i in range(256)), "▁", *"bdfgklaeioumnrst"):
        vocab[token] = len(vocab)
    for word in WORDS:
        marked = f"▁{word}"
        for cut in range(1, len(marked)):
            if marked[: cut + 1] not in vocab:
                merges.append((marked[:cut], marked[cut]))
                vocab[marked[: cut + 1]] = len(vocab)
    made = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.add_special_tokens(list(SPECIAL))
    if first == "normalizer":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=first)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if strips else steps)
    return made


def with_ends(*ends: str) -> Callable[[Tokenizer], None]:
    """Tokens that it puts around a text, such as BOS."""

    def change(made: Tokenizer) -> None:
        made.post_processor = processors.TemplateProcessing(
            single=" ".join(ends), special_tokens=[(token, i) for i, token in enumerate(SPECIAL)]
        )

    return change


def nothing(made: Tokenizer) -> None:
    pass


@pytest.mark.parametrize("first", ["always", "first", "normalizer"])
@pytest.mark.parametrize("strips", [True, False], ids=["drops the space", "keeps the space"])
@pytest.mark.parametrize(
    ("change", "lead"),
    [
        (nothing, ()),
        (with_ends("<s>", "$A"), (1,)),
        (with_ends("<s>", "$A", "</s>"), (1,)),
        (with_ends("$A", "</s>"), ()),
    ],
    ids=["bare", "bos", "bos and eos", "eos"],
)
def test_texts_encode_back(
    tmp_path: Path, first: str, strips: bool, change: Callable[[Tokenizer], None], lead: tuple[int, ...]
) -> None:
    made = sentencepiece(first, strips)
    change(made)
    made.save(str(tmp_path / "tokenizer.json"))
    texts = Texts(tmp_path / "tokenizer.json")
    assert texts.lead == lead and len(texts.vocabulary) >= len(WORDS)
    ids = [*lead, *texts.vocabulary[-5:]]
    assert made.encode(texts.text(ids), add_special_tokens=False).ids == ids[len(lead) :]
    assert not {*range(3), *range(3 + 128, 259)} & set(plain_ids(tmp_path / "tokenizer.json", None))


def test_stored_truncation_and_padding_touch_no_prompt(tmp_path: Path) -> None:
    made = sentencepiece()
    made.enable_truncation(2)
    made.enable_padding(length=24)
    made.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert (loaded.truncation, loaded.padding) == (None, None)
    texts = Texts(tmp_path / "tokenizer.json")
    ids = list(texts.vocabulary[:8])
    assert sentencepiece().encode(texts.text(ids)).ids == ids


def test_an_added_token_without_its_flags(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    sentencepiece().save(str(file))
    whole = json.loads(file.read_text())
    whole["added_tokens"] = [{"id": one["id"], "content": one["content"]} for one in whole["added_tokens"]]
    file.write_text(json.dumps(whole))
    assert not {0, 1, 2} & set(plain_ids(file, None)) and Texts(file).vocabulary
    whole["added_tokens"] = [{"id": 1}]
    file.write_text(json.dumps(whole))
    with pytest.raises(HarnessError, match=r"not a tokenizer file .missing field `content`"):
        plain_ids(file, None)


def test_a_model_with_a_smaller_embedding_gets_only_its_ids(tmp_path: Path) -> None:
    sentencepiece().save(str(tmp_path / "tokenizer.json"))
    assert max(Texts(tmp_path / "tokenizer.json", 330).vocabulary) < 330


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("tokenizer.model", "make one from tokenizer.model with .*sentencepiece and protobuf"),
        ("vocab.json", "make one from vocab.json"),
        ("vocab.txt", "make one from vocab.txt"),
        ("tekken.json", r"make one from tekken.json with .*convert_tekken_tokenizer\('{folder}/tekken.json'\)"),
        ("qwen.tiktoken", "make one from qwen.tiktoken with .*tiktoken installed"),
        ("README.md", "save it with transformers"),
    ],
)
def test_without_a_tokenizer_json_it_says_what_makes_one(tmp_path: Path, file: str, words: str) -> None:
    write_small(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / file).write_text("{}")
    with pytest.raises(HarnessError, match=f"no tokenizer.json; {words.format(folder=tmp_path)}"):
        find_tokenizer(str(tmp_path), tmp_path)
