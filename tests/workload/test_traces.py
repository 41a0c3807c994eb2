"""Trace files in each format that is published, and what is said of a line that is wrong."""

import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.workload.traces import Part, Trace, TraceRequest, parse_trace, read_trace

OWN = """{"at_s": 0.0, "input_tokens": 64, "output_tokens": 48}
{"at_s": 1.5, "input_tokens": 3, "output_tokens": 2, "cancel_after_s": 0.5}
"""
# In the shape in which each is published.
MOONCAKE = """{"timestamp": 0, "input_length": 28, "output_length": 445, "hash_ids": [298]}
{"timestamp": 27482, "input_length": 2290, "output_length": 316, "hash_ids": [0, 42, 43, 44, 45]}
"""
AZURE_2023 = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 02:00:01.009930+02:00,2399,6
"""
BURSTGPT_1 = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
46.5,GPT-4,417,0,417,API log
118,GPT-4,417,276,693,Conversation log
"""
BURSTGPT_2 = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
5,abc,1.25,ChatGPT,472,18,490,Conversation log
45,abc,8.5,ChatGPT,1087,230,1317,Conversation log
46.5,abc,0,GPT-4,417,0,417,API log
118,def,9,GPT-4,417,276,693,Conversation log
"""
BAILIAN = """{"chat_id": 1, "parent_chat_id": -1, "timestamp": 61.5, "input_length": 14, "output_length": 8, "type": "text", "turn": 1, "hash_ids": [3]}
{"chat_id": 2, "parent_chat_id": 1, "timestamp": 62.0, "input_length": 20, "output_length": 9, "type": "text", "turn": 2, "hash_ids": [3, 4]}
"""  # noqa: E501
BURSTGPT = (TraceRequest(0.0, 472, 18), TraceRequest(40.0, 1087, 230), TraceRequest(113.0, 417, 276))


def parsed(text: str, part: Part | None = None, file: str = "x") -> Trace:
    return parse_trace(io.BytesIO(text.encode()), file, part)


@pytest.mark.parametrize(
    ("text", "requests"),
    [
        (OWN, (TraceRequest(0.0, 64, 48), TraceRequest(1.5, 3, 2, 0.5))),
        (
            MOONCAKE,
            (TraceRequest(0.0, 28, 445, blocks=(298,)), TraceRequest(27.482, 2290, 316, blocks=(0, 42, 43, 44, 45))),
        ),
        (BAILIAN, (TraceRequest(0.0, 14, 8, None, (3,), 16), TraceRequest(0.5, 20, 9, None, (3, 4), 16))),
        (AZURE_2023, (TraceRequest(0.0, 4808, 10), TraceRequest(0.052, 3180, 8))),
        (AZURE_2024, (TraceRequest(0.0, 2162, 5), TraceRequest(1.0, 2399, 6))),
        (BURSTGPT_1, BURSTGPT),
        (BURSTGPT_2, BURSTGPT),
    ],
    ids=["own", "mooncake", "bailian", "azure 2023", "azure 2024", "burstgpt 1", "burstgpt 2"],
)
def test_formats_are_told_by_content(tmp_path: Path, text: str, requests: tuple[TraceRequest, ...]) -> None:
    file = tmp_path / "no-extension"
    file.write_text(text)
    assert read_trace(file, Part()).requests == requests
    floats = re.sub(r'((?:length|tokens)": [0-9]+)', r"\1.0", text)
    assert parsed("sep=,\n" * (text[0] != "{") + floats).requests == requests
    assert parsed("\ufeff" + text.replace("\n", "\r\n")).requests == requests


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_times_are_sorted_and_start_at_zero(times: list[float]) -> None:
    lines = [f'{{"at_s": {t!r}, "input_tokens": {i + 1}, "output_tokens": 1}}' for i, t in enumerate(times)]
    found = parsed("\n".join(lines)).requests
    assert [r.input_tokens - 1 for r in found] == sorted(range(len(times)), key=lambda i: times[i])
    assert [r.at_s for r in found] == [t - min(times) for t in sorted(times)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the trace is empty."),
        (
            "hello\n",
            "line 1: not a known trace format (no JSON object, and none of the columns below among 1).",
        ),
        ("[1, 2]\n", "a JSON array; a trace has one object in each line (jq"),
        ("\n{oops\n", "line 2: not JSON: "),
        ('{"time": 1}', "line 1: not a known trace format (keys time)"),
        (OWN.replace("64", "0"), "line 1: Expected `int` >= 1 - at `$.input_tokens`."),
        (OWN.replace("2,", '"2",'), "line 2: Expected `int`, got `str` - at `$.output_tokens`."),
        (OWN.replace("cancel_after_s", "cancel_after"), "line 2: Object contains unknown field `cancel_after`."),
        (OWN.replace("0.5", "0"), "line 2: Expected `float` > 0.0 - at `$.cancel_after_s`."),
        (OWN.replace("1.5", "NaN"), "line 2: not JSON: JSON is malformed"),
        (OWN + "{", "line 3: "),
        (MOONCAKE.replace("[0, 42,", "[42,"), "line 2: hash_ids has 4 ids, but 2290 tokens are 5 blocks of 512."),
        (MOONCAKE.replace(', "output_length": 316', ""), "line 2: Object missing required field `output_length`."),
        (
            AZURE_2023.replace("2023-11-16 18:17:04", "16 Nov"),
            "line 3: TIMESTAMP is '16 Nov.0319600', which is not a date",
        ),
        (AZURE_2023.replace(",3180,", ",-3,"), "line 3: ContextTokens is '-3'; it must be a whole number from 0."),
        (AZURE_2023.replace(",3180,", ",'3,180',"), "line 3: 4 columns, but the first line names 3."),
        (AZURE_2023.replace(",3180,", ',"3,180",'), "line 3: ContextTokens is '3,180'; it must be a whole number"),
        (AZURE_2023.replace(",3180,", ',"3180,'), "line 3: not CSV: unexpected end of data."),
        (AZURE_2023.replace("2023-11-16 18:17:03.9799600", "12.5"), "line 2: TIMESTAMP is '12.5', which is not a date"),
        (AZURE_2023.replace("TIMESTAMP,", "TIMESTAMP,TIMESTAMP,"), "line 1: the column TIMESTAMP is there 2 times."),
        (AZURE_2023.replace("TIMESTAMP", "arrived_at"), "line 1: the column TIMESTAMP is missing."),
        (AZURE_2023.replace(",", ";"), "line 1: its columns are separated by semicolons; save it with commas"),
        (AZURE_2023.replace(",", "\t"), "line 1: its columns are separated by tabs; save it with commas"),
        ('{"prompt": "secret", "output_tokens": 8}', "line 1: the key prompt holds a prompt; prompts of data sets are"),
        (
            '[{"conversations": [{"value": "secret"}]}]',
            "a JSON array with prompts, such as ShareGPT's; prompts of",
        ),
        ('{\n  "at_s": 0}', "line 1: not JSON: Input data was truncated. A trace has one object in each line."),
        ("x" * 2**21, "line 1 has more than 1,048,576 characters; a trace has a request a line."),
        (
            MOONCAKE.replace("27482", "27482.5"),
            "line 2: timestamp is 27482.5: milliseconds, as Mooncake has",
        ),
        (MOONCAKE.replace('"timestamp": 27482', '"delay": 9'), "line 2: timestamp is missing; a think time (delay)"),
        (
            MOONCAKE + BAILIAN,
            "line 3: it has keys of Bailian's trace, and the lines before have not. Say --trace-format",
        ),
        (
            "id,prompt\n1,secret\n",
            "line 1: the column prompt holds a prompt; prompts of data sets are not replayed yet.",
        ),
        (MOONCAKE.replace("2290", "2290.5"), "line 2: Expected `int`, got `float` - at `$.input_length`."),
        (BAILIAN.replace("[3, 4]", "[3]"), "line 2: hash_ids has 1 ids, but 20 tokens are 2 blocks of 16."),
        (BAILIAN.replace('"turn"', '"t"').replace("_id", ""), "line 1: timestamp is 61.5: milliseconds, as Moon"),
        (
            '{"timestamp": 0, "input_length": 20, "output_length": 8, "hash_ids": [3, 4]}',
            "line 1: hash_ids has 2 ids, but 20 tokens are 1 blocks of 512. As blocks of 16 they would fit",
        ),
        (AZURE_2023.replace(",8\n", "\n"), "line 3: 2 columns, but the first line names 3."),
        (
            AZURE_2023.split("2023")[0],
            "the trace holds no request that can be replayed (trace t.jsonl (azure): 0",
        ),
        (BURSTGPT_1.replace("\n45,", "\n1e999,"), "line 3: Timestamp is '1e999', which is not a time:"),
        (BURSTGPT_1.replace("\n45,", "\n2e9,"), "its last request comes 2e+09 s after the first."),
        (BURSTGPT_1.replace(",230,", ",many,"), "line 3: Response tokens is 'many'; it must be a whole number from 0."),
    ],
)
def test_mistakes_name_file_and_line(text: str, said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        parsed(text, file="dir/t.jsonl")
    assert str(caught.value).startswith(f"dir/t.jsonl: {said}")
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"none: cannot read the trace \(No such file or directory\)\."):
        read_trace(tmp_path / "none", Part())
    with pytest.raises(HarnessError, match=r"x: not a trace: not UTF-8 text\."):
        parse_trace(io.BytesIO(b"\xff\x00"), "x")
