"""pip as the harness calls it: this Python's own, without questions, and downloads that are checked against a hash."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path

from harness.environment import for_pip
from harness.steps import Say, run_step

PIP = (sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--no-input")


def download(
    requirement: str,
    sha256: str,
    kind: str,
    folder: Path,
    log: Path,
    say: Say,
    hint: str = "",
    secrets: Collection[str] = (),
) -> Path:
    """The file of `requirement` (name==version) from the package index, in `folder`; nothing of it is installed or run.
    `kind`: "sdist" or "wheel". `sha256`: its hash; empty: any. Raises CannotStart."""
    only, suffix = {"sdist": ("--no-binary", "tar.gz"), "wheel": ("--only-binary", "whl")}[kind]
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{requirement}{f' --hash=sha256:{sha256}' if sha256 else ''}\n", encoding="utf-8")
    command = [*PIP, "download", "--no-deps", only, requirement.split("==")[0], "--progress-bar", "off"]
    command += ["--require-hashes"] if sha256 else []
    command += ["-r", str(wanted), "-d", str(folder)]
    run_step(f"downloading {requirement}", command, log, say, hint, env=for_pip(os.environ, secrets))
    return next(folder.glob(f"*.{suffix}"))
