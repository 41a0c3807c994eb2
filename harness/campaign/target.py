"""Where requests go, how they are encoded, and which drivers send them: the only way from a schedule to records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.adapter import Dialect, Engine, TritonDialect
from harness.decode.replay import ONE, Drivers, Measured, replay_job
from harness.driver.address import Address
from harness.driver.http import Encoding, job_of
from harness.errors import HarnessError
from harness.launch.endpoint import Endpoint
from harness.records.manifest import ProbeFacts
from harness.workload.candidate import Candidate
from harness.workload.schedule import Request, Schedule

COMPLETIONS, CHAT = "/completions", "/chat/completions"  # how OpenAI's routes end, under any prefix


@dataclass(frozen=True, slots=True)
class Prompts:
    """What prompts are made of: the ids to draw from, the ids that each begins with, and how a prompt becomes text."""

    vocabulary: Sequence[int]
    lead: Sequence[int]
    text: Callable[[Sequence[int]], str]


def no_text(ids: Sequence[int]) -> str:
    """Raises HarnessError: no candidate takes text."""
    raise HarnessError("no candidate of this comparison takes text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where and how requests are sent. `more`: fields added to every request's body. `key`: the API key, never
    stored."""

    address: Address
    dialect: Dialect | TritonDialect
    prompts: Prompts
    deadline_s: float
    as_text: bool  # prompts are sent as text, not as token ids
    chat: bool = False
    natural: bool = False  # answers end where the model ends them, at the length asked for at the latest
    keeps_text: bool = False  # the text of some answers is kept
    more: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None

    def prompt(self, ids: Sequence[int]) -> object:
        """A prompt as the server takes it."""
        if not self.as_text:
            return ids
        text = self.prompts.text(ids)
        return [{"role": "user", "content": text}] if self.chat else text

    @property
    def asks(self) -> Dialect | TritonDialect:
        """The dialect of its requests: where answers end by themselves, without what forces the length."""
        if not self.natural:
            return self.dialect
        if isinstance(self.dialect, Dialect):
            return replace(self.dialect, exact_length={})
        return replace(self.dialect, models=tuple(replace(model, least=None) for model in self.dialect.models))

    def body(
        self, ids: Sequence[int], output_tokens: int, stream: bool = True, also: Mapping[str, Any] | None = None
    ) -> bytes:
        """The body of one request over HTTP, with the fields of `also`."""
        dialect = self.asks
        assert isinstance(dialect, Dialect)
        return dialect.body(self.prompt(ids), output_tokens, stream, {**self.more, **(also or {})})

    def facts(self, probe: ProbeFacts) -> ProbeFacts:
        """The probe's facts with how requests are asked."""
        form: Literal["ids", "text", "chat"] = "chat" if self.chat else "text" if self.as_text else "ids"
        dialect = self.asks
        if not isinstance(dialect, Dialect):
            return replace(probe, prompt_as=form)
        length = "" if dialect.length_field in dialect.dropped else dialect.length_field
        return replace(probe, asked_for=dialect.fields(more=self.more), length_field=length, prompt_as=form)

    def replay(self, schedule: Schedule, drivers: Drivers = ONE, folder: Path | None = None) -> Measured:
        """Sends every request of the schedule at its time; raw reads spill to disk in `folder`. Raises OSError if the
        disk is full, HarnessError if a driver fails, InterruptedReplay at Ctrl-C with what was measured so far; a
        server's errors are failed records."""
        dialect = self.asks
        if isinstance(dialect, TritonDialect):
            from harness.campaign.triton import replay_triton  # tritonclient is an optional extra

            if drivers != ONE:
                raise HarnessError("workers: requests over gRPC are sent by one process; set workers = 1.")
            return replay_triton(self.address, dialect, schedule, self.deadline_s, self.prompts.text)

        def write(request: Request) -> bytes:
            return self.body(request.prompt_ids, request.output_tokens)

        job = job_of(self.address, Encoding(dialect.route, write, self.key), schedule, self.deadline_s)
        return replay_job(job, schedule, dialect.parse, drivers, folder, self.key, self.keeps_text)


def target_of(endpoint: Endpoint, engine: Engine, prompts: Prompts, deadline_s: float, wanted: str = "") -> Target:
    """The target of an endpoint. The path of a server's URL decides the route; `wanted`: "ids", "text" or "chat" if the
    user asks for prompts in that form. Raises HarnessError for a form that the route or the engine does not take."""
    if isinstance(engine.dialect, TritonDialect):
        return Target(
            address=endpoint.requests, dialect=engine.dialect, prompts=prompts, deadline_s=deadline_s, as_text=True
        )
    dialect = dialect_at(engine, engine.dialect, endpoint.requests.path, wanted)
    chat = dialect.route.endswith(CHAT)
    if chat and wanted == "ids":
        raise HarnessError("prompt is ids, but chat takes text; leave it out, or use a completions route.")
    return Target(
        address=endpoint.requests,
        dialect=replace(dialect, prompt_field="messages") if chat else dialect,
        prompts=prompts,
        deadline_s=deadline_s,
        as_text=chat or (wanted or dialect.prompt) == "text",
        chat=chat,
        key=endpoint.key,
    )


def asking(target: Target, candidate: Candidate) -> Target:
    """The target whose requests are changed as the candidate's table says: fields added, left out, and another one for
    the length. Raises HarnessError for changes that cannot be made."""
    check_changes(candidate, target.dialect)
    if not isinstance(target.dialect, Dialect):
        return target
    dialect = target.dialect.changed(candidate.length_field, candidate.drop)
    return replace(target, dialect=dialect, more=dict(candidate.fields))


def check_changes(candidate: Candidate, dialect: Dialect | TritonDialect) -> None:
    """Raises HarnessError for changes of a request's fields that the dialect cannot make."""
    if isinstance(dialect, TritonDialect):
        for key in ("fields", "drop", "length_field"):
            if getattr(candidate, key):
                raise HarnessError(
                    f"{key} changes a request of JSON, but this engine's requests are tensors; leave it out."
                )
        return
    if dialect.length_field in candidate.drop and not candidate.length_field:
        raise HarnessError(
            f"drop: {dialect.length_field} takes each request's length; give the server's own field as length_field "
            "(--length-field) instead."
        )


def takes_text(engine: Engine, path: str, wanted: str = "") -> bool:
    """Whether an endpoint under this URL path gets prompts as text."""
    if isinstance(engine.dialect, TritonDialect):
        return True
    dialect = dialect_at(engine, engine.dialect, path, wanted)
    return dialect.route.endswith(CHAT) or (wanted or dialect.prompt) == "text"


def dialect_at(engine: Engine, own: Dialect, path: str, wanted: str = "") -> Dialect:
    """The dialect of an engine under a URL's path: its own, or the one of its OpenAI-compatible routes if the path
    names one of them, or if its own takes no prompt of the form that is `wanted`. Raises HarnessError if the engine
    file has none."""
    chat = wanted == "chat" or path.endswith(CHAT)
    if wanted == "chat" and path.endswith(COMPLETIONS) and not path.endswith(CHAT):
        raise HarnessError(f"prompt is chat, but {path} is the route for completions; leave one of them out.")
    # A field for ids alone (input_ids) takes no text.
    unfit = wanted == "text" and own.prompt == "ids" and own.prompt_field != "prompt"
    if (path.endswith((COMPLETIONS, "/v1")) or chat or unfit) and not own.route.endswith(COMPLETIONS):
        if engine.openai is None:
            asked = f"prompt is {wanted}, but " if wanted in ("text", "chat") else ""
            raise HarnessError(
                f"{engine.title}: {asked}this engine file only knows {own.route}; leave the "
                f"{'prompt' if asked else 'path'} out, or use the engine openai for OpenAI-compatible routes."
            )
        own = engine.openai
    if chat and not own.route.endswith(CHAT):
        route = own.route.removesuffix(COMPLETIONS) + CHAT
        # What makes a completion name ids or likely tokens is said otherwise in a chat, or not at all.
        own = replace(own, route=route, answering={}, likely={})
    return replace(own, route=route_of(path, own.route))


def route_of(path: str, route: str) -> str:
    """Joins the path of the given URL and the dialect's route: the path may be a whole route, end in the version that
    the route begins with, or be a prefix."""
    if path.endswith(("/completions", route)):
        return path
    if path.endswith("/v1") and route.startswith("/v1/"):
        return path + route.removeprefix("/v1")
    return path + route
