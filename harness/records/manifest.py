"""What a reader of a run folder needs to know about its numbers: `manifest.json`, typed.

None means not known. Two nulls are never equal: what is not known of two runs may differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.workload.loads import Load

MANIFEST = "manifest.json"
SCHEMA = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateFacts:
    """Which candidate was measured, and how it is shown."""

    name: str
    engine: str
    title: str  # as readers see it: the engine's title, with the candidate's name where that says more
    color: str
    null: bool = False  # not an engine: a schedule of tokens to measure the client with
    given: Mapping[str, Any] = field(default_factory=dict)  # its table in the comparison file, beside name and engine


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """A container's image."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointFacts:
    """How the endpoint came to be, and what is known of it."""

    launch: Literal["compose", "process", "attach"]
    device: Literal["cuda", "cpu"] | None = None
    gpus: int | None = None  # that share one copy of the model; 0 on a CPU
    same_machine: bool | None = None  # whether client and server share one
    version: str | None = None
    version_from: str = ""  # who says so: "the engine", "its image", "its package"
    tested_version: str | None = None  # of this adapter; None if it was tested with none
    image: ImageFacts | None = None
    url: str = ""  # of a server that already ran
    launch_line: tuple[str, ...] = ()  # its command, with paths and ports as {braces}
    env: Mapping[str, str] = field(default_factory=dict)  # variables of its launch, in the same way
    settings: Mapping[str, Any] = field(default_factory=dict)  # what must be equal; as it runs, else as asked
    unverified: tuple[str, ...] = ()  # settings as asked, which the running engine does not show
    declared: Mapping[str, str] = field(default_factory=dict)  # what cannot be made equal, in words
    unknown: Mapping[str, str] = field(default_factory=dict)  # what is not known of it -> why
    cold_start_s: Mapping[str, float] = field(default_factory=dict)  # phase -> seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The comparison's model, and the weights of it that this candidate served.

    `digest` is that of the model, the same for all candidates; `weights` and `weights_digest` name other weights of it
    that a candidate declared."""

    name: str | None = None
    revision: str | None = None
    digest: str | None = None
    architecture: str | None = None
    parameters: int | None = None
    context_tokens: int | None = None
    vocabulary: int | None = None
    license: str | None = None
    weight_dtype: str | None = None  # "bfloat16", or how it is quantised: "Q8_0", "fp8"
    kv_dtype: str | None = None
    weights: str | None = None
    weights_digest: str | None = None
    shown: bool = True  # false: the server was only said to have this model


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFacts:
    """Which requests were sent."""

    digest: str
    whole: str  # over all schedules of the comparison
    seed: int
    requests: int  # in the schedule; sending may stop before all are sent
    in_flight: int  # the most requests that could be in flight together
    input_tokens: int | None  # of every prompt; None if a trace gives lengths of their own
    output_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """A machine. `id` is equal for runs of one machine and names nobody."""

    id: str | None = None
    cpu: str | None = None
    cores: int | None = None
    memory_bytes: int | None = None
    gpus: tuple[str, ...] = ()
    system: str | None = None
    python: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFacts:
    """What the driver itself took, and how its times came about."""

    cpu_s: float | None = None
    workers: int = 1
    clock_steps: int = 0
    decode_s: float | None = None
    kernel_stamped_fraction: float | None = None  # of the reads
    machines: tuple[Mapping[str, Any], ...] = ()  # of a Ray cluster: each node and its clock's offset


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFacts:
    """What the first requests to the endpoint showed. `problem`: why they failed, where they did."""

    version: str | None = None
    settings: Mapping[str, int] = field(default_factory=dict)
    prompt_tokens: int | None = None
    prompt_offset: int | None = None  # tokens that a chat template adds to each prompt; None: not counted, or varying
    output_tokens: int | None = None
    count_source: str = "none"
    cached_tokens: int | None = None
    first_token_s: float | None = None
    answer_ids: tuple[int, ...] = ()  # greedy continuation of a fixed prompt
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One run: one candidate, one load, one round."""

    schema: int = SCHEMA
    harness: str  # version of this software
    candidate: CandidateFacts
    endpoint: EndpointFacts
    model: ModelFacts
    load: Load
    schedule: ScheduleFacts
    machine: MachineFacts  # of the client
    client: ClientFacts
    probe: ProbeFacts | None = None
    counters: Mapping[str, float | None] = field(default_factory=dict)  # increase of the engine's own over the run
    round: int  # counts from 1
    started_at: str  # UTC, ISO 8601
    duration_s: float
