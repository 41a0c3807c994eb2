"""Candidates in a comparison file: what each key means, and the one line that each mistake gets."""

from dataclasses import fields
from pathlib import Path

import msgspec
import pytest

from harness.errors import HarnessError
from harness.workload.candidate import Candidate, candidates_of, profile_of
from harness.workload.plan import Plan, read_plan, stored
from harness.workload.profile import Profile

REST = """
[workload]
input_tokens = 800
output_tokens = 200
[[workload.load]]
requests = 3
concurrency = 1
"""


def plan_from(tmp_path: Path, candidates: str, top: str = "", rest: str = REST) -> Plan:
    file = tmp_path / "c.toml"
    file.write_text(f"name = 'x'\n{top}\n{rest}\n{candidates}\n")
    return read_plan(file)


def table(keys: str) -> str:
    """One candidate with these keys, a line each or with ` / ` between them."""
    return "[[candidate]]\n" + keys.replace(" / ", "\n") + "\n"


def mistake(tmp_path: Path, candidates: str, top: str = "") -> str:
    """The line that a file gets, without the file's name at its beginning."""
    with pytest.raises(HarnessError) as caught:
        plan_from(tmp_path, candidates, top)
    line = str(caught.value)
    assert "\n" not in line and line.startswith(f"{tmp_path / 'c.toml'}: ")
    return line.removeprefix(f"{tmp_path / 'c.toml'}: ")


def test_every_key_of_what_is_started(tmp_path: Path) -> None:
    image = table("""
        name = "big-fp8"
        engine = "big"
        image = "org/big:v1"
        args = ["--quantization", "fp8"]
        env = {BACKEND = "A"}
        launch = "compose"
        model = "./fp8"
        profile = {prefix_cache = true, context_tokens = 2048}
    """)
    python = table("name = 'old' / engine = 'big' / python = '/opt/p' / launch = 'process'")
    program = table("engine = 'big' / program = '/opt/big'")
    first, second, third = plan_from(tmp_path, image + python + program).candidates
    assert first == Candidate(
        engine="big",
        name="big-fp8",
        image="org/big:v1",
        args=("--quantization", "fp8"),
        env={"BACKEND": "A"},
        launch="compose",
        model="./fp8",
        profile={"prefix_cache": True, "context_tokens": 2048},
    )
    assert second == Candidate(engine="big", name="old", python="/opt/p", launch="process")
    assert third == Candidate(engine="big", name="big", program="/opt/big")
    assert not any(one.attached for one in (first, second, third))


def test_every_key_of_what_already_runs(tmp_path: Path) -> None:
    (one,) = plan_from(
        tmp_path,
        table("""
            engine = "openai"
            url = "http://10.0.0.7:8000"
            key_env = "KEY"
            ca_file = "ca.pem"
            served_model = "m-1"
            prompt = "text"
            fields = {min_p = 0.1, stop = ["x"]}
            drop = ["stream_options", "a.b"]
            length_field = "max_completion_tokens"
            model = "./other"
        """),
    ).candidates
    assert one.attached
    assert one == Candidate(
        engine="openai",
        name="openai",
        url="http://10.0.0.7:8000",
        key_env="KEY",
        ca_file="ca.pem",
        served_model="m-1",
        prompt="text",
        fields={"min_p": 0.1, "stop": ["x"]},
        drop=("stream_options", "a.b"),
        length_field="max_completion_tokens",
        model="./other",
    )


def test_what_is_not_said_is_left_to_the_engine_and_the_comparison(tmp_path: Path) -> None:
    (one,) = plan_from(tmp_path, table("engine = 'big'")).candidates
    assert one == Candidate(engine="big", name="big")
    assert {f.name for f in fields(one) if getattr(one, f.name)} == {"engine", "name"}
    assert plan_from(tmp_path, "").candidates == ()


def test_engines_and_candidates_together_in_their_order(tmp_path: Path) -> None:
    tables = table("engine = 'big' / name = 'big-2'") + table("engine = 'other'")
    plan = plan_from(tmp_path, tables, "engines = ['big', 'small']")
    assert [(one.name, one.engine) for one in plan.candidates] == [
        ("big", "big"),
        ("small", "small"),
        ("big-2", "big"),
        ("other", "other"),
    ]
    assert msgspec.json.decode(msgspec.json.encode(stored(plan)), type=Plan) == plan


@pytest.mark.parametrize(
    ("candidates", "top", "said"),
    [
        # names
        (table("engine = 'a'") * 2, "", "two candidates are named a; give one of them another name."),
        (table("engine = 'a'"), "engines = ['a']", "two candidates are named a; give one of them another name."),
        (table("engine = 'a' / name = 'B'"), "engines = ['b']", "two candidates are named b and B; give one of them"),
        ("", "engines = ['a', 'a']", "two candidates are named a; give one of them another name."),
        (table("engine = 'a' / name = '../b'"), "", "candidate[0]: name is '../b'; it names a folder: letters, digits"),
        (table("engine = 'a' / name = '.b'"), "", "candidate[0]: name is '.b'; it names a folder"),
        (table("engine = 'a' / name = 'a b'"), "", "candidate[0]: name is 'a b'; it names a folder"),
        (table("engine = 'a'") + table("engine = 'b/c'"), "", "candidate[1]: name is 'b/c'; it names a folder"),
        (table("engine = ''"), "", "candidate[0]: engine is empty; name the engine that it runs, or whose API it has."),
        (table("name = 'b'"), "", "Object missing required field `engine` - at `$.candidate[0]`"),
        # keys and types
        (table("engine = 'a' / imag = 'b'"), "", "unknown key 'candidate[0].imag'. Did you mean 'candidate[0].image'?"),
        (table("engine = 'a' / rounds = 2"), "", "unknown key 'candidate[0].rounds'."),
        (table("engine = 'a'") + table("engine = 'b' / image = 2"), "",
         "Expected `str`, got `int` - at `$.candidate[1].image`"),
        (table("engine = 'a' / args = '--x'"), "", "Expected `array`, got `str` - at `$.candidate[0].args`"),
        (table("engine = 'a' / args = [1]"), "", "Expected `str`, got `int` - at `$.candidate[0].args[0]`"),
        (table("engine = 'a' / env = {A = 1}"), "", "Expected `str`, got `int` - at `$.candidate[0].env[...]`"),
        (table("engine = 'a' / launch = 'docker'"), "", "Invalid enum value 'docker' - at `$.candidate[0].launch`"),
        (table("engine = 'a' / launch = ['auto']"), "", "Expected `str`, got `array` - at `$.candidate[0].launch`"),
        ("[candidate]\nengine = 'a'", "", "Expected `array`, got `object` - at `$.candidate`"),
        ("", "launch = ['container']", "Expected `str`, got `array` - at `$.launch`"),
        ("", "candidate = ['a']", "Expected `object`, got `str` - at `$.candidate[0]`"),
        # what belongs to something that is started, beside url
        *[
            (table(f"engine = 'a' / url = 'http://h' / {key} = {value}"), "",
             f"candidate[0] (a): {key} cannot be combined with url: the harness does not start that server.")
            for key, value in {"image": "'i'", "version": "'1'", "python": "'p'", "program": "'p'", "args": "['-x']",
                               "env": "{A = 'b'}", "launch": "'process'", "profile": "{gpus = 2}"}.items()
        ],
        # what belongs to something that already runs, without url
        *[
            (table(f"engine = 'a' / {key} = {value}"), "",
             f"candidate[0] (a): {key} is for a server that already runs; it needs url.")
            for key, value in {"key_env": "'K'", "ca_file": "'f'", "served_model": "'m'",
                               "fields": "{a = 1}", "drop": "['a']", "length_field": "'a'"}.items()
        ],
        *[
            (table(f"engine = 'a' / url = 'http://h' / {keys}"), "", f"candidate[0] (a): {said}")
            for keys, said in (
                ("drop = ['prompt']", "prompt is the prompt and cannot be left out."),
                ("drop = ['a'] / fields = {a = 1}", "a is both asked for and left out; decide for one."),
                ("drop = ['a'] / length_field = 'a'", "a is both asked for and left out; decide for one."),
                ("drop = ['a..b']", "'a..b' is no field's name; a dot stands between two names: a.b."),
                ("fields = {n = 2}", "n asks for several answers at once; one is measured for each request."),
                ("fields = {best_of = 3}", "best_of asks for several answers at once; one is measured for each"),
            )
        ],
        # pairs
        *[
            (table(f"engine = 'a' / name = 'n' / {one} = 'x' / {other} = 'y'"), "",
             f"candidate[0] (n): {one} and {other} exclude each other; leave one out.")
            for one, other in (("image", "version"), ("image", "python"), ("image", "program"), ("python", "program"),
                               ("version", "python"), ("version", "program"))
        ],
        (table("engine = 'a' / env = {'A=B' = '1'}"), "",
         "candidate[0] (a): env: 'A=B' cannot be the name of a variable."),
        (table(r'engine = "a" / args = ["x\u0000"]'), "",
         "candidate[0].args[0] has a null character."),
        (table(f"engine = 'a' / name = '{'n' * 101}'"), "",
         "candidate[0]: name has 101 characters; at most 100."),
        (table("engine = 'a' / image = 'i' / launch = 'process'"), "",
         "candidate[0] (a): image is for containers, but launch is process."),
        *[
            (table(f"engine = 'a' / {key} = 'x' / launch = 'compose'"), "",
             f"candidate[0] (a): {key} is for a native start, but launch is compose.")
            for key in ("python", "program", "version")
        ],
        # profile
        (table("engine = 'a' / profile = {gpu = 2}"), "",
         "candidate a: unknown key 'profile.gpu'. Did you mean 'profile.gpus'? Allowed: profile.batched_tokens, "),
        (table("engine = 'a' / name = 'n' / profile = {gpus = '2'}"), "",
         "candidate n: profile: Expected `int`, got `str` - at `$.gpus`"),
        (table("engine = 'a' / profile = {gpus = 0}"), "", "candidate a: profile.gpus is 0; it must be above 0."),
        (table("engine = 'a' / profile = {threads = -1}"), "", "candidate a: profile.threads is -1; it must be from 0"),
        (table("engine = 'a' / profile = {context_tokens = 999}"), "",
         "800 prompt + 200 output tokens = 1000 exceed profile.context_tokens = 999."),
    ],
)  # fmt: skip
def test_mistakes_get_one_line_with_candidate_and_key(tmp_path: Path, candidates: str, top: str, said: str) -> None:
    assert mistake(tmp_path, candidates, top).startswith(said)


def test_a_container_is_started_by_compose(tmp_path: Path) -> None:
    """The key's value was once called container."""
    plan = plan_from(tmp_path, table("engine = 'a' / launch = 'container'") + table("engine = 'b'"))
    assert (plan.launch, [one.launch for one in plan.candidates]) == ("auto", ["compose", ""])
    assert plan_from(tmp_path, "", "launch = 'container'").launch == "compose"
    assert plan_from(tmp_path, table("engine = 'a' / launch = 'process'"), "launch = 'compose'").launch == "compose"
    assert mistake(tmp_path, table("engine = 'a' / launch = 'container' / program = '/p'")).startswith(
        "candidate[0] (a): program is for a native start, but launch is compose."
    )


def test_a_candidates_profile_is_the_comparisons_with_what_it_has_differently() -> None:
    common = Profile(context_tokens=2048, gpus=2)
    one = Candidate(engine="a", name="a", profile={"prefix_cache": True, "gpus": 1})
    assert profile_of(common, one, "f") == Profile(context_tokens=2048, gpus=1, prefix_cache=True)
    assert profile_of(common, Candidate(engine="a", name="a"), "f") == common


def test_prompts_must_fit_what_is_started_and_nothing_else(tmp_path: Path) -> None:
    small = "[profile]\ncontext_tokens = 500\n"
    larger = "engine = 'a' / profile = {context_tokens = 1000}"
    plan_from(tmp_path, small + table(larger))
    plan_from(tmp_path, small + table("engine = 'a' / url = 'http://h'"))  # has the context that it was started with
    for candidates in ("", table("engine = 'b'"), table(larger) + table("engine = 'b'")):
        assert "exceed profile.context_tokens = 500" in mistake(tmp_path, small + candidates)


def test_names_are_filled_in_once() -> None:
    made = candidates_of(["a"], [Candidate(engine="b"), Candidate(engine="b", name="c.d_e-F9")], "f")
    assert [one.name for one in made] == ["a", "b", "c.d_e-F9"]
