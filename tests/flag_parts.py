"""What launch lines pass and requests send, and the engines' own sources to compare that with."""

import ast
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock

import engines
from harness.adapter import Dialect, Engine, Native
from harness.launch.install import environment_folder, is_installed
from harness.paths import cache_folder
from tests.containers import service
from tests.parts import missing

ENGINES = engines.load()
LMDEPLOY, SGLANG = "lmdeploy-0.18.0", "sglang-0.5.23"


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


def vllm_wheel() -> zipfile.ZipFile:
    return wheel(f"vllm-{ENGINES['vllm'].tested_on('cuda')}", "manylinux_2_28_x86_64")
