"""Comparison files: what is read, and the one line that each mistake gets."""

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.plan import PRESETS, Plan, read_plan
from harness.workload import LoadPoint

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


def plan_from(tmp_path: Path, text: str) -> Plan:
    file = tmp_path / "c.toml"
    file.write_text(text)
    return read_plan(file)


def test_reads_every_part(tmp_path: Path) -> None:
    plan = plan_from(tmp_path, GOOD + "[profile]\ncontext_tokens = 64\nprefix_cache = true\n")
    assert (plan.name, plan.rounds, plan.model) == ("x", 2, "tiny")
    assert plan.workload.load == (LoadPoint(6, 2), LoadPoint(3, None))
    assert plan.profile.context_tokens == 64
    assert plan.profile.prefix_cache
    assert [p.name for p in plan.workload.load] == ["c2", "offline"]


@pytest.mark.parametrize("preset", sorted(PRESETS.glob("*.toml")), ids=lambda p: p.name)
def test_presets_are_valid_and_list_no_engine(preset: Path) -> None:
    assert read_plan(preset).engines == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("rounds", "ruonds"), "unknown key 'ruonds'. Did you mean 'rounds'? Allowed: engines,"),
        (GOOD.replace("output_tokens", "output_token"), "unknown key 'workload.output_token'. Did you mean"),
        (GOOD.replace("concurrency", "concurency"), "workload.load[0].concurency'. Did you mean"),
        (GOOD.replace("rounds = 2", "rounds = "), "not TOML: Invalid value (at line 3, column 10)"),
        (GOOD.replace("rounds = 2", 'rounds = "2"'), "Expected `int`, got `str` - at `$.rounds`"),
        (GOOD.replace("rounds = 2", "rounds = 0"), "rounds is 0; it must be above 0"),
        (GOOD.replace("requests = 3", "requests = -3"), "workload.load[1].requests is -3"),
        (GOOD.replace("input_tokens = 8", "input_tokens = 1021"), "1021 prompt + 4 output tokens = 1025 exceed"),
        ("port = 70000\n" + GOOD, "port is 70000; it must be from 0 to 65535"),
        (GOOD + "[profile]\nthreads = -1\n", "profile.threads is -1; it must be from 0 to"),
        ("request_deadline_s = inf\n" + GOOD, "request_deadline_s is inf"),
        (GOOD + "[[workload.load]]\nrequests = 9\n", "load point offline occurs twice"),
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
