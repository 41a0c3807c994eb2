"""tokenizer.json of a byte-level BPE, written by hand.

Not by the `tokenizers` library, whose releases add fields: the file's bytes, and with them the model's digest, would
change with its version."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

BYTE_LEVEL: Mapping[str, object] = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}


def tokenizer_json(
    tokens: Sequence[str],
    merges: Sequence[tuple[str, str]],
    special: Collection[int],
    pre_tokenizer: Mapping[str, object],
) -> dict[str, object]:
    """`tokens` by id and `merges` by rank, in the alphabet of byte-level BPE; `special`: the ids that no text becomes
    by its merges. Nothing is put before or after a text: a BOS would make every prompt one token longer than one that
    goes as ids."""
    added = [
        {"id": i, "content": tokens[i], "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for i in special
    ]
    bpe = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: i for i, token in enumerate(tokens)},
        "merges": [list(pair) for pair in merges],
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": BYTE_LEVEL,
        "model": bpe,
    }
