"""Traces as people have them: compressed, saved again by other programs, and a part of one."""

import gzip
import io
from pathlib import Path

import pyarrow as pa
import pytest

from harness.errors import HarnessError
from harness.workload import trace_files, traces
from harness.workload.loads import OpenLoop
from harness.workload.schedule import build_schedule
from harness.workload.spec import Workload
from harness.workload.traces import Part, Trace, TraceRequest, parse_trace, read_trace
from tests.workload.test_traces import AZURE_2023, BAILIAN, BURSTGPT, BURSTGPT_1, BURSTGPT_2, MOONCAKE

WANTED = BURSTGPT_2.encode()


def parsed(text: str, part: Part | None = None) -> Trace:
    return parse_trace(io.BytesIO(text.encode()), "t.csv", part)


def written(edit: str) -> str:
    """BurstGPT's lines as some other program writes them."""
    rows = [line.split(",") for line in BURSTGPT_2.strip().split("\n")]
    if edit == "index without a name":
        rows = [[str(i - 1) if i else "", *row] for i, row in enumerate(rows)]
    elif edit == "floats of a column that had gaps":
        rows = [[f"{cell}.0" if cell.isdigit() and i else cell for i, cell in enumerate(row)] for row in rows]
    elif edit == "quotes":
        rows = [[f'"{cell}"' for cell in row] for row in rows]
    elif edit == "dots for blanks, and powers of ten":
        rows = [[{"118": "1.18e+02"}.get(cell, cell).replace(" tokens", ".tokens") for cell in row] for row in rows]
    elif edit == "other columns first":
        rows = [row[::-1] for row in rows]
    elif edit == "empty cells and lines at the end":
        rows = [[*row, "", ""] for row in rows] + [[""] * 10, [""]]
    elif edit == "blanks and case":
        rows = [[f" {cell.lower()} " for cell in row] for row in rows]
    elif edit == "milliseconds since 1970":
        rows = [[str(int(1.7e12 + 1000 * float(row[0]))) if i else row[0], *row[1:]] for i, row in enumerate(rows)]
    elif edit == "dates":
        rows = [[f"2024-01-01T00:0{float(row[0]) // 60:.0f}:{float(row[0]) % 60:06.3f}Z" if i else row[0], *row[1:]]
                for i, row in enumerate(rows)]  # fmt: skip
    return "".join(",".join(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    "edit",
    [
        "index without a name",
        "floats of a column that had gaps",
        "quotes",
        "dots for blanks, and powers of ten",
        "other columns first",
        "empty cells and lines at the end",
        "blanks and case",
        "milliseconds since 1970",
        "dates",
    ],
)
def test_a_trace_that_was_saved_again_is_the_same(edit: str) -> None:
    text = written(edit)
    assert text != BURSTGPT_2
    assert parsed(text).requests == BURSTGPT
    assert parsed(text.replace("\n", "\r")).requests == BURSTGPT


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(data)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_compressed_traces_are_unpacked_and_cut_ones_named(
    tmp_path: Path, pack: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(pack)
    file = tmp_path / "x"
    file.write_bytes(pack(WANTED))
    assert read_trace(file, Part()).requests == BURSTGPT
    file.write_bytes(pack(WANTED)[:-20])
    with pytest.raises(HarnessError, match="file is cut short or damaged"):
        read_trace(file, Part())
    monkeypatch.setattr(trace_files, "MOST_BYTES", 100_000)
    file.write_bytes(pack(b"\n" * 1_000_000))
    with pytest.raises(HarnessError, match="GiB of text; cut it into parts"):
        read_trace(file, Part())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"BZh91AY", "compressed by bzip2"),
        (b"\xfd7zXZ\0\0", "compressed by xz"),
        (b"PK\x03\x04abc", "a zip archive or a spreadsheet"),
        (b"trace.csv".ljust(257, b"\0") + b"ustar", "a tar archive"),
        (b"PAR1....", "a Parquet file"),
        (BURSTGPT_2.encode("utf-16"), "UTF-16 text; save it as UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    ],
)
def test_files_of_other_kinds_are_named(data: bytes, said: str) -> None:
    with pytest.raises(HarnessError, match=f"t: cannot be read as a trace: it is {said}"):
        parse_trace(io.BytesIO(data), "t")


def test_what_is_not_replayed_is_counted_and_named() -> None:
    azure = AZURE_2023.replace(",10\n", ",0\n") + "2023-11-16 18:17:05,0,3\n,4,4\n2023-11-16 18:17:05,NA,4\n"
    facts = parsed(azure).facts
    assert facts.words == (
        "trace t.csv (azure): 5 requests read, 4 left out because no output tokens (1), no prompt tokens (1), "
        "without a time or a length (2)"
    )
    assert parsed(BURSTGPT_2).facts.unused == ("Session ID", "Elapsed time", "Model", "Total tokens", "Log Type")
    assert parsed(BAILIAN).facts.unused == ("chat_id", "parent_chat_id", "type", "turn")
    plus = MOONCAKE.replace('"hash_ids": [298]', '"text_input": "secret", "delay": 5, "session_id": "a"')
    assert parsed(plus).facts.words == (
        "trace t.csv (mooncake): 2 requests read, 0 left out; not used: text_input, delay, session_id"
    )


@pytest.mark.parametrize(
    ("part", "inside"),
    [
        (Part(from_s=1), [3, 2, 5]),
        (Part(from_s=1.5, for_s=2), [2]),
        (Part(for_s=2), [9, 3]),
        (Part(from_s=2, for_s=1e9), [2, 5]),
    ],
)
def test_a_part_of_a_trace_begins_at_zero(part: Part, inside: list[int]) -> None:
    """The lines are out of order: the window counts from the earliest request, not from the first line."""
    lines = [(12.0, 2), (10.0, 9), (11.0, 3), (15.0, 5)]
    text = "".join(f'{{"at_s": {at}, "input_tokens": {n}, "output_tokens": 1}}\n' for at, n in lines)
    found = parsed(text, part)
    assert [request.input_tokens for request in found.requests] == inside
    assert found.requests[0].at_s == 0
    assert found.facts.left_out == {"outside the window": 4 - len(inside)}


def test_a_window_counts_from_the_first_line_also_if_it_was_not_answered() -> None:
    text = BURSTGPT_1.replace("\n5,ChatGPT,472,18,", "\n5,ChatGPT,472,0,")
    assert parsed(text, Part(from_s=100)).requests == (TraceRequest(0.0, 417, 276),)
    assert len(parsed(text, Part(from_s=40)).requests) == 2


def test_a_window_with_nothing_says_how_long_the_trace_is() -> None:
    with pytest.raises(HarnessError, match=r"no request that can be replayed \(.*4 left out.*; it lasts 113 s\)"):
        parsed(BURSTGPT_2, Part(from_s=114))


def test_a_format_that_is_said_decides_the_units() -> None:
    bare = BAILIAN.replace('"chat_id"', '"a"').replace('"parent_chat_id"', '"b"').replace('"turn"', '"c"')
    assert parsed(bare, Part(format="bailian")).requests == parsed(BAILIAN).requests
    assert parsed('{"timestamp": 1.5, "input_length": 9, "output_length": 1}', Part(format="mooncake")).requests
    with pytest.raises(HarnessError, match=r"unknown trace format 'bailan'\. Did you mean 'bailian'"):
        parsed(bare, Part(format="bailan"))


def test_no_more_requests_are_kept_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MOST_KEPT", 2)
    found = parsed(BURSTGPT_2)
    assert found.requests == BURSTGPT[:2]
    assert found.facts.left_out == {"no output tokens": 1, "after the first 2": 1}


def test_one_request_and_all_at_one_time() -> None:
    line = '{"at_s": -7.5, "input_tokens": 9, "output_tokens": 1}\n'
    assert parsed(line).requests == (TraceRequest(0.0, 9, 1),)
    assert parsed(line * 3).requests == (TraceRequest(0.0, 9, 1),) * 3


def test_bailian_prompts_share_blocks_of_16() -> None:
    """Of 20 tokens the first 16 are those of the id that both have."""
    line = '{{"chat_id": {}, "timestamp": 0, "input_length": 20, "output_length": 1, "hash_ids": [7, {}]}}\n'
    found = parsed(line.format(1, 8) + line.format(2, 9)).requests
    one, other = build_schedule(
        Workload(load=(OpenLoop(arrivals="trace"),), traced=found), OpenLoop(arrivals="trace"), 1, range(10**6)
    ).requests
    assert one.prompt_ids[:16] == other.prompt_ids[:16] and one.prompt_ids[16:] != other.prompt_ids[16:]
