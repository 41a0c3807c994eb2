"""The tokenizer of the model `tiny`: a byte-level BPE that is built by rule, without a corpus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.model.bpe import BYTE_LEVEL, tokenizer_json
from harness.model.files import write_json_file

SPECIAL = ("<s>", "</s>")
BOS, EOS = 0, 1
SPACE = "Ġ"  # how byte-level BPE writes a blank


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by id, and the merges in order of rank, in the alphabet of byte-level BPE."""

    tokens: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]
    plain: tuple[int, ...]  # ids whose bytes are whole UTF-8 text: no special token, no byte above 127


def vocabulary(size: int) -> Vocabulary:
    """Two special tokens, the 256 bytes, then syllables ("ba"), begun words (" ba") and words (" bade")."""
    syllables = [c + v for c in "bcdfghjklmnprstvwxyz" for v in "aeiou"]
    count = len(syllables)
    merges = [(s[0], s[1]) for s in syllables] + [(SPACE, s) for s in syllables]
    words = size - len(SPECIAL) - 256 - len(merges)
    for index in range(words):
        first, second = divmod(index * 37 % count**2, count)  # 37 and 10,000 share no factor: no pair twice
        merges.append((SPACE + syllables[first], syllables[second]))
    tokens = (*SPECIAL, *_alphabet(), *(a + b for a, b in merges))
    start = len(SPECIAL)
    return Vocabulary(tokens, tuple(merges), (*range(start, start + 128), *range(start + 256, size)))


def _alphabet() -> list[str]:
    """The 256 bytes as byte-level BPE writes them: printable ones as themselves, the others from U+0100."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(b if b in printable else next(others)) for b in range(256)]


def write_tokenizer(folder: Path, vocab: Vocabulary, context: int) -> None:
    """Writes tokenizer.json and tokenizer_config.json."""
    tokenizer = tokenizer_json(vocab.tokens, vocab.merges, range(len(SPECIAL)), BYTE_LEVEL)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[BOS],
        "eos_token": SPECIAL[EOS],
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }
    write_json_file(folder / "tokenizer.json", tokenizer)
    write_json_file(folder / "tokenizer_config.json", config)
