"""What to change in the requests of a server that refuses them all, read from what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.records.manifest import ProbeFacts

_STATUS = re.compile(r"HTTP (\d{3})(?::\s*(.*))?", re.DOTALL)
_REFUSES = re.compile(
    r"unknown|unrecogni[sz]ed|unexpected|unsupported|not support|n.t support|not permitted|not allowed|disallowed"
    r"|extra[_ ](?:inputs?|forbidden|fields?)|additional propert|no such (?:field|parameter|argument|property)"
    r"|invalid (?:field|parameter|argument|key)|not a valid (?:field|parameter|argument)|deprecated",
    re.IGNORECASE,
)
_MISSING = re.compile(r"missing|required", re.IGNORECASE)
_LENGTHS = re.compile(r"\b(max_(?:completion|new|output|gen|decode)?_?(?:tokens|length)|n_predict|num_predict)\b")
_TOO_LONG = re.compile(r"context|too (?:long|large|many)|maximum|exceed", re.IGNORECASE)
_OF_A_TYPE = re.compile(r"\b(?:str|strings?|text|list|array|integers?|tokens?|type|unmarshal|decode)\b", re.IGNORECASE)
_A_MODEL = re.compile(r"\bmodels?\b(?!'s name)", re.IGNORECASE)  # not this project's own words for a 404
_PROSE = {"model", "stream", "prompt", "messages", "inputs", "user", "stop", "seed", "n"}  # words of any sentence
_CALLED = r"(?:fields?|param(?:eter)?s?|arguments?|supplied|propert(?:y|ies)|keys?|inputs?)\W{1,4}"


def advice(error: str, asked: ProbeFacts | None, url: str = "") -> str:
    """What would make a server take the requests that it refused with `error`; empty if that is not to be seen.
    `asked`: how they were asked; `url`: where."""
    found = _STATUS.search(error)
    if asked is None:
        return ""
    if not found:  # an error event in a stream
        return _about_fields(error, asked)
    status, said = int(found[1]), found[2] or ""
    if status in (404, 405):
        if url.endswith("/chat/completions") or not url.endswith("/completions") or _A_MODEL.search(said):
            return ""
        return f"If it only has chat, give the URL of that: {url.removesuffix('/completions')}/chat/completions."
    if status not in (400, 415, 422, 500, 501):
        return ""
    if status in (400, 422) and (text := _about_fields(said, asked)):
        return text
    ids = asked.prompt_as == "ids" and not _TOO_LONG.search(said)
    if ids and (status in (400, 415, 422) or _OF_A_TYPE.search(said)):
        return 'If it takes no token ids as prompt: --prompt text (in a comparison file: prompt = "text").'
    return ""


def _about_fields(said: str, asked: ProbeFacts) -> str:
    length = asked.length_field
    other = next((name for name in _LENGTHS.findall(said) if name != length.split(".")[-1]), "")
    sent = [*_names(asked.asked_for), *([length] if length else [])]
    if _REFUSES.search(said) and (names := _named(said, sent)):
        if length in names:
            way = f"--length-field {other}" if other else "--length-field NAME, often max_completion_tokens"
            file = f'length_field = "{other}"' if other else "length_field"
            return f"It does not take the length in {length}: {way} (in a comparison file: {file})."
        flags = " ".join(f"--no-field {name}" for name in names)
        listed = ", ".join(f'"{name}"' for name in names)
        them = "it" if len(names) == 1 else "them"
        return f"It refuses {' and '.join(names)}: {flags} leaves {them} out (in a comparison file: drop = [{listed}])."
    if other and _MISSING.search(said):
        return (
            f'It wants the length in {other}: --length-field {other} (in a comparison file: length_field = "{other}").'
        )
    return ""


def _names(fields: Mapping[str, Any], outer: str = "") -> Iterator[str]:
    """The names of all fields, those of nested objects with dots."""
    for name, value in fields.items():
        yield outer + name
        if isinstance(value, Mapping):
            yield from _names(value, f"{outer}{name}.")


def _named(said: str, sent: list[str]) -> list[str]:
    """The sent fields that a refusal is about: those whose place it gives, else the first one that it names."""
    # FastAPI's words, as they are sent or as they are shown.
    places = [".".join(re.findall(r'"([^"]+)"', one)) for one in re.findall(r"\"loc\": ?\[([^]]*)\]", said)]
    places += re.findall(r"\b(body\.[\w.]+):", said)
    if found := [name for name in sent if f"body.{name}" in places]:
        return found
    at = {name: place for name in sent if (place := _position(said, name)) is not None}
    deep = {name: place for name, place in at.items() if not any(other.startswith(f"{name}.") for other in at)}
    return [min(deep, key=lambda name: deep[name])] if deep else []


def _position(said: str, name: str) -> int | None:
    """Where a message names a field; None if it does not. A word of any sentence must be quoted, or called a field."""
    word = re.escape(name.split(".")[-1])
    pattern = rf"(?<!\w){word}(?!\w)"
    if name in _PROSE:
        pattern = rf"(?<=[\"'`‘“]){word}(?=[\"'`’”])|{_CALLED}{word}(?!\w)"
    found = re.search(pattern, said, re.IGNORECASE)
    return None if found is None else found.start()
