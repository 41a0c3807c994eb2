"""Every flag, field, page and counter of vLLM used here is one that it knows: asked of it, or read from its wheel."""

import ast
import json
import re
import subprocess
from functools import cache

import pytest

from harness.adapter import Device, Engine, LogLine, Reading
from tests.containers import service
from tests.flag_parts import ENGINES, added, definition, fields, installed, sent, strings, vllm_wheel

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
