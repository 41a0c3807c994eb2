"""Prepares the candidates of a plan: looks up engines, installs or pulls them, finds weights."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from harness.adapter import Dialect, Engine, TritonDialect, Venv
from harness.campaign.contender import Contender
from harness.campaign.target import CHAT, Prompts, check_changes, dialect_at, no_text, takes_text
from harness.commands.by_default import by_default
from harness.driver.address import check_url, tls_context, without_values
from harness.errors import CannotStart, HarnessError, Stopped, unknown
from harness.launch import compose
from harness.launch.attach import read_key
from harness.launch.docker_host import Image, find_image
from harness.launch.install import cannot_install, ensure_converter, ensure_installed, is_installed, recipe_of
from harness.launch.values import settings
from harness.launch.ways import Here, Way, ways
from harness.model.resolve import Converter, Model, weights, weights_there
from harness.model.tokenizer import Texts, has_chat_template
from harness.model.variant import Variant, read_variant
from harness.paths import expanded
from harness.records.manifest import ModelFacts
from harness.steps import Say
from harness.workload.candidate import Candidate, profile_of
from harness.workload.plan import Plan
from harness.workload.profile import Profile

CONVERT, IMAGE, BUILD = 500, 1_000, 10_000  # more than any number of packages


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A candidate that can take part. `way` is None for a server that already runs. `env`, `program` and `package`
    belong to a process, `image` to a container; `variant` is set if it brings other weights."""

    contender: Contender
    profile: Profile
    way: Way | None = None
    because: str = ""  # why the preferred ways did not work; empty if this is the first choice
    env: Path = Path()
    program: str = ""
    package: str = ""
    image: Image | None = None
    pull_s: float = 0.0
    variant: Variant | None = None
    weights: Path = Path()  # what it loads

    @property
    def how(self) -> str:
        """How it starts, in words."""
        return str(self.way) if self.way else f"already running at {without_values(self.contender.candidate.url)}"


def choose(known: Mapping[str, Engine], plan: Plan, names: Sequence[str], file: str) -> tuple[Candidate, ...]:
    """The candidates asked for: `names` (candidates of the file, or engines), else the file's, else every engine that
    can be started. A name given twice is measured twice, the second time as NAME-again: an A/A test. Raises
    HarnessError for an unknown name, and for a key that an engine cannot use."""
    by_name = {candidate.name: candidate for candidate in plan.candidates}
    if names:
        for name in names:
            if name not in by_name and name not in known:
                raise unknown("candidate or engine", name, {*by_name, *known}, file)
        asked = [by_name.get(name) or Candidate(engine=name, name=name) for name in names]
        chosen = _told_apart(asked, set(by_name))
    elif plan.candidates:
        chosen = list(plan.candidates)
    else:
        chosen = [Candidate(engine=e.name, name=e.name) for e in by_default(known, plan)]
    for candidate in chosen:
        where = f"{file}: candidate {candidate.name}" if candidate.name != candidate.engine else file
        if candidate.engine not in known:
            raise unknown("engine", candidate.engine, known, where)
        _check_use(candidate, known[candidate.engine], f"{file}: candidate {candidate.name}")
    return tuple(chosen)


def _told_apart(candidates: Sequence[Candidate], taken: set[str]) -> list[Candidate]:
    """The same candidates with a name each: vllm, vllm-again, vllm-again2. `taken`: names that the file gives."""
    found: list[Candidate] = []
    for candidate in candidates:
        name, used = candidate.name, {one.name for one in found}
        again = (f"{candidate.name}-again{i or ''}" for i in itertools.chain([0], itertools.count(2)))
        while name in used or (name in taken and name != candidate.name):
            name = next(again)
        found.append(replace(candidate, name=name))
    return found


def _check_use(candidate: Candidate, engine: Engine, where: str) -> None:
    """Raises HarnessError for a key that this engine cannot use."""
    if candidate.attached:
        check_url(candidate.url, f"{where}: url")
    natives = [native for native in (engine.native, engine.native_cuda) if native and native.command]
    takes = {native.takes for native in natives}
    for key in ("python", "program"):
        if getattr(candidate, key) and key not in takes:
            other = next((k for k in takes if k), "")
            hint = f"; it takes {other}" if other else ""
            raise HarnessError(f"{where}: {engine.title} does not take {key}{hint}.")
    if candidate.image and not engine.containers:
        raise HarnessError(f"{where}: {engine.title} does not take image: it has no compose file.")
    if candidate.version and not any(native.install for native in natives):
        raise HarnessError(f"{where}: {engine.title} does not take version: it is not installed natively.")
    if candidate.trust_remote_code and engine.trust_flags is None:
        raise HarnessError(f"{where}: {engine.title} does not take trust_remote_code: no argument allows that.")
    _check_prompt(candidate, engine, where)


def _check_prompt(candidate: Candidate, engine: Engine, where: str) -> None:
    """Raises HarnessError for a form of prompts that the engine, or the route of the URL, does not take."""
    own = engine.dialect
    if not isinstance(own, Dialect):
        _check_changes(candidate, own, where)
        if candidate.prompt in ("ids", "chat"):
            raise HarnessError(f"{where}: prompt is {candidate.prompt}, but {engine.title} takes text.")
        return
    if candidate.prompt == "ids" and own.prompt == "text" and not candidate.attached:
        raise HarnessError(f"{where}: prompt is ids, but {engine.title} takes text.")
    try:
        dialect = dialect_at(engine, own, _path_of(candidate), candidate.prompt)
    except HarnessError as problem:
        raise HarnessError(f"{where}: {'url: ' if candidate.attached else ''}{problem}") from None
    _check_changes(candidate, dialect, where)
    if candidate.prompt == "ids" and dialect.route.endswith(CHAT):
        raise HarnessError(f"{where}: prompt is ids, but chat takes text; leave it out, or use a completions route.")


def _check_changes(candidate: Candidate, dialect: Dialect | TritonDialect, where: str) -> None:
    try:
        check_changes(candidate, dialect)
    except HarnessError as problem:
        raise HarnessError(f"{where}: {problem}") from None


def _path_of(candidate: Candidate) -> str:
    return check_url(candidate.url, "url").path.rstrip("/") if candidate.attached else ""


@dataclass(frozen=True, slots=True)
class Ground:
    """What preparing a candidate needs, the same for all of them."""

    plan: Plan
    model: Model
    here: Here
    cache: Path
    secrets: tuple[str, ...] = ()  # names of environment variables that hold API keys
    named: bool = True  # whether the user named the candidates; otherwise every engine is tried

    def once(self, looked: Prepared) -> bool:
        """Whether the candidate is measured in one round only: what it shows here says nothing of its speed, and nobody
        named it."""
        candidate, engine = looked.contender.candidate, looked.contender.engine
        own = candidate.attached or candidate.python or candidate.program  # it may have what ours has not
        return not (self.named or own) and self.here.device in engine.no_speed_on


def prepare(candidate: Candidate, engine: Engine, ground: Ground, say: Say) -> Prepared:
    """The candidate, ready to start: `look`, then `make_ready`."""
    return make_ready(look(candidate, engine, ground), ground, say)


def look(candidate: Candidate, engine: Engine, ground: Ground) -> Prepared:
    """The candidate, as far as nothing has to be installed for it: what it serves, and with which settings. Raises
    CannotStart for what is known to fail, and for any HarnessError: the other candidates go on."""
    with _only_cannot_start():
        plan, model = ground.plan, ground.model
        if reason := engine.cannot(plan.workload):
            raise CannotStart(reason)
        if engine.grpc and plan.workers > 1:
            raise CannotStart("its requests over gRPC are sent by one process: set workers = 1")
        if engine.grpc and find_spec("tritonclient") is None:  # before tens of gigabytes are pulled
            raise CannotStart("needs tritonclient for its requests: .venv/bin/pip install '.[triton]'")
        variant = read_variant(candidate.model, model) if candidate.model else None
        profile = profile_of(plan.profile, candidate, "")
        profile = replace(profile, dtype=_dtype(candidate, plan.profile.dtype, variant))
        if candidate.attached:
            tls_context(candidate.ca_file)  # raises now if the file cannot be read
            if candidate.key_env and read_key(candidate.key_env, os.environ) is None:
                raise CannotStart(f"key_env: {candidate.key_env} is not set in the environment")
            served = Contender(candidate, engine, {}, replace(_facts(candidate, engine, model, variant), shown=False))
            return Prepared(contender=served, profile=profile, variant=variant)
        if engine.attach_only:
            raise CannotStart("cannot be started by the harness: give the url of a server that already runs")
        if plan.workload.ends == "natural" and engine.no_natural_ends:
            raise CannotStart(f"answers cannot end by themselves: {engine.no_natural_ends}")
        if candidate.prompt == "chat" and variant is None and not engine.null and not has_chat_template(model.folder):
            raise CannotStart(f"prompt is chat, but {model.name} has no chat template")
        _check_weights(engine, variant)
        table = settings(engine, profile, plan.workload)
        contender = Contender(candidate, engine, table, _facts(candidate, engine, model, variant))
        if variant is None:  # before anything is installed
            there = weights_there(model, engine.weights, ground.cache, _trusted(candidate, engine))
            if there is None and engine.native.conversion is None:
                raise CannotStart(f"has no converter for {model.name}: put a {engine.weights} file in its folder")
        return Prepared(contender=contender, profile=profile, variant=variant)


def make_ready(looked: Prepared, ground: Ground, say: Say) -> Prepared:
    """Installs or pulls what the best way that works here needs. Raises CannotStart with the reason of every way that
    does not work, and for any HarnessError."""
    if looked.contender.candidate.attached:
        return looked
    with _only_cannot_start():
        ready = _first_way(looked, ground, say)
        return replace(ready, weights=_weights(ready, ground, say))


@contextlib.contextmanager
def _only_cannot_start() -> Iterator[None]:
    try:
        yield
    except (CannotStart, Stopped):
        raise
    except HarnessError as problem:
        raise CannotStart(str(problem)) from None


def _dtype(candidate: Candidate, common: str, variant: Variant | None) -> str:
    """The precision that the engine is asked for: that of the candidate's own weights, else `common`, the precision of
    the comparison's model. Raises HarnessError if the candidate's profile asks for another: the engine would convert
    the weights, and the manifest would name a precision that was not served."""
    plain = variant is not None and variant.kind == "safetensors" and variant.method is None
    stored = variant.weight_dtype if variant is not None and plain else common
    asked = candidate.profile.get("dtype", "model")
    if asked in ("model", stored):
        return stored
    raise HarnessError(f"profile.dtype is {asked}, but its weights are {stored}; leave the key out")


def _facts(candidate: Candidate, engine: Engine, model: Model, variant: Variant | None) -> ModelFacts:
    """What is known of the weights. For a server that already runs, only what the comparison file says."""
    facts = model.facts()
    if variant is not None:
        facts = replace(
            facts,
            weight_dtype=variant.weight_dtype,
            weights=variant.name,
            weights_digest=variant.digest,
            weight_bytes=variant.weight_bytes,
            decode_bytes=variant.decode_bytes,
        )
    by_args = _precision_by_args(candidate, engine)
    if "weights" in by_args:
        dtype = f"{by_args['weights']} (from {facts.weight_dtype} as it loads)"
        facts = replace(facts, weight_dtype=dtype, weight_bytes=None, decode_bytes=None)  # as many as it makes of them
    return replace(facts, kv_dtype=by_args.get("kv"))


def _precision_by_args(candidate: Candidate, engine: Engine) -> dict[str, str]:
    """The precision of weights and KV cache that the candidate's own arguments set."""
    words = [word for arg in candidate.args for word in arg.split("=", 1)]
    return {engine.precision_flags[flag]: value for flag, value in pairwise(words) if flag in engine.precision_flags}


def _check_weights(engine: Engine, variant: Variant | None) -> None:
    """Raises CannotStart if the engine cannot load the candidate's own weights."""
    if variant is None:
        return
    if variant.kind != engine.weights:
        wants = {"gguf": "a GGUF file", "safetensors": "a folder with safetensors"}[engine.weights]
        raise CannotStart(f"cannot load {variant.name}: it takes {wants}")
    if variant.method is not None and variant.method not in engine.quantized:
        have = ", ".join(engine.quantized) or "none"
        raise CannotStart(f"cannot load {variant.name}: weights quantised by {variant.method}; it loads: {have}")


def to_install(looked: Prepared, ground: Ground) -> int:
    """How long making it ready will take, roughly, as a number to sort by: 0 if there is nothing to do, then the number
    of packages, a conversion of the model, an image, a build from source."""
    candidate, engine = looked.contender.candidate, looked.contender.engine
    if candidate.attached or candidate.python or candidate.program:
        return 0
    pull = 0
    trusted = _trusted(candidate, engine)
    converted = looked.variant or weights_there(ground.model, engine.weights, ground.cache, trusted)
    convert = 0 if converted else CONVERT
    for way in _ways(looked, ground)[0]:
        if way.launch == "compose":
            assert ground.here.docker is not None
            name = compose.image_name(engine, way.device, candidate.image)
            if find_image(ground.here.docker, name) is not None:
                return convert
            pull = IMAGE  # where it cannot be pulled, the next way is taken
            continue
        version = candidate.version or engine.tested_on(way.device)
        if cannot_install(engine, way.device, version, ground.cache) is None:
            recipe = recipe_of(engine, way.device, version)
            if is_installed(engine, way.device, version, ground.cache) or recipe is None:
                return convert or min(pull, 1)
            return max(pull, convert, len(recipe.requirements) + 1 if isinstance(recipe, Venv) else BUILD)
    return max(pull, convert)


def _ways(base: Prepared, ground: Ground) -> tuple[Sequence[Way], Sequence[str]]:
    """The ways to start it that are possible here, the best first, and why others are not."""
    candidate = base.contender.candidate
    native_only = candidate.python or candidate.program or candidate.version
    launch = candidate.launch or ("process" if native_only else "")
    return ways(base.contender.engine, ground.here, launch or ("compose" if candidate.image else ground.plan.launch))


def _first_way(base: Prepared, ground: Ground, say: Say) -> Prepared:
    """The candidate with the best way to start it that works here."""
    found, reasons = _ways(base, ground)
    refusals = list(reasons)
    for way in found:
        try:
            make_ready = _process if way.launch == "process" else _container
            ready = make_ready(base, way, ground, say)
            if ready.contender.engine.instead_of and not ground.named:
                refusals.insert(0, f"in place of {ready.contender.engine.instead_of}, which cannot start here")
            return replace(ready, way=way, because="; ".join(refusals))
        except CannotStart as problem:
            refusals.append(f"no {way}: {problem}")
    raise CannotStart("; ".join(refusals))


def _weights(ready: Prepared, ground: Ground, say: Say) -> Path:
    """What it loads, converted now if necessary: before its first start, and never between two of its measured runs."""
    if ready.variant:
        return ready.variant.path
    candidate, engine = ready.contender.candidate, ready.contender.engine
    trusted = _trusted(candidate, engine)

    def converter() -> Converter:
        python, script = ensure_converter(engine, ground.cache, say, ground.secrets)
        say("converting the model")
        return Converter(python, script, ground.secrets, trusted)

    return weights(ground.model, engine.weights, ground.cache, converter, trusted)


def _trusted(candidate: Candidate, engine: Engine) -> bool:
    """Whether a conversion for it may run code of the model's folder."""
    return candidate.trust_remote_code and engine.native.conversion is not None


def _process(base: Prepared, way: Way, ground: Ground, say: Say) -> Prepared:
    candidate, engine = base.contender.candidate, base.contender.engine
    own = candidate.python or candidate.program
    if own:
        path = expanded(own).absolute()
        if not path.is_file():
            raise CannotStart(f"{own}: {'a folder, not a program' if path.is_dir() else 'no such file'}")
        if not os.access(path, os.X_OK):
            raise CannotStart(f"{own}: may not be executed; chmod +x makes it a program")
        # An interpreter's environment is the folder above its bin folder; a program's is the folder it is in.
        return replace(base, env=path.parent.parent if candidate.python else path.parent, program=str(path))
    native = engine.native_on(way.device)
    assert native is not None
    version = candidate.version or engine.tested_on(way.device)
    env = ensure_installed(engine, way.device, version, ground.cache, say, ground.secrets)
    return replace(base, env=env, program=native.program.format(env=env), package=version)


def _container(base: Prepared, way: Way, ground: Ground, say: Say) -> Prepared:
    engine, here = base.contender.engine, ground.here
    assert here.docker is not None
    say("looking for its image")
    began = time.monotonic()
    name = compose.image_name(engine, way.device, base.contender.candidate.image)
    there = find_image(here.docker, name) is not None
    image = compose.ensure_image(here.docker, name, ground.cache / "engines" / f"{engine.name}-pull.log", say)
    return replace(base, image=image, pull_s=0.0 if there else time.monotonic() - began)


def text_needed(chosen: Iterable[tuple[Candidate, Engine]]) -> bool:
    """Whether a candidate takes text. Then all prompts use only ids that survive the round trip through text:
    otherwise the candidates would get different prompts."""
    return any(takes_text(engine, _path_of(candidate), candidate.prompt) for candidate, engine in chosen)


def prompts_of(model: Model, text: bool) -> Prompts:
    """The ids that prompts are drawn from, those that each begins with, and how a prompt becomes text if any has to."""
    if not text:
        return Prompts(model.vocabulary, (), no_text)
    texts = Texts(model.folder / "tokenizer.json", model.vocab_size)
    return Prompts(texts.vocabulary, texts.lead, texts.text)


def saying(title: str, say: Callable[[str], None]) -> Say:
    """Progress lines for one candidate."""
    return lambda text: say(f"{title}: {text}")
