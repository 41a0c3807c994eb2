"""Verifies a running engine instead of trusting its flags, and records its answer to a fixed prompt."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.adapter import Dialect, Engine, LogLine, Steps
from harness.campaign.contender import Contender
from harness.campaign.counters import get, increase, read_counters, read_fact, whole_number
from harness.campaign.target import Target
from harness.decode.events import events_of
from harness.decode.said import said
from harness.driver.refusal import message_in
from harness.errors import CannotStart
from harness.launch.endpoint import Endpoint
from harness.launch.pages import NoPage, Page, Pages, success
from harness.records.manifest import AloneFacts, ProbeFacts
from harness.records.request import RequestRecord
from harness.visible import visible
from harness.workload.schedule import Request, Schedule, draw

PROBE_SEED = "probe"
ANSWER_PROMPT_TOKENS = 32
ANSWER_TOKENS = 256
ALONE_TOKENS = 64  # of the answer to a request of a load
MOST = 2**31  # token ids are below it
_VERSION = 100  # characters
_ODD = (ValueError, LookupError, TypeError, RecursionError)  # what the parsers of answers raise for odd ones
LOOK_TOKENS = 4  # asked for where only the prompt's count matters: some models refuse to end after one
MOST_TEXT = 8192  # characters of an answer that are kept
LIKELY_STEPS = 64  # of an answer, from the first: a difference after these is a late one
CACHE = "prefix_cache"
# Settings that an engine may change on its own.
SHOWABLE = (
    "context_tokens",
    "concurrent_sequences",
    "batched_tokens",
    "kv_tokens",
    "dtype",
    "kv_dtype",
    CACHE,
    "threads",
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A request of a load, whose answer under that load will be kept."""

    load: str
    request: Request


@dataclass(frozen=True, slots=True)
class Answered:
    """A greedy answer: its ids, the most likely tokens of its first steps, and its text."""

    ids: tuple[int, ...] = ()
    likely: Steps = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """What the probe needs: a contender, its endpoint and the target of its requests. `longest`: tokens of the
    workload's longest request, assumed as the context of an endpoint that does not show it; `loaded`: the request to
    answer alone, None for none; `text`: ids of the prompt whose greedy answer is kept, empty for random words."""

    contender: Contender
    endpoint: Endpoint
    target: Target
    longest: int
    loaded: Loaded | None = None
    text: tuple[int, ...] = ()

    @property
    def engine(self) -> Engine:
        return self.contender.engine

    @property
    def attached(self) -> bool:
        return self.endpoint.launch == "attach"


def verify(probe: Probe) -> ProbeFacts:
    """Reads the version and the settings, and sends two identical streamed requests: reported counts must match what
    was sent, the length must be as asked, and nothing may come from a cache that is declared off.

    Raises CannotStart if the engine does not answer, and, for an engine that was started by the harness, for the first
    setting or count that is not as asked. For a server that already ran, deviations are recorded and judged by the
    checks of each cell."""
    version = read_version(probe)
    shown = read_settings(probe)
    asked = probe.contender.settings
    context = asked.get("context_tokens") or shown.get("context_tokens") or probe.longest
    if not probe.attached and shown.get("context_tokens", context) < context:
        raise CannotStart(f"has a context of {shown['context_tokens']} tokens, not {context} as asked")
    rng = random.Random(PROBE_SEED)
    length = max(1, min(16, context // 4))
    ids = draw(rng, probe.target.prompts.vocabulary, 2 * length, probe.target.prompts.lead)
    first = _one(probe, ids, length)
    before = read_counters(probe.endpoint, probe.engine)
    second = _one(probe, ids, length)
    cached = second.cached_tokens
    if cached is None:
        counted = increase(before, read_counters(probe.endpoint, probe.engine)).get("cached_tokens")
        cached = None if counted is None else int(counted)
    if asked and not asked[CACHE] and cached:
        raise CannotStart(f"answered {cached} prompt tokens from its prefix cache, which is declared off")
    offset = _offset(probe, second, ids)
    _check_room(probe, context, offset or 0)
    drawn = draw(rng, probe.target.prompts.vocabulary, ANSWER_PROMPT_TOKENS, probe.target.prompts.lead)
    prompt = probe.text or drawn
    room = min(ANSWER_TOKENS, context - len(prompt) - (offset or 0))
    answered = answer(probe, prompt, room) if room > 0 else Answered()
    return ProbeFacts(
        version=version,
        settings=shown,
        prompt_tokens=second.prompt_tokens,
        prompt_offset=offset,
        output_tokens=second.output_tokens,
        count_source=second.count_source,
        cached_tokens=cached,
        first_token_s=(first.first_token_s or 0.0) - (first.sent_s or 0.0),
        answer_ids=answered.ids,
        answer_likely=answered.likely,
        answer_text=answered.text,
        alone=_alone(probe),
    )


def _check_room(probe: Probe, context: int, offset: int) -> None:
    """Raises CannotStart if a chat template leaves the longest request no room: answers would be cut."""
    if not probe.attached and offset > 0 and (needed := probe.longest + offset) > context:
        raise CannotStart(
            f"its chat template adds {offset} tokens to each prompt, so that the longest request has {needed}: more "
            f"than profile.context_tokens = {context}; raise it"
        )


def _alone(probe: Probe) -> AloneFacts | None:
    """The answer to a request of a load with nothing else in flight. Not where a prefix cache may be on: the request
    would find its prompt there when it is measured."""
    if probe.loaded is None or probe.contender.settings.get(CACHE) is not False:
        return None
    request = probe.loaded.request
    found = answer(probe, request.prompt_ids, min(request.output_tokens, ALONE_TOKENS))
    if not found.ids:
        return None
    return AloneFacts(load=probe.loaded.load, index=request.index, ids=found.ids, likely=found.likely)


def look(probe: Probe) -> ProbeFacts:
    """What the pages of a server that already runs show, and how many tokens its chat template adds to a prompt: two
    short requests for a chat route, none for others. If these fail, the facts say why."""
    facts = ProbeFacts(version=read_version(probe), settings=read_settings(probe))
    if not probe.target.chat:
        return facts
    rng = random.Random(PROBE_SEED)
    ids = draw(rng, probe.target.prompts.vocabulary, 8, probe.target.prompts.lead)
    try:
        first = _one(probe, ids, LOOK_TOKENS)
        return replace(facts, prompt_tokens=first.prompt_tokens, prompt_offset=_offset(probe, first, ids))
    except CannotStart as problem:
        return replace(facts, problem=str(problem))


def read_version(probe: Probe) -> str | None:
    """The version that it reports; None if it does not."""
    engine = probe.engine
    if engine.version_reading is None:
        return None
    try:
        version = str(read_fact(probe.endpoint, engine.version_reading, "version"))
        if engine.commit is not None:
            where, tested = engine.commit
            commit = read_fact(probe.endpoint, where, "commit")
            # Another version may have the same number: only its commit keeps it from being called the tested one.
            if isinstance(commit, str) and commit and not commit.startswith(tested):
                version = f"{version} of {commit[:7]}"
        return visible(version, _VERSION)
    except CannotStart:
        if probe.attached:
            return None
        raise


def declared(engine: Engine, endpoint: Endpoint) -> dict[str, str]:
    """What cannot be made equal: of the engine, of it on this device, and of what its log says that it is running."""
    found = {**engine.declared, **(engine.declared_on.get(endpoint.device, {}) if endpoint.device else {})}
    for pattern, words in engine.declared_logged.items():
        if re.search(pattern, _log(endpoint)):
            found |= words
    return found


def _log(endpoint: Endpoint) -> str:
    return endpoint.log.read_text(encoding="utf-8", errors="replace") if endpoint.log else ""


def read_settings(probe: Probe) -> dict[str, int]:
    """The settings that the running engine shows, less what it reserves of them. Raises CannotStart if the harness
    started the engine and a page named in the engine file does not show them."""
    shown = {}
    for name, where in probe.engine.facts.items():
        if isinstance(where, LogLine):
            found = re.findall(where.pattern, _log(probe.endpoint))
            # The last one counts: some engines try a setting first.
            if found and (value := whole_number(found[-1])) is not None:
                shown[name] = max(0, value - where.reserved)
            continue
        try:
            read = read_fact(probe.endpoint, where, name.replace("_", " "))
            if read == -1:  # no limit
                continue
            if (value := whole_number(read) if isinstance(read, int) else None) is None:
                raise CannotStart(f"shows {visible(repr(read), 80)} as its {name.replace('_', ' ')} at {where.path}")
            shown[name] = max(0, value - where.reserved)
        except CannotStart:
            if not probe.attached:
                raise
    return shown


def _one(probe: Probe, ids: Sequence[int], length: int) -> RequestRecord:
    # The length is forced where it can be, however answers end in the workload: only then can it be checked.
    forcing = replace(probe.target, natural=False)
    (record,) = forcing.replay(Schedule((Request(0, tuple(ids), length),), 1)).records
    if record.error:
        raise CannotStart(f"failed the probe request: {record.error}")
    if not probe.attached:
        _check_counts(probe, record)
    return record


def _check_counts(probe: Probe, record: RequestRecord) -> None:
    counted = record.count_source != "events"  # events are not tokens: a token may have no event
    if not record.output_tokens or (counted and record.output_tokens != record.asked_tokens):
        ended = record.finish_reason == "stop" and declared(probe.engine, probe.endpoint).get("end of sequence")
        why = f" (end of sequence: {ended})" if ended else ""
        raise CannotStart(f"returned {record.output_tokens} tokens to a request for {record.asked_tokens}{why}")
    if record.reported_tokens not in (None, record.output_tokens):
        raise CannotStart(f"reports {record.reported_tokens} output tokens but sent {record.output_tokens}")
    if not probe.target.chat and record.prompt_tokens not in (None, record.sent_tokens):
        raise CannotStart(f"counts {record.prompt_tokens} prompt tokens, but {record.sent_tokens} were sent")


def _offset(probe: Probe, long: RequestRecord, ids: Sequence[int]) -> int | None:
    """How many tokens it adds to every prompt (a chat template); None if prompts are not counted, or if the number
    differs between two prompt lengths."""
    if long.prompt_tokens is None:
        return None
    offset = long.prompt_tokens - long.sent_tokens
    if not probe.attached and not probe.target.chat:
        return offset
    short = _one(probe, ids[: max(1, len(ids) // 2)], long.asked_tokens)
    same = short.prompt_tokens is not None and short.prompt_tokens - short.sent_tokens == offset
    return offset if same else None


def answer(probe: Probe, prompt: Sequence[int], length: int) -> Answered:
    """A greedy continuation, without streaming so that no id is missing; without ids where they are not shown."""
    target = probe.target
    if not isinstance(target.dialect, Dialect):
        return Answered()
    try:
        found = _answered(target, target.dialect, prompt, length)
    except (NoPage, CannotStart) as problem:
        if probe.attached:
            return Answered()
        raise CannotStart(f"failed the answer probe: {problem}") from None
    # If an engine does not show its context, a short answer is the only sign that the context is too small.
    ended = target.natural and len(found.ids) < length
    if found.ids and len(found.ids) != length and not probe.attached and not ended:
        raise CannotStart(f"answered a prompt of {len(prompt)} tokens with {len(found.ids)} tokens instead of {length}")
    return found


def _answered(target: Target, dialect: Dialect, prompt: Sequence[int], length: int) -> Answered:
    page = _post(target, dialect, target.body(prompt, length, stream=False, also=dialect.likely))
    if page.status >= 400 and dialect.likely:  # another version may not name the most likely tokens
        page = _post(target, dialect, target.body(prompt, length, stream=False))
    ids = _ids_of(success(page), dialect)
    text = "".join(map(said, events_of(page.body) if page.kind == "text/event-stream" else (page.body,)))
    try:
        steps = dialect.read_likely(page.body)
    except _ODD:
        steps = ()
    rounded = tuple(tuple((token, round(value, 4)) for token, value in step) for step in steps[:LIKELY_STEPS])
    return Answered(ids, rounded, text[:MOST_TEXT])


def _post(target: Target, dialect: Dialect, body: bytes) -> Page:
    with Pages(target.address, target.key, target.deadline_s) as pages:
        return pages.post(dialect.route, body)


def _ids_of(page: Page, dialect: Dialect) -> tuple[int, ...]:
    try:
        streamed = page.kind == "text/event-stream"
        events = [dialect.parse(data) for data in (events_of(page.body) if streamed else (page.body,))]
    except _ODD:
        raise CannotStart(f"its answer cannot be read: {message_in(page.body, page.kind)}") from None
    if errors := [event.error for event in events if event.error]:
        raise CannotStart(visible(errors[0]))
    ids = tuple(token for event in events for token in event.ids)
    if not all(0 <= token < MOST for token in ids):
        raise CannotStart("its answer has token ids that no vocabulary has")
    return ids


def with_model_name(target: Target, endpoint: Endpoint, wanted: str) -> Target:
    """The target with the server's name of the model in its requests: `wanted`, else the only one that it lists. Raises
    CannotStart if it lists several, or none although its API needs a name."""
    if wanted:
        return replace(target, more={"model": wanted, **target.more})
    try:
        names = model_names(_models_page(endpoint).json())
    except (NoPage, LookupError, TypeError) as problem:
        if isinstance(target.dialect, Dialect) and target.dialect.route.endswith("/completions"):
            why = problem if isinstance(problem, NoPage) else "it is no list of models"
            raise CannotStart(f"does not list its models at /v1/models ({why}); give served_model") from None
        return target
    if not names:
        raise CannotStart("lists no models; name the one to ask for as served_model")
    if len(names) > 1:
        some = ", ".join(visible(name, 80) for name in names[:5])
        raise CannotStart(f"lists {len(names)} models ({some}); name one of them as served_model")
    return replace(target, more={"model": names[0], **target.more})


def _models_page(endpoint: Endpoint) -> Page:
    """The list of models. Raises NoPage of the first place that was asked."""
    try:
        return get(endpoint, "/v1/models")
    except NoPage as problem:
        try:
            return get(endpoint, "/models")  # of a URL whose version is not /v1
        except NoPage:
            raise problem from None


def model_names(page: object) -> list[str]:
    """The names of the models that generate text, each once, from a list in any of the usual shapes: the OpenAI API's
    `data`, Ollama's `models`, or a bare list, of names or of objects. Raises LookupError and TypeError for others."""
    entries = page if isinstance(page, list) else None
    if isinstance(page, Mapping):
        entries = next((page[key] for key in ("data", "models") if isinstance(page.get(key), list)), None)
    if entries is None:
        raise LookupError("no list")
    return list(dict.fromkeys(_model_name(one) for one in entries if not _other_kind(one)))


def _model_name(entry: object) -> str:
    if isinstance(entry, str):
        return entry
    if not isinstance(entry, Mapping):
        raise TypeError("neither a name nor an object")
    named = (entry.get(key) for key in ("id", "model", "name", "key"))
    found = next((str(one) for one in named if isinstance(one, str | int) and str(one)), None)
    if found is None:
        raise LookupError("a model without a name")
    return found


def _other_kind(entry: object) -> bool:
    """Whether an entry says that it is a model that generates no text."""
    kind = entry.get("type") if isinstance(entry, Mapping) else None
    return isinstance(kind, str) and kind.lower().startswith(("embed", "rerank", "image", "audio", "speech", "whisper"))
