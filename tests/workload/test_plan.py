"""Comparison files: what is read, and the one line that each mistake gets."""

import hashlib
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.errors import HarnessError
from harness.machine import usable_cores
from harness.workload.checks import check_workload
from harness.workload.load_keys import LoadKeys, load_of
from harness.workload.plan import PRESETS, Plan, read_plan, stored, with_trace
from harness.workload.spec import Workload
from harness.workload.traces import TraceRequest
from tests.loads import load, whole_digest

GOOD = """
name = "x"
rounds = 2
[workload]
input_tokens = 8
output_tokens = 4
[[workload.load]]
concurrency = 2
requests = 6
[[workload.load]]
requests = 3
"""


# One load point is put in for LOAD.
ONE = """
name = "x"
[workload]
input_tokens = 8
output_tokens = 4
[[workload.load]]
LOAD
"""
TRACE = """{"at_s": 1, "input_tokens": 8, "output_tokens": 4}
{"at_s": 1, "input_tokens": 900, "output_tokens": 100}
{"at_s": 3, "input_tokens": 20, "output_tokens": 4}
"""
TRACED = """
name = "x"
[workload]
trace = "t.jsonl"
[[workload.load]]
LOAD
"""


def plan_from(tmp_path: Path, text: str) -> Plan:
    file = tmp_path / "c.toml"
    file.write_text(text)
    return read_plan(file)


def test_reads_every_part(tmp_path: Path) -> None:
    plan = plan_from(tmp_path, GOOD + "[profile]\ncontext_tokens = 64\nprefix_cache = true\n")
    assert (plan.name, plan.rounds, plan.model) == ("x", 2, "tiny")
    assert plan.workload.load == (load(6, 2), load(3, None))
    assert plan.profile.context_tokens == 64
    assert plan.profile.prefix_cache
    assert [p.name for p in plan.workload.load] == ["c2", "offline"]


@pytest.mark.parametrize("preset", sorted(PRESETS.glob("*.toml")), ids=lambda p: p.name)
def test_presets_are_valid_and_list_no_engine_unless_they_are_of_one_model(preset: Path) -> None:
    plan = read_plan(preset)
    assert (plan.candidates == ()) == (plan.model != preset.stem)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("rounds", "ruonds"), "unknown key 'ruonds'. Did you mean 'rounds'? Allowed: budget, candidate,"),
        (GOOD.replace("output_tokens", "output_token"), "unknown key 'workload.output_token'. Did you mean"),
        (GOOD.replace("concurrency", "concurency"), "workload.load[0].concurency'. Did you mean"),
        (GOOD.replace("rounds = 2", "rounds = "), "not TOML: Invalid value (at line 3, column 10)"),
        (GOOD.replace("rounds = 2", 'rounds = "2"'), "Expected `int`, got `str` - at `$.rounds`"),
        (GOOD.replace('name = "', 'name = "../', 1), "; it names a folder"),
        (GOOD.replace("rounds = 2", "rounds = 2000"), "rounds is 2000; it must be at most 1000"),
        (GOOD.replace("requests = 3", "requests = 1_000_000").replace("= 8", "= 900"), "900,000,000 prompt tokens; at"),
        (
            GOOD.replace("rounds", 'ruo\\u001bnds"').replace("ruo", '"ruo'),
            "unknown key 'ruo\\x1bnds'. Did you mean 'rounds'",
        ),
        (GOOD.replace("rounds = 2", "rounds = 0"), "rounds is 0; it must be above 0"),
        (GOOD.replace("requests = 3", "requests = -3"), "workload.load[1].requests is -3"),
        (GOOD.replace("input_tokens = 8", "input_tokens = 1021"), "1021 prompt + 4 output tokens = 1025 exceed"),
        ("port = 70000\n" + GOOD, "port is 70000; it must be from 0 to 65535"),
        (GOOD + "[profile]\nthreads = -1\n", "profile.threads is -1; it must be from 0 to"),
        ("request_deadline_s = inf\n" + GOOD, "request_deadline_s is inf"),
        (GOOD + "[[workload.load]]\nrequests = 9\n", "load offline is there twice"),
        (GOOD.split("[[")[0] + "load = []\n", "workload.load is empty"),
        ("name = 'x'\n", "missing required field `workload`"),
    ],
)
def test_mistakes_get_one_line_with_file_and_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        plan_from(tmp_path, text)
    line = str(caught.value)
    assert said in line
    assert line.startswith(str(tmp_path / "c.toml"))
    assert "\n" not in line


def test_missing_file_names_the_presets(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"no\.toml: cannot read .*Presets in presets/: .*default\.toml"):
        read_plan(tmp_path / "no.toml")


def one(load: str, text: str = ONE) -> str:
    return text.replace("LOAD", load)


# -- kinds of load --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "name"),
    [
        ("requests = 6\nconcurrency = 2", "c2"),
        ("requests = 6\nconcurrency = 2\nduration_s = 30", "c2"),
        ("requests = 6\nconcurrency = 2\nramp_s = 10", "c2-ramp10s"),
        ("requests = 6", "offline"),
        ("requests = 6\nbatch = 3\nduration_s = 2.5", "b3"),
        ("requests = 6\nrate = 2", "r2"),
        ("duration_s = 30\nrate = 2\nconcurrency = 16", "r2-c16-30s"),
        ("duration_s = 30\nrate = 2\narrivals = 'constant'\nramp_to = 20", "r2-constant-to-20-30s"),
        ("requests = 6\nrate = 0.5\narrivals = 'gamma'\nburstiness = 0.25", "r0.5-gamma0.25"),
        ("requests = 20\nrate = 2\ncancel_fraction = 0.1\ncancel_after_s = 1", "r2-cancel10pct"),
    ],
)
def test_every_kind_of_load_can_be_asked_for(tmp_path: Path, load: str, name: str) -> None:
    (point,) = plan_from(tmp_path, one(load)).workload.load
    assert point.name == name


@pytest.mark.parametrize(
    ("load", "said"),
    [
        # no end
        ("concurrency = 2", "load[0].requests is missing: how many prompts to prepare before the clock starts."),
        ("concurrency = 2\nduration_s = 9", "before the clock starts, enough for workload.load[0].duration_s."),
        ("batch = 2", "workload.load[0].requests is missing" ),
        ("seed = 2", "unknown key 'workload.load[0].seed'"),
        ("rate = 2", "needs an end: give workload.load[0].requests, workload.load[0].duration_s or workload.load[0]."),
        ("", "workload.load[0].requests is missing"),
        ("duration_s = 9", "load[0].duration_s is 9.0, but a load without slots or times sends everything at"),
        ("requests = 4\nduration_s = 9", "load[0].duration_s is 9.0, but a load without slots or times"),
        # two kinds at once
        ("requests = 4\nrate = 2\nbatch = 2", "load[0].batch is 2, but a batch is sent when the one before has ended"),
        ("requests = 4\nconcurrency = 2\nbatch = 2", "load[0].concurrency is 2, but a batch sends its 2 requests at"),
        ("requests = 4\nramp_to = 9", "workload.load[0].ramp_to is 9.0, but workload.load[0].rate is missing."),
        ("requests = 4\nconcurrency = 2\nramp_to = 9", "load[0].ramp_to is 9.0, but workload.load[0].rate is missing."),
        ("requests = 4\nbatch = 2\nramp_to = 9", "load[0].ramp_to is 9.0, but workload.load[0].rate is missing."),
        ("requests = 4\narrivals = 'constant'", "load[0].arrivals is constant, but workload.load[0].rate is missing."),
        ("requests = 4\nconcurrency = 1\narrivals = 'gamma'", "load[0].arrivals is gamma, but workload.load[0].rate"),
        ("requests = 4\nburstiness = 2", "load[0].burstiness is 2.0, but workload.load[0].rate is missing."),
        ("requests = 4\nrate = 2\nburstiness = 2", "load[0].burstiness is 2.0, but arrivals are poisson; only gamma"),
        ("requests = 4\nramp_s = 2", "load[0].ramp_s is 2.0, but it opens the slots of workload.load[0].concurrency,"),
        ("requests = 4\nbatch = 2\nramp_s = 2", "load[0].ramp_s is 2.0, but batches have no slots to open"),
        ("requests = 4\nrate = 2\nramp_s = 2", "For a rising rate use workload.load[0].ramp_to."),
        ("requests = 4\nrate = 2\nconcurrency = 2\nramp_s = 2", "For a rising rate use workload.load[0].ramp_to."),
        ("requests = 4\nconcurrency = 2\nramp_s = 9\nduration_s = 9", "but sending stops after workload.load[0].dura"),
        ("requests = 5\nbatch = 2", "load[0].requests is 5, which is not a multiple of workload.load[0].batch = 2"),
        ("requests = 4\narrivals = 'trace'", "load[0].arrivals is trace, but no trace is named (workload.trace)."),
        ("requests = 4\nrate = 1\narrivals = 'posson'", "Invalid enum value 'posson'"),
        # values
        ("requests = 0", "workload.load[0].requests is 0; it must be above 0."),
        ("requests = 4\nconcurrency = -1", "workload.load[0].concurrency is -1; it must be above 0."),
        ("requests = 4\nrate = nan", "workload.load[0].rate is nan; a number must be finite."),
        ("requests = 4\nrate = inf", "workload.load[0].rate is inf; a number must be finite."),
        ("requests = 4\nrate = 1\nramp_to = 0", "workload.load[0].ramp_to is 0.0; it must be above 0."),
        ("requests = 4\nbatch = 0", "workload.load[0].batch is 0; it must be above 0."),
        ("rate = 1\nduration_s = -1", "workload.load[0].duration_s is -1.0; it must be above 0."),
        ("requests = 4\nrate = 1\narrivals = 'gamma'\nburstiness = 0", "load[0].burstiness is 0.0; it must be"),
        ("requests = 4\nrate = 1\narrivals = 'gamma'\nburstiness = 0.001", "burstiness is 0.001; the least is 0.01."),
        ("requests = 4\nconcurrency = 2\nramp_s = -1", "workload.load[0].ramp_s is -1.0; it must be 0 or more."),
        ("requests = 4\nconcurrency = 2\nramp_s = inf", "workload.load[0].ramp_s is inf; a number must be finite."),
        ("requests = 4\ncancel_after_s = nan", "workload.load[0].cancel_after_s is nan; a number must be finite."),
        ("requests = 4\ncancel_fraction = 1.5", "load[0].cancel_fraction is 1.5; it must be from 0 to 1."),
        ("requests = 4\ncancel_fraction = 0.5", "load[0].cancel_fraction needs workload.load[0].cancel_after_s: how"),
        ("requests = 4\ncancel_after_s = 5", "load[0].cancel_after_s needs workload.load[0].cancel_fraction: how"),
        ("requests = 4\ncancel_fraction = 0.1\ncancel_after_s = 1", "cancel_fraction is 0.1; of 4 requests, none."),
        ("rate = 0.01\nduration_s = 9", "load[0].rate 0.01 for workload.load[0].duration_s 9 makes no request."),
        ("rate = 1e300\nduration_s = 1e300", "workload.load[0].rate is 1e+300; it must be at most 1e+09."),
        ("rate = 1e9\nduration_s = 1e9", "duration_s 1e+09 makes 1e+18 requests; at most 1,000,000 are prepared"),
        ("rate = 1e-300\nrequests = 1", "rate is 1e-300; the least is 1e-09."),
        ("requests = 20_000_000", "requests is 20000000; it must be at most 1e+06."),
        ("requests = 4\nrate = 1e-9\nramp_to = 1e9\nduration_s = 9", "makes 4.5e+09 requests; at most 1,000,000"),
    ],
)  # fmt: skip
def test_contradictory_loads_get_one_line(tmp_path: Path, load: str, said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        plan_from(tmp_path, one(load))
    line = str(caught.value)
    assert said in line
    assert line.startswith(str(tmp_path / "c.toml"))
    assert "\n" not in line


def test_lengths_are_needed_without_a_trace(tmp_path: Path) -> None:
    with pytest.raises(
        HarnessError, match=r"workload\.output_tokens is missing; only a trace brings its own lengths\."
    ):
        plan_from(tmp_path, one("requests = 1").replace("output_tokens = 4\n", ""))


# -- workers --------------------------------------------------------------------------------------------------


def test_workers_share_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.workload.plan.usable_cores", lambda: [0, 1, 2, 3])
    assert plan_from(tmp_path, GOOD).workers == 1
    assert plan_from(tmp_path, "workers = 2\n" + GOOD).workers == 2
    for text, said in (
        ("workers = 5\n" + GOOD, "workers is 5; it must be from 1 to 4"),
        ("workers = 0\n" + GOOD, "workers is 0; it must be from 1 to 4"),
        ("workers = 3\n" + GOOD, "workers is 3, but workload.load[0].concurrency is 2; each needs a slot."),
        ("workers = 2\n" + one("requests = 1"), "workers is 2, but load offline has 1 requests."),
        ("workers = 2\n" + one("requests = 4\nbatch = 2"), "workers is 2, but workload.load[0].batch needs 1"),
    ):
        with pytest.raises(HarnessError) as caught:
            plan_from(tmp_path, text)
        assert said in str(caught.value)


def test_no_more_workers_than_cores(tmp_path: Path) -> None:
    cores = len(usable_cores())
    with pytest.raises(HarnessError, match=f"workers is {cores + 1}; it must be from 1 to {cores}"):
        plan_from(tmp_path, f"workers = {cores + 1}\n" + one("requests = 4\nconcurrency = 99"))


# -- traces ---------------------------------------------------------------------------------------------------


def test_a_trace_is_read_beside_its_comparison(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(TRACE)
    work = plan_from(tmp_path, one("arrivals = 'trace'", TRACED)).workload
    assert work.traced == (TraceRequest(0.0, 8, 4), TraceRequest(0.0, 900, 100), TraceRequest(2.0, 20, 4))
    assert (work.trace, work.trace_sha256) == ("t.jsonl", hashlib.sha256(TRACE.encode()).hexdigest())
    assert (work.input_tokens, work.output_tokens) == (None, None)
    assert [work.in_flight(point) for point in work.load] == [3]


def test_a_stored_plan_says_what_was_asked_without_the_trace(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(TRACE)
    plan = plan_from(tmp_path, one("arrivals = 'trace'\nrate = 5", TRACED))
    kept = msgspec.json.decode(msgspec.json.encode(stored(plan)), type=Plan)
    assert kept == plan
    assert kept.workload.traced == ()
    (tmp_path / "t.jsonl").write_text(TRACE.replace("900", "901"))
    other = plan_from(tmp_path, one("arrivals = 'trace'\nrate = 5", TRACED))
    assert kept != other
    again = with_trace(replace(kept.workload, trace_sha256=""), tmp_path, "x")
    assert whole_digest(again, 1, range(9)) == whole_digest(other.workload, 1, range(9))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (one("arrivals = 'trace'\nrequests = 4", TRACED), "requests is 4, but the trace t.jsonl has times for 3."),
        (one("arrivals = 'trace'\nramp_to = 4", TRACED), "ramp_to is 4.0, but the trace sets how the rate changes."),
        (one("arrivals = 'trace'\nbatch = 4", TRACED), "not by the times of a trace"),
        (one("arrivals = 'trace'\nrate = 9\nrequests = 2", TRACED), "of the trace t.jsonl all came at the same time"),
        (one("requests = 4\nconcurrency = 1\n[profile]\ncontext_tokens = 999", TRACED),
         "900 prompt + 100 output tokens = 1000 in the longest request of t.jsonl (of the 4 used, 1 are too long) "
         "exceed profile.context_tokens = 999"),
        (one("arrivals = 'trace'", TRACED).replace("t.jsonl", "u.jsonl"), "u.jsonl: cannot read the trace (No such"),
        (one("arrivals = 'trace'", TRACED).replace("t.jsonl", "c.toml"), "c.toml: line 2: not a known trace format"),
        (one("arrivals = 'trace'", TRACED).replace("[[", "trace_sha256 = 'ab'\n[["), "is another trace: its SHA-256"),
        (one("arrivals = 'trace'", TRACED).replace("[[", "traced = []\n[["), "unknown key 'workload.traced'. Did you"),
        (one("arrivals = 'trace'", TRACED).replace("[[", "input_tokens = 0\n[["), "workload.input_tokens is 0; it"),
    ],
)  # fmt: skip
def test_contradictory_traces_get_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.jsonl").write_text(TRACE)
    with pytest.raises(HarnessError) as caught:
        plan_from(tmp_path, text)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


def test_only_requests_that_are_sent_must_fit(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(TRACE)
    plan_from(tmp_path, one("requests = 1\nconcurrency = 1\n[profile]\ncontext_tokens = 999", TRACED))


def test_a_trace_that_cancels_is_not_cancelled_twice(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(TRACE.replace("4}", '4, "cancel_after_s": 2}'))
    load = "arrivals = 'trace'\ncancel_fraction = 0.5\ncancel_after_s = 1"
    with pytest.raises(HarnessError, match=r"cancel_fraction is 0\.5, but the trace t\.jsonl already says"):
        plan_from(tmp_path, one(load, TRACED))


# -- the command line's workload ------------------------------------------------------------------------------


def flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def test_a_workload_from_flags_is_checked_in_the_words_of_flags() -> None:
    where = "harness replay"

    def check(keys: LoadKeys, output_tokens: int = 4, workers: int = 1) -> None:
        work = Workload(input_tokens=8, output_tokens=output_tokens, load=(load_of(keys, where, flag),))
        check_workload(work, None, where, workers, 2, flags=True)

    def said(*what: Any, **more: Any) -> str:
        with pytest.raises(HarnessError) as caught:
            check(*what, **more)
        return str(caught.value)

    assert said(LoadKeys(4, rate=math.nan)) == "harness replay: --rate is nan; it must be above 0."
    assert said(LoadKeys(4, ramp_to=2.0)) == "harness replay: --ramp-to is 2.0, but --rate is missing."
    assert said(LoadKeys(4), -1) == "harness replay: --output-tokens is -1; it must be above 0."
    assert said(LoadKeys(4), workers=0).startswith("harness replay: --workers is 0; it must be from 1 to 2")
    assert said(LoadKeys(4, batch=2), workers=2).startswith("harness replay: --workers is 2, but --batch needs 1: one")
    check(LoadKeys(4), output_tokens=9**9)


@pytest.mark.live
def test_reading_and_drawing_load_no_heavy_module() -> None:
    """A command's first request is due a second after it was typed."""
    code = "import sys, harness.workload.plan, harness.workload.schedule\n"
    code += "print(sorted({'numpy', 'pyarrow', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
