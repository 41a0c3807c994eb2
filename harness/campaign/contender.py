"""A candidate as it takes part in a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.adapter import Engine
from harness.driver.address import without_values
from harness.records.manifest import CandidateFacts, ModelFacts
from harness.secret_names import masked, secret_values
from harness.workload.candidate import Candidate

_NOT_GIVEN = ("name", "engine", "key_env", "ca_file", "price_usd_per_hour")  # facts of their own, or nobody's business


@dataclass(frozen=True, slots=True)
class Contender:
    """A candidate, its engine, `settings` (the normalised table that it must run with; empty for a server that already
    runs) and `model` (what is known of the weights that it serves)."""

    candidate: Candidate
    engine: Engine
    settings: Mapping[str, Any]
    model: ModelFacts

    @property
    def name(self) -> str:
        return self.candidate.name

    @property
    def title(self) -> str:
        """The title in tables and charts: the engine's, with what this candidate's name adds."""
        return title_of(self.candidate, self.engine)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values of its table that are kept in no file."""
        return secret_values(self.candidate.args, self.candidate.env)

    def _kept(self, key: str, value: Any) -> Any:
        return masked(without_values(value) if key == "url" else value, self.secrets)

    def facts(self) -> CandidateFacts:
        """The candidate's part of the manifest."""
        plain = asdict(Candidate(engine=self.engine.name))
        given = {key: value for key, value in asdict(self.candidate).items() if value != plain[key]}
        return CandidateFacts(
            name=self.name,
            engine=self.engine.name,
            title=self.title,
            color=self.engine.color,
            null=self.engine.null,
            given={key: self._kept(key, value) for key, value in given.items() if key not in _NOT_GIVEN},
            price_usd_per_hour=self.candidate.price_usd_per_hour,
        )


def title_of(candidate: Candidate, engine: Engine) -> str:
    """`vLLM` for a candidate named `vllm`, `vLLM fp8` for `vllm-fp8`, any other name unchanged."""
    if candidate.name in ("", engine.name):
        return engine.title
    rest = candidate.name.removeprefix(engine.name)
    if candidate.name.startswith(engine.name) and rest[0] in "-_." and rest[1:]:
        return f"{engine.title} {rest[1:]}"
    return candidate.name
