"""One writer at a time in a results folder: two would start engines at the same time and write each other's runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import HarnessError

LOCK = ".lock"


class Taken(HarnessError):
    """Another process writes in this folder."""


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Until the block is left, no other harness writes in this folder. The lock ends with its process, however that
    ends. Raises Taken if another one holds it, HarnessError if nothing can be written there."""
    if not folder.is_dir():
        raise HarnessError(f"{folder}: there is no such folder.")
    if not os.access(folder, os.W_OK):
        raise HarnessError(f"{folder}: results cannot be written there: it is read-only.")
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Taken(f"{folder}: another harness is writing in there; let it end first.") from None
    except (OSError, NotImplementedError) as problem:
        why = getattr(problem, "strerror", None) or problem
        raise HarnessError(f"{folder}: results cannot be written there: {why}.") from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def new_folder(folder: Path, resumable: bool = True) -> Iterator[None]:
    """Makes the folder, or takes an empty one, and stays alone in it. If the block leaves nothing there, neither does
    this. The lock's file stays in a folder that is `resumable`: a process that has opened it must not lock another file
    than the next one does. Raises HarnessError if the folder has files already."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise HarnessError(f"{folder} is a file; name a folder.") from None
    except OSError as problem:
        raise HarnessError(f"{folder}: cannot be made: {problem.strerror or problem}.") from None
    try:
        with alone_in(folder):
            # Only now: two that look at the same time would both find it empty.
            check_empty(folder)
            try:
                yield
            finally:
                if not resumable:
                    (folder / LOCK).unlink(missing_ok=True)
    finally:
        with contextlib.suppress(OSError):
            if made and [path.name for path in folder.iterdir()] in ([LOCK], []):
                (folder / LOCK).unlink(missing_ok=True)
                for one in made:
                    one.rmdir()


def check_empty(folder: Path) -> None:
    """Raises HarnessError for a file, and for a folder with files."""
    if folder.exists() and not folder.is_dir():
        raise HarnessError(f"{folder} is a file; name a folder.")
    if folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
        raise HarnessError(f"{folder} is not empty; name another folder, or continue it with --resume {folder}.")
