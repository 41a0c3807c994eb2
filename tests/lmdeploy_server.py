"""LMDeploy's own server on this machine, over a stand-in for its compiled engine (tests/lmdeploy_standin.py).

`python -m tests.lmdeploy_server` installs it, 2 GB, into an environment of its own in the user's cache folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import engines
from harness.adapter import Engine, Venv
from harness.launch.install import ensure_installed
from harness.paths import cache_folder

HERE = Path(__file__).parent


def lmdeploy_here(log: Path) -> Engine:
    """LMDeploy as its engine file starts it on a GPU, but here and with the stand-in. `log`: see there."""
    engine = engines.load()["lmdeploy"]
    native = engine.native_cuda
    assert native and native.command[1:3] == ("-m", "lmdeploy")
    recipe = Venv(
        requirements=tuple((HERE / "lmdeploy.packages.txt").read_text(encoding="utf-8").splitlines()),
        constraints="cuda-bindings==13.5.0\ncuda-pathfinder==1.9.1\nnvidia-nvjitlink==13.5.37\n",
        # It requires an older torch, and CUDA's libraries.
        no_deps=("lmdeploy=={version}",),
    )
    command = (native.command[0], str(HERE / "lmdeploy_standin.py"), *native.command[3:])
    env = {**native.env, "LMDEPLOY_STANDIN_LOG": str(log), "OMP_NUM_THREADS": "1"}
    return replace(engine, native=replace(native, install=recipe, command=command, env=env))


if __name__ == "__main__":
    one = lmdeploy_here(Path("unused"))
    print(ensure_installed(one, "cpu", one.version, cache_folder(), print))
