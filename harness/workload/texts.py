"""Real text as prompts: read from a file, dealt to requests, and made ids by the model's tokenizer."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import HarnessError
from harness.visible import visible
from harness.workload.given_files import open_file

BUILT_IN = "built-in"
BUILT_IN_FILE = Path(__file__).with_name("texts.txt")
MOST_BYTES = 64 << 20
MOST_TEXTS = 100_000
SUFFIXES = (".txt", ".jsonl")
CHARACTERS_PER_TOKEN = 4  # of English, about: until a tokenizer has counted


@dataclass(frozen=True, slots=True)
class TextFacts:
    """Where the prompts of a workload come from: how many texts were read, and how many of them were left out because
    the model's tokenizer does not give the same ids for their text again."""

    name: str
    sha256: str
    read: int
    left_out: int = 0

    @property
    def words(self) -> str:
        """`texts built-in: 100 read`, with how many were left out."""
        out = ""
        if self.left_out:
            out = f", {self.left_out} left out because they have special tokens or change on the way through text"
        return f"texts {visible(self.name, 80)}: {self.read} read{out}"


def read_texts(path: Path) -> tuple[tuple[str, ...], str]:
    """The texts of a file and its SHA-256: of .txt one a line, of .jsonl the key `prompt` of each line; empty lines are
    left out. Raises HarnessError for a file that is neither, that holds no text or too many, and for a wrong line."""
    shown = visible(str(path), 500)
    if path.suffix.lower() not in SUFFIXES:
        raise HarnessError(f"{shown}: texts are a .txt file, one a line, or a .jsonl file with a key prompt a line.")
    with open_file(path, "the texts") as file:
        try:
            data = file.read(MOST_BYTES + 1)
        except OSError as problem:
            raise HarnessError(f"{shown}: cannot read the texts ({problem.strerror}).") from None
    if len(data) > MOST_BYTES:
        raise HarnessError(f"{shown}: more than {MOST_BYTES >> 20} MiB of texts.")
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise HarnessError(f"{shown}: not UTF-8 text.") from None
    of_line = _text if path.suffix.lower() == ".txt" else _prompt
    found = [of_line(line, f"{shown}: line {i}") for i, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise HarnessError(f"{shown}: there is no text in it.")
    if len(found) > MOST_TEXTS:
        raise HarnessError(f"{shown}: it has {len(found):,} texts; at most {MOST_TEXTS:,}.")
    return tuple(found), hashlib.sha256(data).hexdigest()


def _text(line: str, where: str) -> str:
    return line.strip()


def _prompt(line: str, where: str) -> str:
    try:
        found: Any = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise HarnessError(f"{where} is not JSON.") from None
    text = found.get("prompt") if isinstance(found, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise HarnessError(f'{where} has no text as its "prompt".')
    return text


def rough_tokens(text: str) -> int:
    """About how many tokens a text has."""
    return max(1, len(text) // CHARACTERS_PER_TOKEN)


def deal(texts: int, count: int, key: str) -> list[int]:
    """Which of `texts` each of `count` requests gets: all of them once, shuffled, then all again. `key` is the seed."""
    rng = random.Random(f"{key}/texts")
    found: list[int] = []
    while len(found) < count:
        found += rng.sample(range(texts), texts)
    return found[:count]


def encode_texts(
    written: tuple[str, ...], encode: Callable[[str], tuple[int, ...] | None], name: str, sha256: str
) -> tuple[tuple[tuple[int, ...], ...], TextFacts]:
    """The texts as ids, and how many were left out: those that `encode` has no ids for. Raises HarnessError if it has
    for none."""
    found = [encode(text) for text in written]
    kept = tuple(ids for ids in found if ids)
    if not kept:
        raise HarnessError(f"texts {visible(name, 80)}: the model's tokenizer gives none of them the same ids again.")
    return kept, TextFacts(name, sha256, len(written), len(written) - len(kept))
