"""Reads a trace: arrival times and lengths of requests, as recorded by a real service.

Four formats, recognised by the first line:
- our own, JSON lines: {"at_s": 0.5, "input_tokens": 64, "output_tokens": 48}, optionally "cancel_after_s"
- Mooncake, JSON lines (github.com/kvcache-ai/Mooncake): timestamp in ms, input_length, output_length, hash_ids
- Azure LLM inference 2023 and 2024, CSV (github.com/Azure/AzurePublicDataset): TIMESTAMP, ContextTokens,
  GeneratedTokens
- BurstGPT, CSV (github.com/HPMLL/BurstGPT), versions 1 and 2: Timestamp in s, Request tokens, Response tokens
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec

from harness.errors import HarnessError

LONGEST_S = 1e9  # between two requests, and until a cancellation
MOST_TOKENS = 2**31 - 1  # schedules keep lengths in 32 bits
BLOCK_TOKENS = 512  # of one hash id of a Mooncake trace


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request: seconds since the first one, lengths in tokens, and after how many seconds its user cancelled it
    (None: never). Requests that begin with the same `blocks` begin with the same tokens: 512 for each id, the last
    block cut to the length."""

    at_s: float
    input_tokens: int
    output_tokens: int
    cancel_after_s: float | None = None
    blocks: tuple[int, ...] = ()


def trace_bytes(path: Path) -> bytes:
    """The file's bytes, for hashing and parsing. Raises HarnessError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as problem:
        raise HarnessError(f"{path}: cannot read the trace ({problem.strerror}).") from None


def parse_trace(data: bytes, file: str) -> tuple[TraceRequest, ...]:
    """The requests in a trace file's bytes, sorted by time, the first at 0; `file` is its name in errors."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise HarnessError(f"{file}: not a trace: not UTF-8 text.") from None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise HarnessError(f"{file}: the trace is empty.")
    found = list(_json_lines(lines, file) if lines[0][1].lstrip().startswith("{") else _csv_lines(lines, file))
    if not found:
        raise HarnessError(f"{file}: the trace holds no request that was answered.")
    # Some traces are only nearly sorted. A stable sort keeps requests with the same time in the file's order.
    found.sort(key=lambda request: request.at_s)
    origin = found[0].at_s
    if not found[-1].at_s - origin <= LONGEST_S:
        raise HarnessError(f"{file}: its last request comes {found[-1].at_s - origin:g} s after the first.")
    return tuple(found) if origin == 0 else tuple(replace(r, at_s=r.at_s - origin) for r in found)


def _unknown_format(file: str, number: int, have: str) -> HarnessError:
    return HarnessError(
        f"{file}: line {number}: not a known trace format ({have[:100]}). Known: JSON lines with at_s, input_tokens, "
        "output_tokens; Mooncake JSON lines with timestamp, input_length, output_length; CSV with TIMESTAMP, "
        "ContextTokens, GeneratedTokens (Azure); CSV with Timestamp, Request tokens, Response tokens (BurstGPT)."
    )


# -- JSON lines -----------------------------------------------------------------------------------------------

Length = Annotated[int, msgspec.Meta(ge=1, le=MOST_TOKENS)]


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


def _json_lines(lines: list[tuple[int, str]], file: str) -> Iterator[TraceRequest]:
    number, first = lines[0]
    try:
        keys = set(msgspec.json.decode(first))
    except msgspec.DecodeError as problem:
        raise HarnessError(f"{file}: line {number}: not JSON: {problem}.") from None
    own = "at_s" in keys
    if not own and not {"timestamp", "input_length"} <= keys:
        raise _unknown_format(file, number, f"keys {', '.join(sorted(keys))}")
    decoder: msgspec.json.Decoder[_Own | _Mooncake] = msgspec.json.Decoder(_Own if own else _Mooncake)
    for number, line in lines:
        try:
            entry = decoder.decode(line)
        except msgspec.DecodeError as problem:  # not JSON, or a wrong field
            raise HarnessError(f"{file}: line {number}: {problem}.") from None
        if isinstance(entry, _Own):
            yield TraceRequest(entry.at_s, entry.input_tokens, entry.output_tokens, entry.cancel_after_s)
            continue
        want = math.ceil(entry.input_length / BLOCK_TOKENS)
        if entry.hash_ids and len(entry.hash_ids) != want:
            # With another block size, prompts would share more or fewer tokens than the recorded ones.
            raise HarnessError(
                f"{file}: line {number}: hash_ids has {len(entry.hash_ids)} ids, but {entry.input_length} tokens "
                f"are {want} blocks of {BLOCK_TOKENS}."
            )
        yield TraceRequest(entry.timestamp / 1000, entry.input_length, entry.output_length, blocks=entry.hash_ids)


# -- CSV ------------------------------------------------------------------------------------------------------


def _csv_lines(lines: list[tuple[int, str]], file: str) -> Iterator[TraceRequest]:
    columns = {name.strip(): i for i, name in enumerate(lines[0][1].split(","))}  # none of them quotes anything
    if {"TIMESTAMP", "ContextTokens", "GeneratedTokens"} <= columns.keys():
        names, seconds, drop_unanswered = ("TIMESTAMP", "ContextTokens", "GeneratedTokens"), _since_first(), False
    elif {"Timestamp", "Request tokens", "Response tokens"} <= columns.keys():
        names, seconds, drop_unanswered = ("Timestamp", "Request tokens", "Response tokens"), _seconds, True
    else:
        raise _unknown_format(file, lines[0][0], f"columns {', '.join(columns)}")
    for number, line in lines[1:]:
        row = line.split(",")
        if len(row) != len(columns):
            raise HarnessError(f"{file}: line {number}: {len(row)} columns, but the first line names {len(columns)}.")
        cells = {name: row[columns[name]].strip() for name in names}
        time, inputs, outputs = names
        try:
            at_s = seconds(cells[time])
        except ValueError:
            raise HarnessError(f"{file}: line {number}: {time} is '{cells[time]}', which is not a time.") from None
        output_tokens = _tokens(cells, outputs, file, number, least=0 if drop_unanswered else 1)
        if output_tokens:  # 0 in BurstGPT: the service failed, so there is no length to replay
            yield TraceRequest(at_s, _tokens(cells, inputs, file, number, least=1), output_tokens)


def _tokens(cells: Mapping[str, str], column: str, file: str, number: int, least: int) -> int:
    text = cells[column]
    value = int(text) if text.isascii() and text.isdigit() else -1
    if value < least:
        raise HarnessError(f"{file}: line {number}: {column} is '{text}'; it must be a whole number from {least}.")
    if value > MOST_TOKENS:
        raise HarnessError(f"{file}: line {number}: {column} is {text}; it must be at most {MOST_TOKENS}.")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _since_first() -> Callable[[str], float]:
    """Reads time stamps as seconds since the first one. Differences are taken between dates, because seconds since
    1970 in a float are only exact to 0.2 us. Fractions below a microsecond are cut; a time without a zone is taken as
    UTC, because in local time one hour repeats each autumn."""
    origin: datetime | None = None

    def seconds(text: str) -> float:
        nonlocal origin
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        origin = origin or moment
        return (moment - origin).total_seconds()

    return seconds
