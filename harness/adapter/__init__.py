"""The types an engine file is written in. An engine is data: one `Engine` value, no base class."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.adapter.dialect import Dialect, Tensor, TritonDialect, TritonModel
from harness.adapter.events import Event, Parse, error_text, generate_stream, openai_stream
from harness.adapter.start import CMakeBuild, GgufConversion, Native, Venv
from harness.workload.profile import Profile
from harness.workload.spec import Workload

__all__ = [
    "CMakeBuild",
    "Device",
    "Dialect",
    "Engine",
    "Event",
    "GgufConversion",
    "LogLine",
    "Native",
    "Parse",
    "Profile",
    "Reading",
    "Tensor",
    "TritonDialect",
    "TritonModel",
    "Venv",
    "Workload",
    "anything",
    "error_text",
    "generate_stream",
    "openai_stream",
]


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a fact can be read from the running engine: a GET path and the keys that lead to the value."""

    path: str
    keys: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class LogLine:
    """Where a fact can be read from the engine's log: a regular expression whose first group is the value."""

    pattern: str


def anything(workload: Workload) -> str | None:
    """`cannot` of an engine that can do everything."""
    return None


Device = Literal["cuda", "cpu"]


@dataclass(frozen=True, slots=True)
class Engine:
    """One inference engine. Everything that the harness knows about it."""

    name: str
    title: str
    color: str  # the same in every chart forever
    version: str  # that this file was tested with
    weights: Literal["safetensors", "gguf"]
    dialect: Dialect | TritonDialect
    openai: Dialect | None = None  # of its OpenAI-compatible routes, where its own is another
    versions: Mapping[Device, str] = field(default_factory=dict)  # tested on that device, where it is another
    health: str = "/health"
    version_reading: Reading | None = None  # None: it does not tell, so the image or the package says
    shows_version: str = ""  # what it calls the tested version itself, where that is not its number
    # A setting of the profile -> where the running engine shows what it made of it.
    facts: Mapping[str, Reading | LogLine] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)  # our dtype -> what its command calls it
    kv_dtypes: Mapping[str, str] = field(default_factory=dict)  # our dtype -> that of its key-value cache
    quantized: tuple[str, ...] = ()  # methods of quantised checkpoints that it loads, as their config names them
    # Its arguments that change a precision, for a candidate that passes one of them: of the weights, or of the cache.
    precision_flags: Mapping[str, Literal["weights", "kv"]] = field(default_factory=dict)
    prefix_cache: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())  # arguments for off, for on
    gpu_flags: tuple[str, ...] = ()  # arguments on GPUs; {gpus} is how many share one copy of the model
    most_gpus: int | None = None  # None: as many as there are
    # Devices that compose/<name>.yaml has a service for, by which the containers are started.
    containers: tuple[Device, ...] = ()
    native: Native = Native(install=None, command=())
    native_cuda: Native | None = None  # the same on a machine with an NVIDIA GPU
    ready_timeout_s: float = 60.0
    metrics: str = "/metrics"
    series: Mapping[str, str] = field(default_factory=dict)  # our counter -> the engine's series
    declared: Mapping[str, str] = field(default_factory=dict)  # what cannot be made equal, in words
    declared_on: Mapping[Device, Mapping[str, str]] = field(default_factory=dict)  # of one device only
    cannot: Callable[[Workload], str | None] = anything
    null: bool = False  # not an engine: a schedule of tokens to measure the client with

    @property
    def grpc(self) -> bool:
        """Its requests go to a port of their own, over gRPC."""
        return isinstance(self.dialect, TritonDialect)

    @property
    def attach_only(self) -> bool:
        """It is served by others: there is nothing here to start it with."""
        return not self.native.command and not self.native_cuda and not self.containers

    def native_on(self, device: Device) -> Native | None:
        """How it starts as a process on a device; None if it does not."""
        native = self.native if device == "cpu" or self.null else self.native_cuda
        return native if native is not None and native.command else None

    def tested_on(self, device: Device | None) -> str:
        """The version that this file was tested with there; of a device that is not known, the general one."""
        return self.version if device is None else self.versions.get(device, self.version)

    def is_tested(self, shown: str, device: Device | None) -> bool:
        """Whether what an engine calls its version is the tested one."""
        tested = self.shows_version or re.escape(self.tested_on(device))
        return re.match(rf"{tested}(?![0-9.])", shown) is not None
