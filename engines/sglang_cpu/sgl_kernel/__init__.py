"""Stands in for SGLang's compiled kernels where there are none: every name can be imported, none can be called."""

from collections.abc import Callable

import torch

__version__ = "0.4.10"
library = torch.library.Library("sgl_kernel", "DEF")
library.define("init_cpu_threads_env(str cpu_ids) -> str")
library.impl("init_cpu_threads_env", lambda cpu_ids: "", "CompositeExplicitAutograd")


def __getattr__(name: str) -> Callable[..., None]:
    if name.startswith("__"):
        raise AttributeError(name)

    def absent(*arguments: object, **named: object) -> None:
        raise RuntimeError(f"SGLang's compiled kernel {name} is not there on a CPU")

    return absent
