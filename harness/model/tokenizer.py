"""A tokenizer without its model: the ids that prompts are drawn from, and prompts as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.model.files import read_object, require
from harness.model.names import MADE, existing, hub_id, snapshot_folder
from harness.model.tokenizer_file import how_to_make, load_tokenizer, plain_ids, tokenizer_errors
from harness.paths import cache_folder
from harness.visible import visible


def find_tokenizer(name: str, cache: Path | None = None) -> Path:
    """The tokenizer.json of a model that is made here, a file, a folder, or a hub id with an optional @revision.

    `cache`: where it is made; None: the cache folder, which nothing else needs. Raises HarnessError without one."""
    path = existing(name)
    if name in MADE:
        from harness.model.resolve import resolve

        path = resolve(name, cache or cache_folder()).folder
    elif path is None and (wanted := hub_id(name)) is not None:
        from harness.model.hub import download

        path, _ = download(*wanted, ["tokenizer.json"])
    if path is None:
        raise HarnessError(f"--tokenizer {visible(name)}: no such file; give a folder, the file, or a hub id.")
    if path.is_dir():
        folder = snapshot_folder(path)
        require(folder / "tokenizer.json", how_to_make(folder))
        return folder / "tokenizer.json"
    return path


def vocabulary(file: Path) -> tuple[int, ...]:
    """The ids that a prompt of ids may hold."""
    return plain_ids(file, None)


def has_chat_template(folder: Path) -> bool:
    """Whether a model's folder has a chat template, which makes one text of a conversation."""
    if any(folder.glob("chat_template*.jinja")) or any(folder.glob("additional_chat_templates/*.jinja")):
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(read_object(config, "it has the chat template").get("chat_template"))


class Texts:
    """Prompts as text, for servers that take no ids. `vocabulary`: the ids that encode back to themselves from text,
    whatever comes before them. `lead`: the ids that the tokenizer, like the server's, puts before every text.
    `vocab_size`: rows of the model's embedding, if they are known."""

    def __init__(self, file: Path, vocab_size: int | None = None) -> None:
        self.file, self.tokenizer = file, load_tokenizer(file)
        with tokenizer_errors(file):
            # Only words that begin with a space: tokenizers split there, so neighbours cannot merge into one token.
            # Byte-level tokenizers write the space as Ġ, SentencePiece as ▁.
            written = {i: self.tokenizer.id_to_token(i) or "" for i in plain_ids(file, vocab_size)}
            whole = [i for i, token in written.items() if token[:1] in ("Ġ", "▁") and token[1:].isalnum()]
            # A tokenizer that puts a space before every text may show one that it would then see twice.
            self._cut = False
            kept = self._kept(whole)
            if not kept:
                self._cut = True
                kept = self._kept(whole)
            self.vocabulary = tuple(kept)
            if not self.vocabulary:
                raise HarnessError(f"{file}: no word encodes back to a single token, so prompts cannot go as text.")
            self.lead, self._tail = self._around(kept[0])

    def _kept(self, ids: Sequence[int]) -> list[int]:
        """Those that encode back to themselves."""
        again = self.tokenizer.encode_batch([self._decoded([i]) for i in ids], add_special_tokens=False)
        return [i for i, e in zip(ids, again, strict=True) if e.ids == [i]]

    def _decoded(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False)
        return text.removeprefix(" ") if self._cut else text

    def _around(self, one: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids that it puts before and after a text of one token."""
        ids = self.tokenizer.encode(self._decoded([one]), add_special_tokens=True).ids
        at = ids.index(one) if one in ids else len(ids)
        return tuple(ids[:at]), tuple(ids[at + 1 :])

    def encode(self, text: str) -> tuple[int, ...] | None:
        """The ids of a text, after `lead`. None if it has special tokens, which would end or steer the prompt, or if
        the ids come back as others: servers that take text would get another prompt than those that take ids."""
        with tokenizer_errors(self.file):
            ids = self.tokenizer.encode(text, add_special_tokens=False).ids
            added = self.tokenizer.get_added_tokens_decoder()
        if not ids or any(i in added and added[i].special for i in ids):
            return None
        whole = (*self.lead, *ids)
        try:
            self.text(whole)
        except HarnessError:
            return None
        return whole

    def text(self, ids: Sequence[int]) -> str:
        """The prompt as text; the server's tokenizer adds `lead`. Raises HarnessError if the text encodes to other ids:
        the prefill would be another amount of work than the one recorded."""
        led = bool(self.lead) and tuple(ids[: len(self.lead)]) == self.lead
        with tokenizer_errors(self.file):
            text = self._decoded(ids[len(self.lead) :] if led else ids)
            again = self.tokenizer.encode(text, add_special_tokens=led).ids
        if again != [*ids, *(self._tail if led else ())]:
            raise HarnessError(f"the text of a prompt of {len(ids)} tokens encodes to other ids; send ids instead.")
        return text
