"""config.json, read as tolerantly as engines read it: parts within parts, keys by several names, values of any type."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.model.files import read_object
from harness.visible import visible

# Where a model that sees or hears keeps the part that writes text.
_TEXT_PARTS = ("text_config", "llm_config", "language_config", "lm_config", "text_model_config", "thinker_config")
CONTEXT = (
    *("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "max_seq_len", "max_seq_length"),
    *("seq_length", "context_length", "model_max_length"),
)
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "num_decoder_layers")
HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
KV_HEADS = (
    "num_key_value_heads",
    "num_kv_heads",
    "n_head_kv",
    "multi_query_group_num",
    "n_kv_heads",
    "num_query_groups",
)
HIDDEN = ("hidden_size", "n_embd", "d_model", "dim", "n_embed")
HEAD_SIZE = ("head_dim", "attention_head_dim", "kv_channels")
MOST = 1 << 40  # a number above it is no number of tokens, layers or heads: some configs say 1e30 for "any"


@dataclass(frozen=True, slots=True)
class Config:
    """A model's config.json. `text`: the part for text, which is the whole of it where there are no parts."""

    whole: Mapping[str, Any]
    text: Mapping[str, Any]
    part: str  # the name of that part; empty if it is the whole

    def number(self, names: Sequence[str]) -> int | None:
        """The first of these keys with a whole number above 0, in the text part, else in the whole; None without."""
        for level in (self.text, self.whole):
            for name in names:
                if (value := whole_number(level.get(name))) is not None:
                    return value
        return None

    @property
    def kv_heads(self) -> int | None:
        """Heads with a cache of their own: one for all queries, one for each group of them, or one for each."""
        shared = any(self.text.get(key) is True for key in ("multi_query", "multi_query_attention"))
        if shared and self.text.get("new_decoder_architecture") is not True:  # Falcon has both keys
            return self.number(("multi_query_group_num",)) or 1
        return self.number(KV_HEADS) or self.number(HEADS)

    @property
    def head_size(self) -> int | None:
        """Numbers of one head."""
        heads, hidden = self.number(HEADS), self.number(HIDDEN)
        return self.number(HEAD_SIZE) or (hidden // heads if heads and hidden else None)

    @property
    def kv_values(self) -> int | None:
        """Numbers in the KV cache for one token, 2 x layers x KV heads x head size; None if a key is missing."""
        layers, heads, size = self.number(LAYERS), self.kv_heads, self.head_size
        return 2 * layers * heads * size if layers and heads and size else None

    @property
    def declared_dtype(self) -> str | None:
        """What it calls the precision of the weights, such as "bfloat16"."""
        for level in (self.whole, self.text):
            for key in ("dtype", "torch_dtype"):
                if isinstance(value := level.get(key), str) and value:
                    return visible(value, 40).removeprefix("torch.")
        return None

    @property
    def architecture(self) -> str:
        """The model's class, else its type."""
        names = self.whole.get("architectures") or self.text.get("architectures")
        first = names[0] if isinstance(names, list) and names else self.whole.get("model_type")
        return visible(first, 80) if isinstance(first, str) and first else "unknown"

    @property
    def license(self) -> str | None:
        value = self.whole.get("license")
        return visible(value, 80) if isinstance(value, str) and value else None


def read_config(folder: Path) -> Config:
    """The config.json of a model's folder. Raises HarnessError if there is none, or if it is no JSON object."""
    return config_of(read_object(folder / "config.json", "a model folder needs the checkpoint's config.json"))


def config_of(whole: Mapping[str, Any]) -> Config:
    """The same for one that is read already."""
    text, part = whole, ""
    for _ in range(2):  # thinker_config.text_config
        name = next((name for name in _TEXT_PARTS if isinstance(text.get(name), Mapping)), None)
        if name is None:
            break
        text, part = text[name], f"{part}.{name}".lstrip(".")
    return Config(whole, text, part)


def whole_number(value: Any) -> int | None:
    """A whole number above 0; None for anything else: another type, a fraction, below 1, or absurdly large."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 < value <= MOST and value == math.floor(value) else None  # a comparison with NaN is false
