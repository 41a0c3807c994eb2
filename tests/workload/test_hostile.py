"""Comparison files and traces with a hostile value at every place: one line, or a plan whose names stay folders."""

from __future__ import annotations

import copy
import gzip
import io
import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.records.prices import read_prices
from harness.workload.given_files import MOST_TOML_BYTES, check_folder
from harness.workload.plan import Plan, read_plan
from harness.workload.schedule import build_schedule, warmup_schedule
from harness.workload.traces import parse_trace
from tests.workload.test_traces import AZURE_2023, AZURE_2024, BAILIAN, BURSTGPT_1, BURSTGPT_2, MOONCAKE, OWN

# Every table of a comparison file, and the kinds of load.
WHOLE: dict[str, Any] = {
    "name": "x",
    "model": "tiny",
    "rounds": 2,
    "precision": 0.05,
    "budget": "20m",
    "slo": {"ttft_s": 1.0, "share": 0.9},
    "price": {"usd_per_hour": 2.5},
    "port": 8000,
    "workers": 1,
    "request_deadline_s": 60.0,
    "power_command": "cat",
    "launch": "auto",
    "engines": ["b"],
    "device": "auto",
    "profile": {"context_tokens": 128, "dtype": "model", "prefix_cache": False, "threads": 1},
    "candidate": [
        {"engine": "a", "name": "one", "args": ["-x"], "env": {"A": "1"}, "profile": {"gpus": 1}, "model": "m"},
        {"engine": "a", "url": "http://x", "fields": {"top_p": 0.5}, "key_env": "K"},
    ],
    "workload": {
        "input_tokens": {"from": 8, "to": 16},
        "output_tokens": 8,
        "seed": 1,
        "trace": "t.jsonl",
        "trace_format": "own",
        "trace_from_s": 0.0,
        "trace_for_s": 5.0,
        "load": [
            {"concurrency": 2, "requests": 4, "ramp_s": 1.0},
            {"concurrency": 2, "at_least_s": 1.0, "at_least_requests": 4, "at_most_s": 2.0},
            {"rate": 4.0, "duration_s": 2.0, "arrivals": "gamma", "burstiness": 0.5, "ramp_to": 8.0},
            {"batch": 2, "requests": 4, "cancel_fraction": 0.5, "cancel_after_s": 1.0},
            {"arrivals": "trace"},
        ],
    },
}
HOSTILE = [
    '""', '"../../x"', '"."', '".."', '"/etc/passwd"', '"a."', '"[/x]"', r'"\u0000"', r'"\u001b[2J"', r'"\u202e"',
    '"M\u00fcnchen"', '"' + "x" * 5000 + '"', '"con"', '"nan"', '"1"', "true", "nan", "inf", "-inf", "0", "-1",
    "1", "1.5",
    "1e9", "1e308", "5e-324", "9223372036854775807", "-9223372036854775808", "9" * 400, "9" * 5000, "0x" + "f" * 5000,
    "2024-01-01", "12:00:00", "[]", "{}", "[[]]", '[""]', "[1, true]", "{x = 1}", "{from = 9, to = 1}", "1_000", "=",
    "[" * 50 + "]" * 50, "[" * 5000 + "]" * 5000, "{a = " * 50 + "1" + "}" * 50, "{" + "a." * 30000 + "a = 1}",
]  # fmt: skip


def inline(value: Any) -> str:
    """A value as TOML; what is in a `Raw` stands there as it is."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {inline(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


class Raw:
    def __init__(self, text: str) -> None:
        self.text = text


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in inner:
        yield (*place, key)
        yield from places(held, (*place, key))


def changed(place: tuple[Any, ...], text: str) -> str:
    whole = copy.deepcopy(WHOLE)
    holder = whole
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = Raw(text)
    return "".join(f"{key} = {inline(value)}\n" for key, value in whole.items())


def check_one_line(problem: HarnessError) -> None:
    line = str(problem)
    assert line.isprintable() and len(line) < 1000, line


def check_plan(plan: Plan) -> None:
    """Every name is one folder; the requests can be made."""
    for name in (plan.name, *(one.name for one in plan.candidates), *(load.name for load in plan.workload.load)):
        assert Path("results", name).resolve().parent == Path("results").resolve(), name
    for load in plan.workload.load:
        if plan.workload.count(load) * plan.workload.mean_input < 20_000:
            build_schedule(plan.workload, load, 1, range(100))
            warmup_schedule(plan.workload, load, 1, range(100))


def test_a_hostile_value_at_every_key_of_a_comparison_file(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(OWN)
    file = tmp_path / "c.toml"
    accepted, began = 0, time.monotonic()
    for place in places(WHOLE):
        for text in HOSTILE:
            file.write_text(changed(place, text))
            try:
                plan = read_plan(file)
            except HarnessError as problem:
                check_one_line(problem)
            else:
                accepted += 1
                check_plan(plan)
    assert accepted > 100  # or the file is refused for something else, and nothing is tried
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.toml", "t.jsonl"]
    assert time.monotonic() - began < 120


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 50 + "]" * 50, "is more than 20 tables or arrays deep."),
        ("{" + "a." * 60 + "a = 1}", "its tables or arrays are more than 20 deep."),
        ("2024-01-01", "fields.x is a date or a time, which no key takes; put a text into quotes."),
        ("nan", "fields.x is nan; a number must be finite."),
        ("0xffffffffffffffff", "fields.x is a number of more than 64 bits."),
        ("9" * 5000, "it has a number of more than 4,300 digits."),
        (r'"\u0000"', "fields.x has a null character."),
    ],
)
def test_values_that_no_key_takes_are_named_also_where_any_value_is_taken(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "c.toml").write_text(f"[[candidate]]\nfields = {{x = {text}}}\n")
    with pytest.raises(HarnessError, match=re.escape(said)):
        read_plan(tmp_path / "c.toml")


CELLS = [
    "",
    "0",
    "-1",
    "nan",
    "inf",
    "1e999",
    "9" * 5000,
    "1.5",
    "\u0661",
    "[/x]",
    "\x1b[2J",
    "\0",
    '"',
    "x" * 5000,
    "2024-01-01",
    "1,1",
]
CELLS += [
    "0001-01-01T00:00+23:59",
    "[" * 2000,
    "{" * 2000,
    "null",
    "true",
    '"1"',
    "99999999999999999999",
    "2147483648",
    "\n",
    "\r",
    ";",
]


def mutated(text: str, rng: random.Random) -> bytes:
    """The text with one or two things changed."""
    for _ in range(rng.randint(1, 2)):
        match rng.randrange(5):
            case 0:  # a cell or a value of a key
                ends = [i for i, character in enumerate(text) if character in ',:\n}"'] or [0]
                at = rng.randrange(len(ends))
                end = ends[min(at + 1, len(ends) - 1)]
                text = text[: ends[at] + 1] + rng.choice(CELLS) + text[end:]
            case 1:  # cut
                text = text[: rng.randrange(len(text) + 1)]
            case 2:  # lines in another order, twice
                lines = text.split("\n")
                text = "\n".join(rng.choices(lines, k=len(lines) + 1))
            case 3:  # something between two characters
                at = rng.randrange(len(text) + 1)
                text = text[:at] + rng.choice(CELLS) + text[at:]
            case _:  # a key or a column without its name
                text = text.replace(
                    rng.choice(text.replace("\n", ",").split(",") or [""]) or "\0", rng.choice(CELLS), 1
                )
    data = bytearray(text.encode())
    if data and not rng.randrange(4):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if not rng.randrange(8):
        data = bytearray(gzip.compress(data))
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


@pytest.mark.parametrize("text", [OWN, MOONCAKE, BAILIAN, AZURE_2023, AZURE_2024, BURSTGPT_1, BURSTGPT_2])
def test_mutated_traces_get_one_line_or_requests_that_can_be_replayed(text: str) -> None:
    rng, accepted = random.Random(1), 0
    for _ in range(1000):
        data = mutated(text, rng)
        try:
            found = parse_trace(io.BytesIO(data), "t").requests
        except HarnessError as problem:
            check_one_line(problem)
            continue
        accepted += 1
        assert found[0].at_s == 0 and all(0 <= one.at_s <= 1e9 for one in found)
        assert all(0 < one.input_tokens < 2**31 and 0 < one.output_tokens < 2**31 for one in found)
    assert accepted > 30


def test_files_that_are_no_comparison_file(tmp_path: Path) -> None:
    """A folder, a pipe, an endless device, and files that are too long or in another encoding."""
    os.mkfifo(tmp_path / "pipe")
    for name, data in {
        "long": b"#" * (MOST_TOML_BYTES + 1),
        "latin": "name = 'M\u00fcnchen'".encode("latin-1"),
        "utf-16": "name = 'x'".encode("utf-16"),
        "deep": b"a = " + b"[" * 100_000,
        "dotted": b"a." * 200_000 + b"a = 1",
        "quoted": b'"a".' * 200_000 + b"a = 1",
        "binary": bytes(range(256)),
    }.items():
        (tmp_path / name).write_bytes(data)
    for path in (*tmp_path.iterdir(), tmp_path, Path("/dev/zero"), Path("a\0b"), Path("x" * 300)):
        for read in (read_plan, read_prices):
            with pytest.raises(HarnessError) as caught:
                read(path)
            assert "\n" not in str(caught.value)


def test_folders_whose_name_cannot_be_written_are_refused_at_once() -> None:
    check_folder(Path("M\u00fcnchen [/x]"))
    with pytest.raises(HarnessError, match="is not UTF-8"):
        check_folder(Path("a\udcff"))


def test_an_error_is_one_printable_line() -> None:
    assert str(HarnessError("a\x1b[2J\nb")) == "a\\x1b[2J b"


def test_names_of_other_scripts_are_read_as_utf_8(tmp_path: Path) -> None:
    work = "[workload]\ninput_tokens = 8\noutput_tokens = 4\n[[workload.load]]\nrequests = 1\n"
    text = f'\ufeffname = "Mu\u0308nchen"  # M\u00fcnchen\n{work}'
    (tmp_path / "c.toml").write_bytes(text.encode())
    assert read_plan(tmp_path / "c.toml").name == "M\u00fcnchen"
