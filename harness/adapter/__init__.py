"""The types an engine file is written in. An engine is data: one `Engine` value, no base class."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.adapter.dialect import Dialect, Tensor, TritonDialect, TritonModel
from harness.adapter.events import COUNT_LIMIT, Event, Parse, count, error_text, generate_stream, openai_stream
from harness.adapter.likely import Steps, completion_steps, generated_steps
from harness.adapter.start import CMakeBuild, GgufConversion, Native, Venv
from harness.workload.profile import Profile
from harness.workload.spec import Workload

__all__ = [
    "COUNT_LIMIT",
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
    "Ran",
    "Reading",
    "Steps",
    "Tensor",
    "TritonDialect",
    "TritonModel",
    "Venv",
    "Workload",
    "anything",
    "completion_steps",
    "count",
    "error_text",
    "generate_stream",
    "generated_steps",
    "openai_stream",
]


_BUILD = r"\+\S*|-[0-9a-f]{7,40}|-unknown"  # after a version: a local build, a commit, one that is not known


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a fact can be read from the running engine: a GET path and the keys that lead to the value. `reserved`:
    how much of it no request can use; a setting is what remains."""

    path: str
    keys: tuple[str | int, ...]
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class LogLine:
    """Where a fact can be read from the engine's log: a regular expression whose first group is the value."""

    pattern: str
    reserved: int = 0  # as of Reading


@dataclass(frozen=True, slots=True)
class Ran:
    """What of an engine this project has started and measured for real, on what, and the last time."""

    version: str
    on: str
    date: str


def anything(workload: Workload) -> str | None:
    """`cannot` of an engine that can do everything."""
    return None


Device = Literal["cuda", "cpu"]


@dataclass(frozen=True, slots=True)
class Engine:
    """Everything that the harness knows about one inference engine."""

    name: str
    title: str
    color: str  # the same in every chart
    version: str  # the version that this file was tested with
    weights: Literal["safetensors", "gguf"]
    dialect: Dialect | TritonDialect
    openai: Dialect | None = None  # for its OpenAI-compatible routes, if `dialect` is another API
    versions: Mapping[Device, str] = field(default_factory=dict)  # tested versions that differ on a device
    health: str = "/health"
    version_reading: Reading | None = None  # None: not shown; taken from the image or the package
    shows_version: str = ""  # how it reports the tested version, if not by that number (a regular expression)
    # Where it shows the commit that it was built from, and how that of the tested version begins: for an engine whose
    # number is that of several versions.
    commit: tuple[Reading, str] | None = None
    # A setting of the profile -> where the running engine shows its actual value.
    facts: Mapping[str, Reading | LogLine] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)  # our dtype -> its name in the engine's command
    kv_dtypes: Mapping[str, str] = field(default_factory=dict)  # our dtype -> the dtype of its KV cache
    quantized: tuple[str, ...] = ()  # quantisation methods that it loads, as a checkpoint's config names them
    # Arguments of the engine that change a precision (a candidate may pass them): of the weights or of the KV cache.
    precision_flags: Mapping[str, Literal["weights", "kv"]] = field(default_factory=dict)
    prefix_cache: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())  # arguments for off, for on
    # Arguments that let it run code that lies in a model's folder, for candidates that ask for it by name. Empty: only
    # its converter could run such code. None: it has no such argument.
    trust_flags: tuple[str, ...] | None = None
    gpu_flags: tuple[str, ...] = ()  # arguments on GPUs; {gpus} is how many share one copy of the model
    most_gpus: int | None = None  # None: no limit
    # Devices that compose/<name>.yaml has a service for.
    containers: tuple[Device, ...] = ()
    native: Native = Native(install=None, command=())
    native_cuda: Native | None = None  # native start on a machine with an NVIDIA GPU
    ready_timeout_s: float = 60.0
    metrics: str = "/metrics"
    series: Mapping[str, str] = field(default_factory=dict)  # our counter -> the engine's series
    # "running", "waiting" (requests) or "kv_used" (fraction) -> the engine's gauge, on the same page; without gauges
    # that are refreshed more seldom than every second.
    gauges: Mapping[str, str] = field(default_factory=dict)
    declared: Mapping[str, str] = field(default_factory=dict)  # what cannot be made equal, in words
    declared_on: Mapping[Device, Mapping[str, str]] = field(default_factory=dict)  # the same, on one device only
    # The same, where a line of its log (a regular expression) says that it is so.
    declared_logged: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # Why its figures on a device say nothing of its speed: it is measured in one round, and ranked only when named.
    no_speed_on: Mapping[Device, str] = field(default_factory=dict)
    # Another engine that it stands in for: it takes part where that one cannot start, and else only when it is named.
    instead_of: str = ""
    cannot: Callable[[Workload], str | None] = anything
    ran: tuple[Ran, ...] = ()  # what has run for real
    never: str = ""  # and what of it never has
    no_natural_ends: str = ""  # why answers never end by themselves where the harness starts it; empty: they do
    null: bool = False  # not an engine: a schedule of tokens to measure the client with

    @property
    def grpc(self) -> bool:
        """Whether its requests go over gRPC, to a second port."""
        return isinstance(self.dialect, TritonDialect)

    @property
    def attach_only(self) -> bool:
        """Whether the harness cannot start it and can only measure a server that already runs."""
        return not self.native.command and not self.native_cuda and not self.containers

    def native_on(self, device: Device) -> Native | None:
        """How it starts as a process on a device; None if it does not."""
        native = self.native if device == "cpu" or self.null else self.native_cuda
        return native if native is not None and native.command else None

    def tested_on(self, device: Device | None) -> str:
        """The version that this file was tested with on a device; `version` if the device is not known."""
        return self.version if device is None else self.versions.get(device, self.version)

    def tested_as(self, shown: str, device: Device | None) -> str | None:
        """The tested version that an engine's `shown` one is; None if it is another. `0.33.0+cu129` and, with its
        commit, `b11434-6bad9af` are builds of 0.33.0 and b11434; `0.33.0rc1` is another version. Where the device is
        not known, it may be that of any device."""
        for version in self._tested(device):
            if re.fullmatch(rf"{self.shows_version or re.escape(version)}({_BUILD})?", shown):
                return version
        return None

    def tested_version(self, version: str | None, device: Device | None) -> str:
        """The tested version to hold `version` against."""
        tested = self._tested(device)
        return version if version in tested else tested[0]

    def _tested(self, device: Device | None) -> list[str]:
        return [self.version, *self.versions.values()] if device is None else [self.tested_on(device)]
