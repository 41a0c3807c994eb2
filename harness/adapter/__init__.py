"""The types an engine file is written in. An engine is data: one `Engine` value, no base class."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class Engine:
    """One inference engine. Everything that the harness knows about it."""

    name: str
    title: str
    color: str  # the same in every chart for ever
    version: str
    weights: Literal["safetensors", "gguf"]
    dialect: Dialect | TritonDialect
    health: str = "/health"
    version_reading: Reading | None = None  # null: it does not tell, so the image or the package says
    version_matches: str = ""  # regular expression that the reading must contain
    # A setting of the profile -> where the running engine shows what it made of it.
    facts: Mapping[str, Reading | LogLine] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)  # our dtype -> what its command calls it
    kv_dtypes: Mapping[str, str] = field(default_factory=dict)  # our dtype -> that of its key-value cache
    prefix_cache: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())  # arguments for off, for on
    # Devices that compose/<name>.yaml has a service for, by which the containers are started.
    containers: tuple[Literal["cuda", "cpu"], ...] = ()
    native: Native = Native(install=None, command=())
    native_cuda: Native | None = None  # the same on a machine with an NVIDIA GPU
    ready_timeout_s: float = 60.0
    metrics: str = "/metrics"
    series: Mapping[str, str] = field(default_factory=dict)  # our counter -> the engine's series
    declared: Mapping[str, str] = field(default_factory=dict)  # what cannot be made equal, in words
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
