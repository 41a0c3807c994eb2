"""One start of a candidate, decided before anything runs: its command, variables and devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.adapter import Device, Engine, Native
from harness.errors import CannotStart
from harness.machine import visible_gpus
from harness.workload.candidate import Candidate

# Values that differ between two starts of the same configuration: the stored launch line has their names in braces
# instead, so that two launch lines can be compared.
_OF_THIS_START = ("port", "grpc_port", "env", "cache", "program", "python", "model")


@dataclass(frozen=True, slots=True)
class Start:
    """One start. `values` fill the braces (launch.values). `gpus`: the ones it may use; empty on a CPU. `package`: the
    version that was installed. `secrets`: names of environment variables that the engine must not see."""

    engine: Engine
    candidate: Candidate
    device: Device
    values: Mapping[str, object]
    gpus: tuple[str, ...]
    log: Path
    package: str = ""
    secrets: tuple[str, ...] = ()

    @property
    def port(self) -> int:
        return int(str(self.values["port"]))

    @property
    def requests_port(self) -> int:
        return int(str(self.values["grpc_port"])) if self.engine.grpc else self.port

    @property
    def native(self) -> Native:
        """Its native start. Raises CannotStart if it has none on this device."""
        native = self.engine.native_on(self.device)
        if native is None:
            raise CannotStart("has no native start here")
        return native

    @property
    def prefix_cache(self) -> tuple[str, ...]:
        """The arguments that switch its prefix cache on or off, according to the settings."""
        return self.engine.prefix_cache[bool(self.values["prefix_cache"])]

    @property
    def trust_flags(self) -> tuple[str, ...]:
        """The arguments that let it run a model's own code, if its candidate asks for that by name."""
        return (self.engine.trust_flags or ()) if self.candidate.trust_remote_code else ()

    def words(self) -> list[str]:
        """The command of a native start, with its braces."""
        gpu_flags = self.engine.gpu_flags if self.gpus else ()
        return [*self.native.command, *self.prefix_cache, *gpu_flags, *self.trust_flags]

    def command(self) -> list[str]:
        """The command with its braces filled in, and the candidate's own arguments unchanged."""
        return [*(word.format_map(self.values) for word in self.words()), *self.candidate.args]

    def launch_line(self) -> tuple[str, ...]:
        """The command with paths and ports as {braces}."""
        return (*(word.format_map(self.comparable()) for word in self.words()), *self.candidate.args)

    def env(self) -> dict[str, str]:
        """The environment variables of a native start. One that names a missing file in the engine's environment is
        left out: the user's own installation may lack it."""
        folder = str(self.values["env"])
        filled = {name: value.format_map(self.values) for name, value in self.native.env.items()}
        kept = {n: v for n, v in filled.items() if not v.startswith(folder + "/") or Path(v).exists()}
        if self.gpus or visible_gpus():  # on a CPU of a machine that has some: none
            kept["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        return {**kept, **self.candidate.env}

    def comparable_env(self) -> dict[str, str]:
        """The environment variables to store, with paths as {braces}."""
        kept = self.env()
        own = {name: value for name, value in self.native.env.items() if name not in self.candidate.env}
        return {name: own[name].format_map(self.comparable()) if name in own else kept[name] for name in kept}

    def comparable(self) -> dict[str, object]:
        """The values, with those that belong to this start alone replaced by their names in braces."""
        return {name: f"{{{name}}}" if name in _OF_THIS_START else value for name, value in self.values.items()}
