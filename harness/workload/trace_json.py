"""Traces in JSON lines: our own, Mooncake's, and those in its shape with other units (Bailian)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, TypeVar

import msgspec

from harness.errors import HarnessError
from harness.visible import visible
from harness.workload.trace_rows import MOST_TOKENS, Rows, wrong

LONGEST_S = 1e9  # between two requests, and until a cancellation
MOONCAKE_BLOCK, BAILIAN_BLOCK = 512, 16  # tokens of one hash id
_BAILIAN_KEYS = {"chat_id", "parent_chat_id", "turn"}
# Keys that hold a prompt in the data sets that people have: ShareGPT, custom files of other tools, Mooncake with text.
PROMPTS = {"conversations", "messages", "prompt", "prompts", "text_input", "text", "question", "instruction", "input"}
_SAY = "Say --trace-format mooncake or bailian (in a comparison file, workload.trace_format)"
NO_PROMPTS = (
    "prompts of data sets are not replayed yet. A trace has times and lengths, and prompts are made: "
    'JSON lines such as {"at_s": 0.5, "input_tokens": 64, "output_tokens": 48}'
)

Keys = Mapping[str, msgspec.Raw]  # of one line, with what they hold
E = TypeVar("E")
_FLOATS = re.compile(r'("(?:in|out)put_(?:length|tokens)"\s*:\s*[0-9]{1,10})\.0+(?=\s*[,}])')
Length = Annotated[int, msgspec.Meta(ge=1, le=MOST_TOKENS)]
Answer = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]  # 0: the service gave none


class _Own(msgspec.Struct, forbid_unknown_fields=True):
    at_s: float
    input_tokens: Length
    output_tokens: Length
    cancel_after_s: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_S)] | None = None


class _Mooncake(msgspec.Struct):
    timestamp: float  # ms
    input_length: Length
    output_length: Length
    hash_ids: tuple[int, ...] = ()


class _Bailian(msgspec.Struct):
    timestamp: float  # s
    input_length: Answer
    output_length: Answer
    hash_ids: tuple[int, ...] = ()


_KINDS: dict[str, type[_Own | _Mooncake | _Bailian]] = {"own": _Own, "mooncake": _Mooncake, "bailian": _Bailian}
JSON_FORMATS = tuple(_KINDS)


def read_json(lines: Iterable[tuple[int, str]], file: str, asked: str) -> Rows:
    """The rows of a trace in JSON lines, each with its number. `asked`: its format, or empty to tell it by its keys.
    Raises HarnessError with the file, the line and the key."""
    rows = Rows()
    keys_of: msgspec.json.Decoder[Keys] = msgspec.json.Decoder(Keys)
    decoder: msgspec.json.Decoder[_Own | _Mooncake | _Bailian] | None = None
    known: set[str] = set()
    for number, line in lines:
        keys = _keys(keys_of, line, file, number)
        if decoder is None:
            rows.format = asked or _format_of(keys, file, number)
            decoder = msgspec.json.Decoder(_KINDS[rows.format])
            known = {field.name for field in msgspec.structs.fields(_KINDS[rows.format])}
        if rows.format == "mooncake" and not asked and not _BAILIAN_KEYS.isdisjoint(keys):
            raise wrong(file, number, f"it has keys of Bailian's trace, and the lines before have not. {_SAY}.")
        if not known.issuperset(keys) and rows.format != "own":  # which refuses them by itself
            rows.not_used(key for key in keys if key not in known)
        try:
            entry = _entry(decoder, line)
        except (msgspec.DecodeError, RecursionError) as problem:  # a wrong field
            raise wrong(file, number, _about(keys, rows.format, problem)) from None
        if not math.isfinite(entry.at_s if isinstance(entry, _Own) else entry.timestamp):
            raise wrong(file, number, "its time is not finite.")
        _add(rows, entry, file, number, told=bool(asked))
    return rows


def _keys(decoder: msgspec.json.Decoder[Keys], line: str, file: str, number: int) -> Keys:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, RecursionError) as problem:
        hint = " A trace has one object in each line." if line.strip() == "{" else ""
        raise wrong(file, number, f"not JSON: {visible(str(problem), 100)}.{hint}") from None


def _entry(decoder: msgspec.json.Decoder[E], line: str) -> E:
    try:
        return decoder.decode(line)
    except msgspec.ValidationError:
        if (found := _FLOATS.sub(r"\1", line)) == line:
            raise
        return decoder.decode(found)  # saved again by a program to which a length is 30.0


def _format_of(keys: Keys, file: str, number: int) -> str:
    """The format whose keys these are."""
    if "at_s" in keys:
        return "own"
    if _BAILIAN_KEYS & set(keys) and {"timestamp", "input_length"} & set(keys):
        return "bailian"
    if {"input_length", "output_length"} & set(keys) and ("input_length" in keys or not PROMPTS & set(keys)):
        return "mooncake"
    if held := sorted(PROMPTS & set(keys)):
        raise wrong(file, number, f"the key {held[0]} holds a prompt; {NO_PROMPTS}.")
    raise unknown_format(file, number, f"keys {', '.join(visible(key, 20) for key in sorted(keys)[:5])}")


def _about(keys: Keys, kind: str, problem: Exception) -> str:
    """What is wrong with a line."""
    if kind == "mooncake" and "timestamp" not in keys and "delay" in keys:
        return "timestamp is missing; a think time (delay) after another request is not replayed yet."
    if kind == "mooncake" and "input_length" not in keys and "text_input" in keys:
        return f"input_length is missing; text_input holds a prompt, and {NO_PROMPTS}."
    return f"{visible(str(problem), 150)}."


def _add(rows: Rows, entry: _Own | _Mooncake | _Bailian, file: str, number: int, told: bool) -> None:
    if isinstance(entry, _Own):
        at = rows.add(entry.at_s, entry.input_tokens, entry.output_tokens)
        if entry.cancel_after_s is not None:
            rows.cancels[at] = entry.cancel_after_s
        return
    mooncake = isinstance(entry, _Mooncake)
    block = rows.block_tokens = MOONCAKE_BLOCK if mooncake else BAILIAN_BLOCK
    if mooncake and not told and not entry.timestamp.is_integer():
        # Read as milliseconds, a trace in seconds would be replayed 1000 times too fast.
        raise wrong(
            file,
            number,
            f"timestamp is {entry.timestamp}: milliseconds, as Mooncake has, or seconds, as Bailian has? {_SAY}.",
        )
    want = math.ceil(entry.input_length / block)
    if entry.hash_ids and len(entry.hash_ids) != want:
        # With another block size, prompts would share more or fewer tokens than the recorded ones.
        bailian = mooncake and len(entry.hash_ids) == math.ceil(entry.input_length / BAILIAN_BLOCK)
        raise wrong(
            file,
            number,
            f"hash_ids has {len(entry.hash_ids)} ids, but {entry.input_length} tokens are {want} blocks of {block}."
            + (" As blocks of 16 they would fit: is it --trace-format bailian?" if bailian else ""),
        )
    at = rows.add(entry.timestamp / 1000 if mooncake else entry.timestamp, entry.input_length, entry.output_length)
    if entry.hash_ids and at >= 0:
        rows.blocks[at] = entry.hash_ids


def array_of(start: str, file: str) -> HarnessError:
    """The error for a file that is one JSON array; `start` is its first line."""
    if any(f'"{key}"' in start for key in PROMPTS):
        return HarnessError(f"{file}: a JSON array with prompts, such as ShareGPT's; {NO_PROMPTS}.")
    return HarnessError(f"{file}: a JSON array; a trace has one object in each line (jq -c '.[]' writes it so).")


def unknown_format(file: str, number: int, have: str) -> HarnessError:
    """The error for a first line that no format begins with. `have` says what it has, without a user's texts."""
    return wrong(
        file,
        number,
        f"not a known trace format ({have}). Known: JSON lines with at_s, input_tokens, output_tokens; Mooncake and "
        "Bailian JSON lines with timestamp, input_length, output_length; CSV with TIMESTAMP, ContextTokens, "
        "GeneratedTokens (Azure); CSV with Timestamp, Request tokens, Response tokens (BurstGPT).",
    )
