"""Every flag that a launch line passes, and every field that a request sends, is one that the engine itself knows.

What it knows is asked of the engine where one runs here, read from its own sources where its package can be had, and
else from the lists in tests/flags, which name their source."""

import ast
import json
import re
import subprocess
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from harness.adapter import Dialect
from tests.containers import config, service
from tests.flag_parts import (
    ENGINES,
    added,
    definition,
    fields,
    installed,
    lmdeploy,
    lmdeploy_wheel,
    passed,
    sent,
    sglang,
    strings,
    vllm_wheel,
)

FLAGS = Path(__file__).parent / "flags"


def listed(name: str) -> set[str]:
    lines = (FLAGS / name).read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


# -- llama.cpp, asked -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_llamacpp_knows_its_flags() -> None:
    program = installed("llamacpp") / "build" / "bin" / "llama-server"
    told = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    known = set(re.findall(r"(?:^|, +)(--[\w-]+)", told, re.MULTILINE))
    assert len(known) > 150
    assert passed(ENGINES["llamacpp"]) - known == set()
    environment = service(ENGINES["llamacpp"], "cuda")["environment"]
    ours = {name for name in environment if name.startswith("LLAMA_ARG_")}
    assert ours and all(f"(env: {name})" in told for name in ours)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_llamacpp_knows_the_fields_of_a_request() -> None:
    source = installed("llamacpp") / "source" / "tools" / "server"
    text = "".join(path.read_text() for path in source.glob("server-*.cpp"))
    assert {name for name in sent(ENGINES["llamacpp"]) if f'"{name}"' not in text} == set()


# -- What `python -m` starts on CUDA, read from the wheels ----------------------------------------------------

SUBCOMMANDS = {"vllm": "vllm/entrypoints/cli/serve.py", "lmdeploy": "lmdeploy/cli/serve.py", "sglang": ""}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_module_that_starts_an_engine_on_cuda_can_be_run(name: str) -> None:
    """As a module, or as a package with a __main__; and it knows the subcommands that follow."""
    native = ENGINES[name].native_on("cuda")
    assert native is not None
    module, *words = native.command[native.command.index("-m") + 1 :]
    source = {"vllm": vllm_wheel, "lmdeploy": lmdeploy_wheel, "sglang": sglang}[name]()
    paths = [f"{module.replace('.', '/')}{end}" for end in (".py", "/__main__.py")]
    (path,) = (path for path in paths if path in source.namelist())
    tests = [ast.unparse(n.test) for n in ast.parse(source.read(path)).body if isinstance(n, ast.If)]
    assert "__name__ == '__main__'" in tests
    subcommands = list(takewhile(str.isidentifier, words))
    if subcommands:
        assert set(subcommands) <= set(strings(ast.parse(source.read(SUBCOMMANDS[name]))))


# -- LMDeploy and SGLang, read from their wheels ------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_lmdeploy_knows_its_flags() -> None:
    command = definition(lmdeploy("cli/serve.py"), "add_parser_api_server")
    helpers = definition(lmdeploy("cli/utils.py"), "ArgumentHelper")
    known, seen, todo = added(command), set[str](), called(command)
    while todo:
        name = todo.pop()
        seen.add(name)
        known |= added(definition(helpers, name))
        todo |= called(definition(helpers, name)) - seen
    assert len(known) > 60
    assert passed(ENGINES["lmdeploy"]) - known == set()


def called(node: ast.AST) -> set[str]:
    """The helpers of ArgumentHelper that are called in there."""
    functions = [n.func for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    return {f.attr for f in functions if isinstance(f.value, ast.Name) and f.value.id == "ArgumentHelper"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_lmdeploy_knows_the_fields_of_a_request() -> None:
    known = fields(lmdeploy("serve/openai/protocol.py"), "GenerateReqInput")
    assert len(known) > 20
    assert set(sent(ENGINES["lmdeploy"])) - known == set()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sglang_knows_its_flags() -> None:
    source = sglang()
    known = added(ast.parse(source.read("sglang/srt/server_args.py")))
    for path in source.namelist():
        if re.fullmatch(r"sglang/srt/arg_groups/fields/\w+\.py", path):
            known |= declared(ast.parse(source.read(path)))
    assert len(known) > 300
    assert passed(ENGINES["sglang"]) - known == set()


def declared(tree: ast.AST) -> set[str]:
    """The flags of SGLang's annotated settings: A[type, help] or A[type, Arg(...)]."""
    flags = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        calls = [n for n in ast.walk(node.annotation) if isinstance(n, ast.Call)]
        options = {k.arg: k.value for call in calls for k in call.keywords}
        if "no_cli" in options or not isinstance(node.annotation, ast.Subscript):
            continue
        name = next(strings(options["cli_name"])) if "cli_name" in options else "--" + node.target.id.replace("_", "-")
        flags |= {name, *(strings(options["aliases"]) if "aliases" in options else ())}
    return flags


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sglang_knows_the_fields_of_a_request() -> None:
    schema = ast.parse(sglang().read("sglang/api/v1/api_types.py"))
    body = sent(ENGINES["sglang"])
    assert set(body) - fields(schema, "GenerateRequest") == set()
    assert set(body["sampling_params"]) - fields(schema, "SamplingParams") == set()  # another one is refused


# -- TGI and TensorRT-LLM, from lists -----------------------------------------------------------------------


@pytest.mark.live
def test_tgi_knows_its_flags_and_variables() -> None:
    engine, known = ENGINES["tgi"], listed("tgi.txt")
    assert passed(engine) - known == set()
    variables = {name.removeprefix("--").replace("-", "_").upper() for name in known}
    base = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "DO_NOT_TRACK", "LAUNCHER", "OMP_NUM_THREADS", "LOG_LEVEL"}
    for device in engine.containers:
        environment = service(engine, device)["environment"]
        assert set(environment) - base - variables == set()


def test_tgi_knows_the_fields_of_a_request() -> None:
    body = sent(ENGINES["tgi"])
    assert set(body) == {"inputs", "parameters"}
    assert set(body["parameters"]) - listed("tgi-request.txt") == set()


@pytest.mark.live
def test_tensorrtllm_knows_its_flags_and_options() -> None:
    engine = ENGINES["tensorrtllm"]
    assert passed(engine) - listed("tensorrtllm.txt") == set()
    known = listed("tensorrtllm-options.txt")
    assert options(config(engine, "cuda")) - known == set()
    triton = ENGINES["triton"]
    its_own = {"triton_config", "triton_config.max_batch_size", "triton_config.decoupled"}
    assert options(config(triton, "cuda")) - known - its_own == set()


def options(whole: dict[str, Any]) -> set[str]:
    """The keys of a YAML file of one inner level."""
    (content,) = (entry["content"] for entry in whole["configs"].values())
    found, outer = set(), ""
    for indent, name in re.findall(r"^( *)(\w+):", content, re.MULTILINE):
        outer = name if not indent else outer
        found.add(f"{outer}.{name}" if indent else name)
    assert len(found) > 5
    return found


def test_tensorrtllm_knows_the_fields_of_a_request() -> None:
    body = sent(ENGINES["tensorrtllm"])
    assert set(body) - listed("tensorrtllm-request.txt") == set()
    assert set(body["stream_options"]) <= {"include_usage", "continuous_usage_stats"}
    # What asks for ids must not stream: the answer is one object, and stream_options without a stream is refused.
    dialect = ENGINES["tensorrtllm"].dialect
    assert isinstance(dialect, Dialect)
    assert {"stream", "stream_options"}.isdisjoint(json.loads(dialect.body((1,), 9, stream=False)))
