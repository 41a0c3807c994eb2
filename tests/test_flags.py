"""Every flag that a launch line passes, and every field that a request sends, is one that the engine itself knows.

What it knows is asked of the engine where one runs here, read from its own sources where its package can be had, and
else from the lists in tests/flags, which name their source."""

import ast
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import engines
from harness.adapter import Device, Dialect, Engine, LogLine, Native, Reading
from harness.launch.install import environment_folder, is_installed
from harness.paths import cache_folder
from tests.containers import config, service
from tests.parts import missing

FLAGS = Path(__file__).parent / "flags"
ENGINES = engines.load()
LMDEPLOY, SGLANG = "lmdeploy-0.18.0", "sglang-0.5.23"


def listed(name: str) -> set[str]:
    lines = (FLAGS / name).read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def passed(engine: Engine) -> set[str]:
    """The flags of its containers and of its native starts."""
    words = [word for native in (engine.native, engine.native_cuda or Native(None, ())) for word in native.command]
    words += [word for state in engine.prefix_cache for word in state]
    words += engine.gpu_flags
    for device in engine.containers:
        got = service(engine, device)
        words += [*got["command"], *" ".join(got.get("entrypoint") or ()).split()]
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def sent(engine: Engine) -> dict[str, Any]:
    """A request with every field that any request of this engine has."""
    dialect = engine.dialect
    assert isinstance(dialect, Dialect)
    prompt = "a" if dialect.prompt == "text" else (1, 2)
    asked: dict[str, Any] = json.loads(dialect.body(prompt, 9))
    unstreamed: dict[str, Any] = json.loads(dialect.body(prompt, 9, stream=False))
    return asked | unstreamed


def installed(name: str) -> Path:
    engine = ENGINES[name]
    version = engine.tested_on("cpu")
    if not is_installed(engine, "cpu", version, cache_folder()):
        missing(f"{engine.title} is not installed; make compare installs it")
    return environment_folder(engine, "cpu", version, cache_folder())


@cache
def wheel(name: str, platform: str) -> zipfile.ZipFile:
    """A wheel of the Python index, kept in the cache: its sources are read, never run."""
    folder = cache_folder() / "sources"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{name}.lock"):
        if not list(folder.glob(f"{name}-*.whl")):
            project, _, version = name.partition("-")
            download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
            download += ["--only-binary", ":all:", "--python-version", "3.11", "--platform", platform]
            download += ["-d", str(folder), f"{project}=={version}"]
            done = subprocess.run(download, capture_output=True, text=True)
            if done.returncode:
                missing(f"no wheel of {name}: {done.stderr.strip().splitlines()[-1]}")
    return zipfile.ZipFile(next(folder.glob(f"{name}-*.whl")))


def lmdeploy_wheel() -> zipfile.ZipFile:
    return wheel(LMDEPLOY, "manylinux_2_28_x86_64")


def lmdeploy(path: str) -> ast.Module:
    return ast.parse(lmdeploy_wheel().read(f"lmdeploy/{path}"))


def sglang() -> zipfile.ZipFile:
    return wheel(SGLANG, "manylinux_2_34_x86_64")


def strings(node: ast.AST) -> Iterator[str]:
    return (n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str))


def definition(tree: ast.AST, name: str) -> ast.AST:
    (found,) = (n for n in ast.walk(tree) if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == name)
    return found


def added(node: ast.AST) -> set[str]:
    """The flags of all calls of add_argument in there."""
    calls = [(n, n.func) for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    words = [w for call, func in calls if func.attr == "add_argument" for arg in call.args for w in strings(arg)]
    return {word for word in words if word.startswith("--")}


def fields(tree: ast.AST, name: str) -> set[str]:
    """The annotated fields of a class."""
    body = definition(tree, name)
    assert isinstance(body, ast.ClassDef)
    return {n.target.id for n in body.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}


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


# -- vLLM, asked ------------------------------------------------------------------------------------------

ASK_VLLM = """
import json, os, sys
out = os.dup(1); os.dup2(2, 1)  # its log goes to stdout
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser())
flags = [flag for action in parser._actions for flag in action.option_strings]
os.write(out, json.dumps([flags, list(CompletionRequest.model_fields)]).encode())
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_vllm_knows_its_flags_and_the_fields_of_a_request() -> None:
    python = installed("vllm") / "bin" / "python"
    done = subprocess.run([python, "-c", ASK_VLLM], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    flags, names = json.loads(done.stdout)
    assert len(flags) > 150
    assert passed_on("cpu", ENGINES["vllm"]) - set(flags) == set()
    assert set(sent(ENGINES["vllm"])) - set(names) == set()


def passed_on(device: Device, engine: Engine) -> set[str]:
    """The flags of its container and of its native start on one device."""
    native = engine.native_on(device)
    words = [*service(engine, device)["command"], *sum(engine.prefix_cache, ())]
    words += native.command if native else ()
    words += engine.gpu_flags if device == "cuda" else ()
    return {word.partition("=")[0] for word in words if word.startswith("--")}


# -- vLLM for CUDA, read from its wheel ---------------------------------------------------------------------


def vllm_wheel() -> zipfile.ZipFile:
    return wheel(f"vllm-{ENGINES['vllm'].tested_on('cuda')}", "manylinux_2_28_x86_64")


def vllm(path: str) -> ast.Module:
    return ast.parse(vllm_wheel().read(f"vllm/{path}"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_vllm_for_cuda_knows_its_flags() -> None:
    server = vllm("entrypoints/common/cli_args.py")
    known = added(definition(server, "make_arg_parser"))
    for name in ("BaseFrontendArgs", "FrontendArgs"):  # each field becomes a flag
        known |= {f"--{field.replace('_', '-')}" for field in fields(server, name)}
        known |= {f"--no-{field.replace('_', '-')}" for field in switches(server, name)}
    arguments = vllm("engine/arg_utils.py")
    for name in ("EngineArgs", "AsyncEngineArgs"):  # the flags are written out, their kinds are not
        method = definition(definition(arguments, name), "add_cli_args")
        known |= added(method) | negated(method)
    assert len(known) > 300
    assert {"--model", "--port", "--no-async-scheduling"} <= known and "--no-max-model-len" not in known
    assert passed_on("cuda", ENGINES["vllm"]) - known == set()


def switches(tree: ast.AST, name: str) -> set[str]:
    """The annotated fields of a class that are true or false; vLLM gives one that may be a text too no --no-X."""
    body = definition(tree, name)
    assert isinstance(body, ast.ClassDef)
    kinds = {
        ast.unparse(n.target): ast.unparse(n.annotation).split(" | ") for n in body.body if isinstance(n, ast.AnnAssign)
    }
    return {field for field, kind in kinds.items() if "bool" in kind and "str" not in kind}


def negated(method: ast.AST) -> set[str]:
    """--no-X of every add_argument("--X", **some_kwargs["field"]) whose field is a switch of SomeConfig, where
    some_kwargs = get_kwargs(SomeConfig)."""
    fields_of: dict[str, set[str]] = {}
    for node in ast.walk(method):
        match node:
            case ast.Assign([ast.Name(kwargs)], ast.Call(ast.Name("get_kwargs"), [ast.Name(settings)])):
                fields_of[kwargs] = switches(vllm_settings()[settings], settings)
    flags = set()
    for node in ast.walk(method):
        match node:
            case ast.Call(ast.Attribute(attr="add_argument"), [ast.Constant(str(flag)), *_]):
                for part in ast.walk(node):
                    match part:
                        case ast.Subscript(ast.Name(kwargs), ast.Constant(field)) if field in fields_of.get(kwargs, ()):
                            flags.add(flag.replace("--", "--no-", 1))
    return flags


@cache
def vllm_settings() -> dict[str, ast.Module]:
    """The module of each class in vllm/config, by the name of the class."""
    paths = [path for path in vllm_wheel().namelist() if re.fullmatch(r"vllm/config/\w+\.py", path)]
    trees = [ast.parse(vllm_wheel().read(path)) for path in paths]
    return {n.name: tree for tree in trees for n in tree.body if isinstance(n, ast.ClassDef)}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_vllm_for_cuda_knows_the_fields_of_a_request_and_answers_with_those_that_are_read() -> None:
    protocol, body = vllm("entrypoints/openai/completion/protocol.py"), sent(ENGINES["vllm"])
    base = vllm("entrypoints/generate/base/protocol.py")
    known = fields(protocol, "CompletionRequest")
    assert len(known) > 40
    assert set(body) - known == set()
    assert set(body["stream_options"]) - fields(base, "StreamOptions") == set()
    assert {"text", "token_ids", "finish_reason"} <= fields(protocol, "CompletionResponseStreamChoice")
    assert {"choices", "usage"} <= fields(protocol, "CompletionStreamResponse")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_vllm_for_cuda_tells_its_version_its_settings_and_its_counters() -> None:
    engine = ENGINES["vllm"]
    assert any(engine.tested_as(word, "cuda") for word in strings(vllm("_version.py")))
    version, context, kv = engine.version_reading, engine.facts["context_tokens"], engine.facts["kv_tokens"]
    assert isinstance(version, Reading) and isinstance(context, Reading) and isinstance(kv, LogLine)
    assert set(version.keys) <= set(strings(page("basic.py", version.path)))
    assert page("health.py", engine.health)
    assert context.keys[-1] in fields(vllm("entrypoints/serve/engine/protocol.py"), "ModelCard")
    logged = strings(definition(vllm("v1/core/kv_cache_utils.py"), "update_kv_cache_capacity"))
    (line,) = (text % ("GPU", "1,234,567", "4,096", 3.0) for text in logged if "KV cache size" in text)
    found = re.search(kv.pattern, line)
    assert found and found[1] == "1,234,567"
    assert set(engine.series.values()) - counters(vllm("v1/metrics/loggers.py")) == set()


def page(file: str, path: str) -> ast.AST:
    """The body of the function that serves this path."""
    tree = vllm(f"entrypoints/serve/instrumentator/{file}")
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.AsyncFunctionDef)]
    (found,) = (f for f in functions if any(path in strings(decorator) for decorator in f.decorator_list))
    return ast.Module(found.body, [])


def counters(tree: ast.AST) -> set[str]:
    """The counters as Prometheus shows them: its client adds _total to their names."""
    calls = [(n, n.func) for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    options = [k for call, func in calls if func.attr == "_counter_cls" for k in call.keywords if k.arg == "name"]
    return {f"{name}_total" for option in options for name in strings(option.value)}


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
    base = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "DO_NOT_TRACK", "LAUNCHER", "OMP_NUM_THREADS"}
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
