"""Reads a trace: arrival times and lengths of requests, as recorded by a real service.

Five formats, recognised by their keys or columns:
- our own, JSON lines: {"at_s": 0.5, "input_tokens": 64, "output_tokens": 48}, optionally "cancel_after_s"
- Mooncake, JSON lines (github.com/kvcache-ai/Mooncake): timestamp in ms, input_length, output_length, hash_ids
- Bailian, JSON lines (github.com/alibaba-edu/qwen-bailian-usagetraces-anon): the same keys beside chat_id,
  parent_chat_id and turn, but timestamp in s and 16 tokens a hash id
- Azure LLM inference, CSV (github.com/Azure/AzurePublicDataset): TIMESTAMP, ContextTokens, GeneratedTokens
- BurstGPT, CSV (github.com/HPMLL/BurstGPT), versions 1 and 2: Timestamp in s, Request tokens, Response tokens
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from harness.errors import HarnessError, unknown
from harness.visible import visible
from harness.workload.given_files import open_file
from harness.workload.trace_csv import CSV_FORMATS, read_csv
from harness.workload.trace_files import text_lines
from harness.workload.trace_json import JSON_FORMATS, LONGEST_S, MOONCAKE_BLOCK, array_of, read_json
from harness.workload.trace_rows import Rows

FORMATS = (*JSON_FORMATS, *CSV_FORMATS)
MOST_KEPT = 1_000_000  # requests of a trace that are kept


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request: seconds since the first one, lengths in tokens, and after how many seconds its user cancelled it
    (None: never). Requests that begin with the same `blocks` begin with the same tokens: `block_tokens` for each id,
    the last block cut to the length."""

    at_s: float
    input_tokens: int
    output_tokens: int
    cancel_after_s: float | None = None
    blocks: tuple[int, ...] = ()
    block_tokens: int = MOONCAKE_BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which part of a trace is replayed, and the format of its file if it was said."""

    format: str = ""
    from_s: float = 0.0  # seconds after the trace's first request
    for_s: float | None = None  # None: to its end


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFacts:
    """What was read of a trace file: `read` requests, of which some were left out, by reason; `unused`: keys or columns
    that are not replayed."""

    file: str
    format: str
    read: int
    left_out: dict[str, int]
    unused: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """`trace day.csv (burstgpt): 11 requests read, 5 left out because no output tokens (5); not used: Model`."""
        reasons = ", ".join(f"{why} ({count:,})" for why, count in self.left_out.items())
        because = f" because {reasons}" if reasons else ""
        unused = f"; not used: {', '.join(self.unused)}" if self.unused else ""
        left = sum(self.left_out.values())
        return f"trace {self.file} ({self.format}): {self.read:,} requests read, {left:,} left out{because}{unused}"


@dataclass(frozen=True, slots=True)
class Trace:
    """The requests of a trace file, sorted by time, the first at 0."""

    requests: tuple[TraceRequest, ...]
    facts: TraceFacts
    sha256: str = ""


def read_trace(path: Path, part: Part) -> Trace:
    """The part of a trace file. Raises HarnessError with the file and the line that is wrong."""
    with open_file(path, "the trace") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0)
        trace = parse_trace(stream, str(path), part)
    return Trace(trace.requests, trace.facts, digest)


def parse_trace(stream: BinaryIO, file: str, part: Part | None = None) -> Trace:
    """The part of a trace in a file's bytes; `file` is its name in errors."""
    part = part or Part()
    if part.format and part.format not in FORMATS:
        raise unknown("trace format", part.format, FORMATS, file)
    rows = _rows(text_lines(stream, file), file, part.format)
    return _part_of(rows, file, part)


def _rows(lines: Iterator[str], file: str, asked: str) -> Rows:
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    first = next(numbered, None)
    if first is None:
        raise HarnessError(f"{file}: the trace is empty.")
    start = first[1].lstrip()
    if start.startswith("["):
        raise array_of(start + "".join(line for _, line in itertools.islice(numbered, 20)), file)
    if asked in JSON_FORMATS if asked else start.startswith("{"):
        return read_json(itertools.chain([first], numbered), file, asked)
    before = itertools.repeat("\n", first[0] - 1)  # so that the csv module counts all lines
    return read_csv(itertools.chain(before, [first[1]], lines), file, asked)


def _part_of(rows: Rows, file: str, part: Part) -> Trace:
    """The requests in the window, the first of them at 0."""
    left_out = Counter(rows.left_out)
    read = rows.read
    # Some traces are only nearly sorted. A stable sort keeps requests with the same time in the file's order.
    times = rows.at_s
    origin, last = (min(rows.earliest, min(times)), max(times)) if times else (0.0, 0.0)
    if not last - origin <= LONGEST_S:
        raise HarnessError(f"{file}: its last request comes {last - origin:g} s after the first.")
    start = origin + part.from_s
    end = float("inf") if part.for_s is None else start + part.for_s
    inside = sorted((i for i, at in enumerate(times) if start <= at < end), key=times.__getitem__)
    if len(inside) < len(times):
        left_out["outside the window"] += len(times) - len(inside)
    if len(inside) > MOST_KEPT:
        left_out[f"after the first {MOST_KEPT:,}"] += len(inside) - MOST_KEPT
    name = os.fsencode(Path(file).name).decode("utf-8", "replace")  # as it was written, whatever the locale is
    facts = TraceFacts(
        file=visible(name), format=rows.format, read=read, left_out=dict(left_out), unused=tuple(rows.unused)
    )
    if not inside:
        lasts = f"; it lasts {last - origin:g} s" if times else ""
        raise HarnessError(f"{file}: the trace holds no request that can be replayed ({facts.words}{lasts}).")
    at_zero = times[inside[0]]
    block = rows.block_tokens or MOONCAKE_BLOCK
    requests = tuple(
        TraceRequest(
            times[i] - at_zero, rows.inputs[i], rows.outputs[i], rows.cancels.get(i), rows.blocks.get(i, ()), block
        )
        for i in inside[:MOST_KEPT]
    )
    return Trace(requests, facts)
