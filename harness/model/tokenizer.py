"""A tokenizer without its model: the ids that prompts are drawn from, and prompts as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from harness.errors import HarnessError
from harness.model.model import plain_ids
from harness.paths import cache_folder, expanded


def find_tokenizer(name: str, cache: Path | None = None) -> Path:
    """The tokenizer.json of "tiny", a file, a folder, or a hub id with an optional @revision. `cache`: where "tiny" is
    made; None: the cache folder, which nothing else needs. Raises HarnessError where there is none."""
    path = expanded(name)
    if name == "tiny":
        from harness.model.resolve import resolve

        path = resolve(name, cache or cache_folder()).folder
    elif not path.exists() and name.count("/") == 1 and not name.startswith((".", "/", "~")):
        from harness.model.hub import download

        repo, _, revision = name.partition("@")
        path, _ = download(repo, revision or None, ["tokenizer.json"])
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise HarnessError(f"--tokenizer {name}: no tokenizer.json there; give its folder, the file, or a hub id.")
    return file


def vocabulary(file: Path) -> tuple[int, ...]:
    """The ids that a prompt of ids may hold."""
    return plain_ids(file, None)


class Texts:
    """Prompts as text, for servers that take no ids. `vocabulary`: the ids that encode back to themselves from text,
    whatever comes before them. `lead`: the ids that the tokenizer, like the server's, puts before every text."""

    def __init__(self, file: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(file))
        # Only words that begin with a space: tokenizers split there, so neighbours cannot merge into one token.
        # Byte-level tokenizers write the space as Ġ, SentencePiece as ▁.
        written = {i: self.tokenizer.id_to_token(i) or "" for i in plain_ids(file, None)}
        whole = [i for i, token in written.items() if token[:1] in ("Ġ", "▁") and token[1:].isalnum()]
        again = self.tokenizer.encode_batch([self.tokenizer.decode([i]) for i in whole], add_special_tokens=False)
        self.vocabulary = tuple(i for i, e in zip(whole, again, strict=True) if e.ids == [i])
        if not self.vocabulary:
            raise HarnessError(f"{file}: no word encodes back to a single token, so prompts cannot be sent as text.")
        self.lead: tuple[int, ...] = tuple(self.tokenizer.encode("", add_special_tokens=True).ids)

    def text(self, ids: Sequence[int]) -> str:
        """The prompt as text; the server's tokenizer adds `lead`. Raises HarnessError if the text encodes to other ids:
        the prefill would be another amount of work than the one recorded."""
        led = bool(self.lead) and tuple(ids[: len(self.lead)]) == self.lead
        bare = list(ids[len(self.lead) :] if led else ids)
        text: str = self.tokenizer.decode(bare, skip_special_tokens=False)
        if self.tokenizer.encode(text, add_special_tokens=led).ids != list(ids):
            raise HarnessError(f"the text of a prompt of {len(ids)} tokens encodes to other ids; send ids instead.")
        return text
