"""From what a comparison file asks for to what can take part: who is chosen, and what is refused in one line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import engines
from harness.adapter import Engine
from harness.campaign.target import no_text
from harness.commands.candidates import (
    Ground,
    Prepared,
    choose,
    look,
    prepare,
    prompts_of,
    text_needed,
    to_install,
)
from harness.errors import CannotStart, HarnessError
from harness.launch.ways import Here
from harness.model.resolve import Model, resolve
from harness.paths import cache_folder
from harness.workload.candidate import Candidate
from harness.workload.plan import Plan, read_plan
from harness.workload.spec import Workload
from tests.loads import load
from tests.model.small import write_small
from tests.model.test_own_code import bf16_gguf, hostile
from tests.quantised import write_q8_0

KNOWN = engines.load()
FILE = """
name = "x"
[workload]
input_tokens = 16
output_tokens = 8
[[workload.load]]
concurrency = 1
requests = 3
"""
PLAN = Plan("x", Workload(input_tokens=16, output_tokens=8, load=(load(3, 1),)))
NOWHERE = Here(None, "no docker command on PATH", "cpu")


def chosen(folder: Path, tables: str = "", *names: str, engines: str = "") -> list[str]:
    """The names of the candidates of a file with these tables."""
    file = folder / "file.toml"
    file.write_text(engines + FILE + tables)
    return [one.name for one in choose(KNOWN, read_plan(file), names, str(file))]


TABLES = """
[[candidate]]
name = "fp8"
engine = "vllm"
args = ["--quantization", "fp8"]
[[candidate]]
engine = "llamacpp"
"""


def test_the_files_candidates_take_part_in_its_order(tmp_path: Path) -> None:
    assert chosen(tmp_path, TABLES) == ["fp8", "llamacpp"]
    assert chosen(tmp_path, TABLES, engines='engines = ["sglang"]\n') == ["sglang", "fp8", "llamacpp"]


def test_without_any_every_engine_that_can_be_started_does(tmp_path: Path) -> None:
    found = chosen(tmp_path)
    assert {"vllm", "llamacpp", "tgi"} <= set(found) and not {"fake", "openai"} & set(found)


def test_an_engine_that_says_nothing_of_its_speed_is_measured_once_unless_it_is_named() -> None:
    model = resolve("tiny", cache_folder())
    nobody_named = Ground(PLAN, model, NOWHERE, cache_folder(), named=False)
    sglang = look(Candidate(engine="sglang", name="sglang"), KNOWN["sglang"], nobody_named)
    llamacpp = look(Candidate(engine="llamacpp", name="llamacpp"), KNOWN["llamacpp"], nobody_named)
    assert nobody_named.once(sglang) and not nobody_named.once(llamacpp)
    assert not replace(nobody_named, named=True).once(sglang)
    assert not replace(nobody_named, here=replace(NOWHERE, device="cuda")).once(sglang)


def test_what_must_be_installed_waits_and_a_build_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.launch.install.cannot_install", lambda *asked: None)
    ground = Ground(PLAN, resolve("tiny", cache_folder()), NOWHERE, tmp_path)
    names = ("llamacpp", "vllm", "transformers", "fake")
    effort = {name: to_install(look(Candidate(engine=name, name=name), KNOWN[name], ground), ground) for name in names}
    assert sorted(effort, key=effort.__getitem__) == ["fake", "transformers", "vllm", "llamacpp"]
    assert effort["fake"] == 0 < effort["transformers"]
    mine = Candidate(engine="vllm", name="vllm", python=sys.executable)
    assert to_install(look(mine, KNOWN["vllm"], ground), ground) == 0


def test_names_are_those_of_candidates_or_of_engines(tmp_path: Path) -> None:
    assert chosen(tmp_path, TABLES, "llamacpp", "fp8") == ["llamacpp", "fp8"]
    file = tmp_path / "file.toml"
    (one, plain) = choose(KNOWN, read_plan(file), ["fp8", "vllm"], str(file))
    assert (one.args, plain.args) == (("--quantization", "fp8"), ())  # the engine as its own file has it
    with pytest.raises(HarnessError) as refused:
        chosen(tmp_path, TABLES, "fp9")
    assert str(refused.value).startswith(f"{file}: unknown candidate or engine 'fp9'. Did you mean 'fp8'? Allowed: ")


def test_a_name_given_twice_is_measured_twice(tmp_path: Path) -> None:
    assert chosen(tmp_path, TABLES, "fake", "fp8", "fake") == ["fake", "fp8", "fake-again"]
    assert chosen(tmp_path, TABLES, "fp8", "fp8", "fp8", "fp8") == ["fp8", "fp8-again", "fp8-again2", "fp8-again3"]
    file = tmp_path / "file.toml"
    one, other = choose(KNOWN, read_plan(file), ["fp8", "fp8"], str(file))
    assert other == replace(one, name="fp8-again")
    taken = TABLES + '[[candidate]]\nname = "fp8-again"\nengine = "sglang"\n'
    assert chosen(tmp_path, taken, "fp8", "fp8", "fp8-again") == ["fp8", "fp8-again2", "fp8-again"]


def test_an_unknown_engine_is_said_with_its_candidate(tmp_path: Path) -> None:
    with pytest.raises(HarnessError) as refused:
        chosen(tmp_path, '[[candidate]]\nname = "mine"\nengine = "vlm"\n')
    assert f"{tmp_path}/file.toml: candidate mine: unknown engine 'vlm'. Did you mean 'vllm'?" in str(refused.value)
    with pytest.raises(HarnessError, match=r"file\.toml: unknown engine 'vlm'"):
        chosen(tmp_path, engines='engines = ["vlm"]\n')


@pytest.mark.parametrize(
    ("engine", "key", "said"),
    [
        ("llamacpp", 'python = "/opt/bin/python"', "llama.cpp does not take python; it takes program"),
        ("vllm", 'program = "/opt/llama-server"', "vLLM does not take program; it takes python"),
        ("tgi", 'python = "/opt/bin/python"', "TGI does not take python."),
        ("fake", 'image = "mine:1"', "null server does not take image: it has no compose file"),
        ("tgi", 'version = "3.3.6"', "TGI does not take version: it is not installed natively"),
        ("triton", "trust_remote_code = true", "TensorRT-LLM on Triton does not take trust_remote_code: no argument"),
        ("vllm", 'url = "http://x"\ntrust_remote_code = true', "trust_remote_code cannot be combined with url"),
        ("triton", 'prompt = "chat"', "prompt is chat, but TensorRT-LLM on Triton takes text"),
        ("transformers", 'prompt = "ids"', "prompt is ids, but transformers serve takes text"),
        ("vllm", 'url = "http://x/v1/completions"\nprompt = "chat"', "url: prompt is chat, but /v1/completions is the"),
        ("triton", 'url = "http://x:8001"\nprompt = "ids"', "prompt is ids, but TensorRT-LLM on Triton takes text"),
        ("triton", 'url = "http://x:8001"\ndrop = ["a"]', "drop changes a request of JSON"),
        ("openai", 'url = "http://x"\ndrop = ["max_tokens"]', "drop: max_tokens takes each request's length"),
        ("vllm", 'url = "http://x/v1/chat/completions"\nprompt = "ids"', "prompt is ids, but chat takes text"),
        ("openai", 'url = "http://x"\nimage = "mine:1"', "image cannot be combined with url"),
        ("vllm", 'url = "http://x"\nprofile = {threads = 1}', "profile cannot be combined with url"),
        ("vllm", 'key_env = "KEY"', "key_env is for a server that already runs; it needs url"),
        ("vllm", 'served_model = "x"', "served_model is for a server that already runs"),
        ("vllm", 'image = "x:1"\nversion = "1"', "image and version exclude each other"),
        ("vllm", 'python = "/p"\nlaunch = "compose"', "python is for a native start, but launch is compose"),
        ("vllm", 'image = "x:1"\nlaunch = "process"', "image is for containers, but launch is process"),
        ("vllm", "profile = {thread = 1}", "unknown key 'profile.thread'. Did you mean 'profile.threads'?"),
        ("vllm", 'profile = {threads = "1"}', "profile: "),
        ("vllm", "profile = {gpus = 0}", "profile.gpus is 0"),
    ],
)
def test_each_bad_key_is_one_line_with_file_candidate_and_key(engine: str, key: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError) as refused:
        chosen(tmp_path, f'[[candidate]]\nname = "mine"\nengine = "{engine}"\n{key}\n')
    line = str(refused.value)
    assert line.startswith(f"{tmp_path}/file.toml: candidate") and "mine" in line.split(":")[1] and said in line
    assert "\n" not in line


@pytest.mark.parametrize("name", ["", "mine"])
def test_a_key_without_use_names_its_candidate_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    table = f'[[candidate]]\nengine = "tgi"\nversion = "1"\nname = "{name}"\n'
    with pytest.raises(HarnessError, match=rf"file\.toml: candidate {name or 'tgi'}: TGI does not take version"):
        chosen(tmp_path, table)


# -- what a candidate needs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny() -> Model:
    return resolve("tiny", cache_folder())


def prepared(
    candidate: Candidate, engine: Engine, model: Model, folder: Path, here: Here = NOWHERE, **plan: Any
) -> Prepared:
    own = replace(candidate, name=candidate.name or candidate.engine)
    fitted = replace(PLAN, profile=replace(PLAN.profile, dtype="bfloat16"), **plan)
    return prepare(own, engine, Ground(fitted, model, here, folder), lambda text: None)


def why_not(candidate: Candidate, model: Model, folder: Path, **how: Any) -> str:
    with pytest.raises(CannotStart) as refused:
        prepared(candidate, KNOWN[candidate.engine], model, folder, **how)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_users_own_python_is_taken_with_the_environment_around_it(tiny: Model, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch(0o755)
    found = prepared(Candidate(engine="vllm", python=str(python)), KNOWN["vllm"], tiny, tmp_path, launch="compose")
    assert (str(found.way), found.program, found.env) == ("native process on the CPU", str(python), tmp_path / "venv")
    assert found.package == ""  # the engine says its version
    assert not (tmp_path / "engines").exists()
    assert f"{python}x: no such file" in why_not(Candidate(engine="vllm", python=f"{python}x"), tiny, tmp_path)
    assert ": a folder, not a program" in why_not(Candidate(engine="vllm", python=str(tmp_path)), tiny, tmp_path)
    python.chmod(0o644)
    assert f"{python}: may not be executed" in why_not(Candidate(engine="vllm", python=str(python)), tiny, tmp_path)


def test_a_users_own_program_is_taken_as_it_is(tiny: Model, tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.touch(0o755)
    found = prepared(Candidate(engine="llamacpp", program=str(program)), KNOWN["llamacpp"], tiny, tmp_path)
    assert (found.program, found.env, found.package) == (str(program), tmp_path, "")


@pytest.mark.live
@pytest.mark.parametrize("trusted", [False, True])
def test_a_model_is_converted_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    """And code of its folder is left out unless the candidate asks for it by name."""
    folder, script, program = tmp_path / "model", tmp_path / "convert.py", tmp_path / "llama-server"
    folder.mkdir()
    program.touch(0o755)
    write_small(folder)
    made = bf16_gguf(tmp_path / "made.gguf")
    script.write_text(
        f"import os, shutil, sys\nprint(os.listdir(sys.argv[1]))\nshutil.copy({str(made)!r}, sys.argv[5])"
    )
    asked: list[Any] = []

    def converter(engine: Engine, cache: Path, say: object, secrets: object) -> tuple[Path, Path]:
        asked.append(secrets)
        return Path(sys.executable), script

    monkeypatch.setattr("harness.commands.candidates.ensure_converter", converter)
    candidate = Candidate(engine="llamacpp", program=str(program), trust_remote_code=trusted)
    found = prepared(candidate, KNOWN["llamacpp"], resolve(str(folder), tmp_path), tmp_path)
    assert found.weights.read_bytes() == made.read_bytes() and len(asked) == 1
    assert ("own-code" in found.weights.name) is trusted
    assert found.contender.facts().given.get("trust_remote_code", False) is trusted  # said in the result


def test_a_model_whose_conversion_would_run_its_code_is_skipped_with_the_reason(tmp_path: Path) -> None:
    hostile(tmp_path / "model", tokenizer=True)
    model = resolve(str(tmp_path / "model"), tmp_path)
    said = why_not(Candidate(engine="llamacpp"), model, tmp_path)
    assert "trust_remote_code = true" in said and not (tmp_path / "engines").exists()


def test_a_version_is_installed_and_never_a_container_of_another(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def install(engine: Engine, device: str, version: str, cache: Path, say: object, secrets: object) -> Path:
        asked.append((device, version))
        return tmp_path / "env"

    monkeypatch.setattr("harness.commands.candidates.ensure_installed", install)
    client: Any = None
    from harness.launch.docker_host import DockerHost

    here = Here(DockerHost(client, "28", "2.30.0", True), "", "cuda")
    found = prepared(Candidate(engine="vllm", version="0.31.0"), KNOWN["vllm"], tiny, tmp_path, here)
    assert asked == [("cuda", "0.31.0")]
    assert (str(found.way), found.package) == ("native process on the GPU", "0.31.0")
    assert found.program == str(tmp_path / "env" / "bin" / "python")
    found = prepared(Candidate(engine="vllm"), KNOWN["vllm"], tiny, tmp_path, here, launch="process")
    tested = KNOWN["vllm"].tested_on("cuda")
    assert asked[1:] == [("cuda", tested)] and found.package == tested


def test_an_image_is_for_a_container_whatever_the_comparison_prefers(tiny: Model, tmp_path: Path) -> None:
    candidate = Candidate(engine="vllm", image="mine:1")
    assert why_not(candidate, tiny, tmp_path, launch="process") == "no container: no docker command on PATH"


def test_an_engine_that_is_served_by_others_needs_a_url(tiny: Model, tmp_path: Path) -> None:
    assert "give the url of a server that already runs" in why_not(Candidate(engine="openai"), tiny, tmp_path)
    found = prepared(Candidate(engine="openai", url="http://x/v1"), KNOWN["openai"], tiny, tmp_path)
    assert found.way is None and found.how == "already running at http://x/v1"
    assert found.contender.settings == {}
    assert (found.contender.model.shown, found.contender.model.digest) == (False, tiny.digest)


def test_weights_that_an_engine_cannot_load_are_said_before_anything_is_installed(tiny: Model, tmp_path: Path) -> None:
    q8_0 = write_q8_0(tiny.folder / "model.gguf", tmp_path / "tiny-q8_0.gguf")
    said = why_not(Candidate(engine="vllm", model=str(q8_0)), tiny, tmp_path)
    assert said == "cannot load tiny-q8_0.gguf: it takes a folder with safetensors"
    assert "no such file or folder" in why_not(Candidate(engine="vllm", model="./none"), tiny, tmp_path)
    assert not (tmp_path / "engines").exists()


def test_weights_of_its_own_are_a_declared_difference(tiny: Model, tmp_path: Path) -> None:
    q8_0 = write_q8_0(tiny.folder / "model.gguf", tmp_path / "tiny-q8_0.gguf")
    program = tmp_path / "llama-server"
    program.touch(0o755)
    candidate = Candidate(engine="llamacpp", program=str(program), model=str(q8_0))
    for one in (candidate, Candidate(engine="llamacpp", url="http://x", model=str(q8_0))):
        facts = prepared(one, KNOWN["llamacpp"], tiny, tmp_path).contender.model
        assert (facts.digest, facts.weight_dtype, facts.weights) == (tiny.digest, "Q8_0", "tiny-q8_0.gguf")
        assert facts.weights_digest not in (None, tiny.digest)
    plain = prepared(Candidate(engine="llamacpp", program=str(program)), KNOWN["llamacpp"], tiny, tmp_path)
    assert (plain.contender.model.weight_dtype, plain.contender.model.weights) == ("bfloat16", None)


def test_what_a_candidate_has_differently_is_in_its_settings(tiny: Model, tmp_path: Path) -> None:
    fake = KNOWN["fake"]
    one = prepared(Candidate(engine="fake", profile={"context_tokens": 64, "prefix_cache": True}), fake, tiny, tmp_path)
    assert (one.contender.settings["context_tokens"], one.contender.settings["prefix_cache"]) == (64, True)
    assert prepared(Candidate(engine="fake"), fake, tiny, tmp_path).contender.settings["context_tokens"] == 1024


# -- prompts ------------------------------------------------------------------------------------------------------


def asking(*candidates: Mapping[str, Any]) -> list[tuple[Candidate, Engine]]:
    return [(Candidate(**one), KNOWN[one["engine"]]) for one in candidates]


def test_where_one_candidate_takes_text_every_prompt_can_be_text(tiny: Model) -> None:
    ids = prompts_of(tiny, text_needed(asking({"engine": "vllm"}, {"engine": "llamacpp"})))
    assert ids.vocabulary == tiny.vocabulary and ids.text is no_text
    for one in (
        {"engine": "tgi"},
        {"engine": "openai", "url": "http://x/v1/chat/completions/"},
        {"engine": "vllm", "url": "http://x/v1", "prompt": "text"},
    ):
        text = prompts_of(tiny, text_needed(asking({"engine": "vllm"}, one)))
        assert set(text.vocabulary) < set(tiny.vocabulary)
        assert isinstance(text.text(text.vocabulary[:3]), str)
    assert prompts_of(tiny, text_needed(asking({"engine": "openai", "url": "http://x/v1"}))).text is no_text
    with pytest.raises(HarnessError, match="no candidate of this comparison takes text"):
        no_text((1,))


@pytest.mark.parametrize(
    ("engine", "prompt", "ends", "said"),
    [
        ("vllm", "chat", "exact", "prompt is chat, but tiny has no chat template"),
        ("tgi", "", "natural", "answers cannot end by themselves: its compose file serves the model with an end of"),
        ("fake", "chat", "natural", ""),
    ],
)
def test_what_a_model_or_a_start_cannot_do_is_said_before_anything_is_installed(
    engine: str, prompt: Any, ends: Any, said: str
) -> None:
    plan = replace(PLAN, workload=replace(PLAN.workload, ends=ends))
    ground = Ground(plan, resolve("tiny", cache_folder()), NOWHERE, cache_folder())
    candidate = Candidate(engine=engine, name=engine, prompt=prompt)
    if not said:
        assert look(candidate, KNOWN[engine], ground).contender.candidate.prompt == "chat"
        return
    with pytest.raises(CannotStart) as refused:
        look(candidate, KNOWN[engine], ground)
    assert said in str(refused.value)
