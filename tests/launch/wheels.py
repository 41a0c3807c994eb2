"""Wheels of invented packages, made on the spot."""

import zipfile
from pathlib import Path


def make_wheel(folder: Path, name: str, version: str, *requires: str) -> None:
    """An empty package that asks for `requires`."""
    info = f"{name}-{version}.dist-info"
    meta = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    meta += "".join(f"Requires-Dist: {one}\n" for one in requires)
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as out:
        for path, text in [(f"{name}.py", ""), (f"{info}/METADATA", meta), (f"{info}/WHEEL", tags)]:
            out.writestr(path, text)
        out.writestr(f"{info}/RECORD", "")
