"""How a user names a model: a hub id, or a folder, which may be one of the hub's own cache."""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import HarnessError
from harness.visible import visible

MADE = ("tiny", "smollm2")  # models that are made here, without a hub
_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_HUB_ID = re.compile(rf"({_PART}(?:/{_PART})?)(?:@(\S+))?")
_ADDRESS = re.compile(r"(?:https?://(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://)(.+)")
_IN_ADDRESS = re.compile(rf"({_PART}/{_PART})/(?:tree|commit)/(\S+)")
_SNAPSHOT = re.compile(r"models--(.+)/snapshots/([0-9a-f]{40})")  # of the hub's cache


def existing(name: str) -> Path | None:
    """The file or folder of that name; None if there is none. Raises HarnessError for a name that no file can have."""
    try:
        path = Path(name).expanduser()
        return path if path.exists() else None
    except (OSError, ValueError, RuntimeError) as problem:  # too long; a null character; ~ of an unknown user
        raise HarnessError(f"{visible(name, 100)}: no such folder ({visible(str(problem), 100)}).") from None


def hub_id(text: str) -> tuple[str, str | None] | None:
    """(repository, revision) of organisation/name, name (as old models have it) or either with @revision, or of the
    model's address on the hub; None if it is none of these. A revision may have slashes: refs/pr/7."""
    address = _ADDRESS.fullmatch(text)
    named = address[1].split("?")[0].rstrip("/") if address else text
    if address and (inside := _IN_ADDRESS.fullmatch(named)):
        return inside[1], inside[2]
    found = _HUB_ID.fullmatch(named)
    return (found[1], found[2]) if found else None


def snapshot_of(folder: Path) -> tuple[str, str] | None:
    """(organisation/name, commit) of a folder in the hub's cache; None for any other folder."""
    found = _SNAPSHOT.fullmatch("/".join(folder.parts[-3:]))
    return (found[1].replace("--", "/", 1), found[2]) if found else None


def snapshot_folder(folder: Path) -> Path:
    """The folder itself; for a repository's folder in the hub's cache the snapshot that `main` points to, else its only
    one. Raises HarnessError if there are several."""
    if not folder.name.startswith("models--") or not (folder / "snapshots").is_dir():
        return folder
    found = sorted(path for path in (folder / "snapshots").iterdir() if path.is_dir())
    main = folder / "refs" / "main"
    if main.is_file():
        head = folder / "snapshots" / main.read_text(encoding="utf-8", errors="replace").strip()
        if head in found:
            return head
    if len(found) != 1:
        raise HarnessError(f"{visible(str(folder), None)}: has {len(found)} snapshots; give one of the folders in it.")
    return found[0]
