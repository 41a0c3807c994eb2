"""One start of a candidate, decided before anything runs: its command, variables and devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.adapter import Device, Engine, Native
from harness.errors import CannotStart
from harness.machine import visible_gpus
from harness.workload.candidate import Candidate

# Of the values, those that differ between two starts of one configuration: the launch line that is kept has their
# names in braces instead, so that two of them can be compared.
_OF_THIS_START = ("port", "grpc_port", "env", "cache", "program", "python", "model")


@dataclass(frozen=True, slots=True)
class Start:
    """`values`: what braces are filled with (launch.values). `gpus`: those that it gets; none on a CPU. `package`: the
    version that was installed for it. `secrets`: names of variables that it must not see."""

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
        """Raises CannotStart if it has no native start on this device."""
        native = self.engine.native_on(self.device)
        if native is None:
            raise CannotStart("has no native start here")
        return native

    @property
    def prefix_cache(self) -> tuple[str, ...]:
        """The arguments that switch its prefix cache as the settings say."""
        return self.engine.prefix_cache[bool(self.values["prefix_cache"])]

    def words(self) -> list[str]:
        """The command of a native start, with its braces."""
        gpu_flags = self.engine.gpu_flags if self.gpus else ()
        return [*self.native.command, *self.prefix_cache, *gpu_flags]

    def command(self) -> list[str]:
        """The same, filled in, and the candidate's own arguments as they are."""
        return [*(word.format_map(self.values) for word in self.words()), *self.candidate.args]

    def launch_line(self) -> tuple[str, ...]:
        """The command with paths and ports as {braces}."""
        return (*(word.format_map(self.comparable()) for word in self.words()), *self.candidate.args)

    def env(self) -> dict[str, str]:
        """The variables of a native start. One that names a file of the environment which is not there is left out:
        an installation of the user's own may lack it."""
        folder = str(self.values["env"])
        filled = {name: value.format_map(self.values) for name, value in self.native.env.items()}
        kept = {n: v for n, v in filled.items() if not v.startswith(folder + "/") or Path(v).exists()}
        if self.gpus or visible_gpus():  # on a CPU of a machine that has some: none
            kept["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        return {**kept, **self.candidate.env}

    def comparable_env(self) -> dict[str, str]:
        """The variables that are kept, with paths as {braces}."""
        kept = self.env()
        own = {name: value for name, value in self.native.env.items() if name not in self.candidate.env}
        return {name: own[name].format_map(self.comparable()) if name in own else kept[name] for name in kept}

    def comparable(self) -> dict[str, object]:
        """The values with the names of those that are this start's alone in braces."""
        return {name: f"{{{name}}}" if name in _OF_THIS_START else value for name, value in self.values.items()}
