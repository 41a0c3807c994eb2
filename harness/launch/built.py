"""A program that was built on this machine for an engine's native start, where an image can take it as it is."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

from harness.adapter import CMakeBuild, Engine
from harness.launch.install import environment_folder, is_installed

RELEASE = ("debian", "bookworm")  # of the image that the Dockerfiles start from
# What program.Dockerfile installs or the base image has. A program that loads more would not start in the image.
LIBRARIES = {"linux-vdso", "libc", "libm", "libdl", "librt", "libpthread", "libgcc_s", "libstdc++", "libgomp"}


def built_program(engine: Engine, cache: Path) -> Path | None:
    """The engine's program, if this machine has built it and it also runs in an image made from RELEASE; else None."""
    native, version = engine.native, engine.tested_on("cpu")
    if not isinstance(native.install, CMakeBuild) or not is_installed(engine, "cpu", version, cache):
        return None
    folder = environment_folder(engine, "cpu", version, cache)
    program = Path(native.command[0].format(env=folder, program=native.program.format(env=folder)))
    return program if _release() == RELEASE and _libraries(program) <= LIBRARIES else None


def _release() -> tuple[str, str]:
    try:
        found = platform.freedesktop_os_release()
    except OSError:
        return ("", "")
    return (found.get("ID", ""), found.get("VERSION_CODENAME", ""))


def _libraries(program: Path) -> set[str]:
    """The names of the libraries that it loads, without versions and the loader; {""} if they cannot be told."""
    asked = subprocess.run(["ldd", str(program)], capture_output=True, encoding="utf-8", errors="replace", check=False)
    if asked.returncode:
        return {""}
    names = {Path(line.split()[0]).name for line in asked.stdout.splitlines() if line.strip()}
    return {name.split(".so")[0] for name in names if not name.startswith("ld-linux")}
