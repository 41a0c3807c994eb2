"""tokenizer.json, loaded in one place: without what it stores for training, and with one line for what is wrong."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer

from harness.errors import HarnessError
from harness.model.files import read_object
from harness.visible import visible

_FAST = "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
# Files of tokenizers that have no tokenizer.json -> what makes one of them.
_OTHERS = {
    "tekken.json": "from transformers.integrations.mistral import convert_tekken_tokenizer; "
    "convert_tekken_tokenizer('DIR/tekken.json').save_pretrained('DIR'), with mistral-common installed",
    "*.tiktoken": f"{_FAST}, with tiktoken installed",
    "tiktoken.model": f"{_FAST}, with tiktoken installed",
    "tokenizer.model*": f"{_FAST}, with sentencepiece and protobuf installed",
    "spiece.model": f"{_FAST}, with sentencepiece and protobuf installed",
    "*.model": f"{_FAST}, with sentencepiece and protobuf installed",
    "vocab.json": _FAST,
    "vocab.txt": _FAST,
}


_FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)


def load_tokenizer(file: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json. A stored truncation or padding is switched off: it would cut or lengthen
    prompts that were counted without it. Raises HarnessError."""
    with tokenizer_errors(file), _quiet():
        tokenizer = _read(file)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


def _read(file: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:
        if "missing field" not in str(error):
            raise
    # Other tools leave out what is false of an added token, and the library insists on it.
    whole = read_object(file, "it is the tokenizer")
    added = whole.get("added_tokens")
    if isinstance(added, list):
        whole["added_tokens"] = [{**_FLAGS, **one} if isinstance(one, dict) else one for one in added]
    return Tokenizer.from_str(json.dumps(whole))


@contextlib.contextmanager
def tokenizer_errors(file: Path) -> Iterator[None]:
    """Turns what the library raises about a file into HarnessError: bare Exception, and for what its authors did not
    expect a Rust panic, which derives from BaseException as Ctrl-C does."""
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        raise HarnessError(f"{file}: not a tokenizer file ({visible(str(error))}).") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise HarnessError(f"{file}: not a tokenizer file ({visible(str(error))}).") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A Rust panic writes several lines to stderr, past Python: what matters of them is in its exception."""
    try:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # no stderr
        yield
        return
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def how_to_make(folder: Path) -> str:
    """What makes the missing tokenizer.json of a folder, from the files that are there."""
    for pattern, command in _OTHERS.items():
        if found := sorted(folder.glob(pattern)):
            return (
                f"make one from {visible(found[0].name, 80)} with transformers: {command.replace('DIR', str(folder))}"
            )
    return f"save it with transformers: {_FAST}"


def plain_ids(path: Path, vocab_size: int | None) -> tuple[int, ...]:
    """The ids of ordinary tokens.

    Left out: added and special tokens (they would end or steer a prompt), ids beyond the embedding, and tokens that are
    empty or a part of a character (their text would not encode back to them)."""
    tokenizer = load_tokenizer(path)
    with tokenizer_errors(path), _quiet():
        added = set(tokenizer.get_added_tokens_decoder())
        limit = tokenizer.get_vocab_size() if vocab_size is None else vocab_size
        ids = sorted(i for i in tokenizer.get_vocab(with_added_tokens=False).values() if i not in added and i < limit)
        texts = tokenizer.decode_batch([[i] for i in ids], skip_special_tokens=False)
    plain = tuple(i for i, text in zip(ids, texts, strict=True) if text and "\ufffd" not in text)
    if not plain:
        raise HarnessError(f"{path}: no ordinary token, so no prompt can be drawn from it.")
    return plain
