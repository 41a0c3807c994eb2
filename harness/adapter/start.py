"""How an engine starts: what every one gets alike, and what a native start needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Profile:
    """The settings that every engine gets alike. Engine files name these fields in braces in their launch
    commands; `kv_tokens` is the room in the key-value cache, for every sequence at full context."""

    context_tokens: int = 1024
    concurrent_sequences: int = 16
    batched_tokens: int = 2048
    # Compute threads; 0 = one fewer than the cores that this process may use, at least 1. Client and engine
    # front end need a core too: without it a spinning compute thread waits for one that is not scheduled,
    # and what is measured is the scheduler.
    threads: int = 0
    dtype: str = "model"  # the precision of the weights: the checkpoint's own, or its name to insist on it
    prefix_cache: bool = False

    @property
    def kv_tokens(self) -> int:
        return self.context_tokens * self.concurrent_sequences


@dataclass(frozen=True, slots=True)
class Venv:
    """An environment of the engine's own: pip requirements, then packages whose own requirements pip must ignore."""

    requirements: tuple[str, ...]
    constraints: str = ""  # pip constraints: versions of packages that only some of the requirements' builds need
    no_deps: tuple[str, ...] = ()  # everything that these need to run is among the requirements
    hint: str = ""  # what to do when pip cannot find them


@dataclass(frozen=True, slots=True)
class CMakeBuild:
    """A source archive from the Python package index, of which one CMake target is built."""

    sdist: str  # name==version
    sha256: str
    source: str  # folder in the archive that holds CMakeLists.txt
    target: str
    options: tuple[str, ...] = ()
    hint: str = ""


@dataclass(frozen=True, slots=True)
class GgufConversion:
    """The engine's own program that makes a GGUF from safetensors; installed when a model first needs it."""

    script: str  # braces: env, the engine's environment
    install: Venv


@dataclass(frozen=True, slots=True)
class Native:
    """How the engine starts as a process of this machine. Braces in `command` and `env` are filled from
    the Profile and from env (its environment's folder), model, port, python, dtype_flag, kv_flag."""

    install: Venv | CMakeBuild | None  # null: part of this software
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    conversion: GgufConversion | None = None
