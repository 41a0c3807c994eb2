"""What Docker Compose makes of the compose files, without a daemon."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import engines
from harness.adapter import Engine
from tests.parts import missing

COMPOSE = Path(__file__).parent.parent / "compose"
EXAMPLE = dict(re.findall(r"^([A-Z_]+)=(.*)$", (COMPOSE / "example.env").read_text(), re.MULTILINE))
ENGINES = [engine for engine in engines.load().values() if engine.containers]
SERVICES = [(engine, device) for engine in ENGINES for device in engine.containers]


@cache
def require_compose() -> None:
    """Skips where there is no Docker Compose; in CI that is a failure."""
    asked = ["docker", "compose", "version"]
    if not shutil.which("docker") or subprocess.run(asked, capture_output=True).returncode:
        reason = "docker has no Compose plugin: install Docker Compose v2"
        missing(reason)


def settings_of(engine: Engine, prefix_cache: bool = False) -> dict[str, str]:
    """The example's settings in the words of this engine."""
    words = engine.prefix_cache[prefix_cache]
    dtype = engine.dtypes["bfloat16"]
    kv_dtype = engine.dtypes[engine.kv_dtypes.get("bfloat16", "bfloat16")]
    return {**EXAMPLE, "PREFIX_CACHE_FLAGS": " ".join(words), "DTYPE_FLAG": dtype, "KV_FLAG": kv_dtype}


def compose(name: str, device: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """`docker compose config` of a file and a profile with these variables and no others."""
    require_compose()
    return _compose(name, device, tuple(sorted(env.items())))


@cache
def _compose(name: str, device: str, env: tuple[tuple[str, str], ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", "compose", "-f", f"{COMPOSE / name}.yaml", "--profile", device, "config", "--format", "json"],
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **dict(env)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def config(engine: Engine, device: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The whole file as Compose reads it."""
    done = compose(engine.name, device, env or settings_of(engine))
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def service(engine: Engine, device: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The one service of that device."""
    read: dict[str, Any] = config(engine, device, env)["services"][device]
    return read
