"""`manifest.json`: everything about a run that its numbers depend on, typed.

None means not known. Unknown never equals unknown: what is not known of two runs may differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.records.ranges import Amount, Color, Count, Large, Name, Number, Ordinal, Seconds, Seed, Setting, Signed
from harness.workload.lengths import Lengths
from harness.workload.loads import Load
from harness.workload.slo import Slo
from harness.workload.texts import TextFacts
from harness.workload.traces import TraceFacts

MANIFEST = "manifest.json"
SCHEMA = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateFacts:
    """Which candidate was measured, and how it is shown."""

    name: Name
    engine: Name
    title: Name  # in tables and charts: the engine's title, with what the candidate's name adds
    color: Color
    null: bool = False  # not an engine: a schedule of tokens to measure the client with
    given: Mapping[str, Any] = field(default_factory=dict)  # the other keys of its table in the comparison file
    price_usd_per_hour: Amount | None = None  # of what it runs on; None: not said


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """A container's image."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointFacts:
    """How the endpoint was started or reached, and what is known of it."""

    launch: Literal["compose", "process", "attach"]
    device: Literal["cuda", "cpu"] | None = None
    gpus: Count | None = None  # how many share one copy of the model; 0 on a CPU
    same_machine: bool | None = None  # whether client and server run on one machine
    version: str | None = None
    version_from: str = ""  # source of the version: "the engine", "its image", "its package"
    tested_version: str | None = None  # that the engine file was tested with; None if with none
    image: ImageFacts | None = None
    url: str = ""  # of a server that already ran
    launch_line: tuple[str, ...] = ()  # its command, with paths and ports as {braces}
    env: Mapping[str, str] = field(default_factory=dict)  # environment variables of its launch, in the same form
    settings: Mapping[str, Setting] = field(default_factory=dict)  # what must be equal: as read back, else as asked
    unverified: tuple[str, ...] = ()  # settings that the running engine does not show; assumed as asked
    declared: Mapping[str, str] = field(default_factory=dict)  # what cannot be made equal, in words
    unknown: Mapping[str, str] = field(default_factory=dict)  # what is not known -> why
    cold_start_s: Mapping[str, Seconds] = field(default_factory=dict)  # phase -> seconds
    no_speed: str = ""  # why its latency and throughput say nothing of the engine's speed; empty: they do


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The comparison's model, and the weights that this candidate served.

    `digest` is the model's, the same for all candidates; `weights` and `weights_digest` are set if the candidate
    declared other weights of it."""

    name: str | None = None
    revision: str | None = None
    digest: str | None = None
    architecture: str | None = None
    parameters: Large | None = None
    context_tokens: Count | None = None
    vocabulary: Count | None = None
    license: str | None = None
    weight_dtype: str | None = None  # "bfloat16", or how it is quantised: "Q8_0", "fp8"
    kv_dtype: str | None = None
    weights: str | None = None
    weights_digest: str | None = None
    # What one token costs at least, for the bounds of PLAUSIBLE; None: not known.
    weight_bytes: Large | None = None  # of the weights that this candidate served
    decode_bytes: Large | None = None  # of those that one decode step reads, whatever the batch
    kv_values_per_token: Large | None = None  # numbers in the KV cache: 2 x layers x KV heads x head size
    flops_per_token: Large | None = None  # of a prompt's token: 2 x parameters, without embeddings and output layer
    shown: bool = True  # false: the user says that the server has this model; nothing checks it


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptText:
    """A request whose answer is kept, as text."""

    index: Count
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFacts:
    """Which requests were sent."""

    digest: str
    whole: str  # digest over all schedules of the comparison
    seed: Seed
    requests: Count  # in the schedule; sending may stop before all are sent
    in_flight: Ordinal  # the most requests that could be in flight together
    input_tokens: Count | None  # of every prompt; None if they differ
    output_tokens: Count | None
    input_lengths: Lengths | None = None  # the range that they are drawn from; None if they are not drawn
    output_lengths: Lengths | None = None
    trace: TraceFacts | None = None  # how many requests of the trace were read and left out; None without a trace
    texts: TextFacts | None = None  # where prompts of real text come from; None for random ones
    prompts: tuple[PromptText, ...] = ()  # of real text: those whose answers are kept
    # The most tokens that two prompts of the round begin with together, counted up to 64; None: not counted.
    shared_prefix: Count | None = None
    ends: Literal["exact", "natural"] = "exact"  # whether the length was forced, or answers ended by themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """A machine. `id` is the same for all runs on one machine and identifies no person."""

    id: str | None = None
    cpu: str | None = None
    cores: Count | None = None
    memory_bytes: Large | None = None
    gpus: tuple[str, ...] = ()
    system: str | None = None
    python: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFacts:
    """What the driver itself used, and where its times come from."""

    cpu_s: Seconds | None = None
    workers: Ordinal = 1
    clock_steps: Count = 0
    decode_s: Seconds | None = None
    kernel_stamped_fraction: Amount | None = None  # share of the reads that have the kernel's arrival time
    machines: tuple[Mapping[str, Any], ...] = ()  # nodes of a Ray cluster, with the offset of their clocks


@dataclass(frozen=True, slots=True, kw_only=True)
class AloneFacts:
    """One request of a load, answered before the load with nothing else in flight."""

    load: str
    index: Count
    ids: tuple[int, ...]
    likely: tuple[tuple[tuple[int, float], ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFacts:
    """What the first requests to the endpoint showed. `problem`: why they failed, if they did."""

    version: str | None = None
    settings: Mapping[str, int] = field(default_factory=dict)
    prompt_tokens: Count | None = None
    # Tokens that a chat template adds to each prompt; None: not counted, or varying.
    prompt_offset: Signed | None = None
    output_tokens: Count | None = None
    count_source: str = "none"
    cached_tokens: Count | None = None
    first_token_s: float | None = None
    answer_ids: tuple[int, ...] = ()  # greedy continuation of a fixed prompt
    # Its first steps: the most likely tokens and their log probabilities; empty if the engine does not name them.
    answer_likely: tuple[tuple[tuple[int, float], ...], ...] = ()
    answer_text: str = ""  # the same answer as text, as the engine sent it
    alone: AloneFacts | None = None  # a request of a load, answered with nothing else in flight
    asked_for: Mapping[str, Any] = field(default_factory=dict)  # fields of each request beside prompt and length
    length_field: str = ""  # the field that took the number of output tokens; empty: not recorded, or left out
    prompt_as: Literal["", "ids", "text", "chat"] = ""  # how prompts were sent; empty: not recorded
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
    slo: Slo | None = None  # what an answer must meet to be good; None: not said
    schedule: ScheduleFacts
    machine: MachineFacts  # of the client
    client: ClientFacts
    probe: ProbeFacts | None = None
    counters: Mapping[str, Number | None] = field(default_factory=dict)  # increase of the engine's counters in the run
    round: Ordinal  # counts from 1
    started_at: str  # UTC, ISO 8601
    duration_s: Seconds
