"""From the candidates of a plan to what can take part here: engines looked up, installed or pulled, weights found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from harness.adapter import Dialect, Engine
from harness.campaign.contender import Contender
from harness.campaign.target import Prompts, dialect_at, takes_text
from harness.driver.address import tls_context
from harness.errors import CannotStart, HarnessError, unknown
from harness.launch import compose
from harness.launch.docker_host import Image, find_image
from harness.launch.install import ensure_installed
from harness.launch.steps import Say
from harness.launch.values import settings
from harness.launch.ways import Here, Way, ways
from harness.model.resolve import Model
from harness.model.tokenizer import Texts
from harness.model.variant import Variant, read_variant
from harness.records.manifest import ModelFacts
from harness.workload.candidate import Candidate, profile_of
from harness.workload.plan import Plan
from harness.workload.profile import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A candidate that can take part. `way` None: it is attached to. `env`, `program`, `package`: of a process;
    `image`: of a container; `variant`: weights of its own."""

    contender: Contender
    profile: Profile
    way: Way | None = None
    because: str = ""  # why not a way that would be preferred; empty if this is the first
    env: Path = Path()
    program: str = ""
    package: str = ""
    image: Image | None = None
    pull_s: float = 0.0
    variant: Variant | None = None

    @property
    def how(self) -> str:
        """How it comes to be, in words."""
        return str(self.way) if self.way else f"already running at {self.contender.candidate.url}"


def choose(known: Mapping[str, Engine], plan: Plan, names: Sequence[str], file: str) -> tuple[Candidate, ...]:
    """The candidates asked for: those of `names` (candidates of the file, or engines), else the file's, else every
    engine that can be started. Raises HarnessError for a name that is neither, and for a key that an engine has no
    use for."""
    by_name = {candidate.name: candidate for candidate in plan.candidates}
    if names:
        for name in names:
            if name not in by_name and name not in known:
                raise unknown("candidate or engine", name, {*by_name, *known}, file)
        chosen = [by_name.get(name) or Candidate(engine=name, name=name) for name in dict.fromkeys(names)]
    elif plan.candidates:
        chosen = list(plan.candidates)
    else:
        real = [e for e in known.values() if not e.null and not e.attach_only]
        chosen = [Candidate(engine=e.name, name=e.name) for e in real]
    for candidate in chosen:
        where = f"{file}: candidate {candidate.name}" if candidate.name != candidate.engine else file
        if candidate.engine not in known:
            raise unknown("engine", candidate.engine, known, where)
        _check_use(candidate, known[candidate.engine], f"{file}: candidate {candidate.name}")
    return tuple(chosen)


def _check_use(candidate: Candidate, engine: Engine, where: str) -> None:
    """Raises HarnessError for a key that this engine has no use for."""
    natives = [native for native in (engine.native, engine.native_cuda) if native and native.command]
    takes = {native.takes for native in natives}
    for key in ("python", "program"):
        if getattr(candidate, key) and key not in takes:
            other = next((k for k in takes if k), "")
            hint = f"; it takes {other}" if other else ""
            raise HarnessError(f"{where}: {key} is of no use for {engine.title}{hint}.")
    if candidate.image and not engine.containers:
        raise HarnessError(f"{where}: image is of no use for {engine.title}: it has no compose file.")
    if candidate.version and not any(native.install for native in natives):
        raise HarnessError(f"{where}: version is of no use for {engine.title}: it is not installed natively.")
    if not candidate.attached:
        return
    if not isinstance(engine.dialect, Dialect):
        if candidate.prompt == "ids":
            raise HarnessError(f"{where}: prompt is ids, but {engine.title} takes text.")
        return
    try:
        route = dialect_at(engine, engine.dialect, _path_of(candidate)).route
    except HarnessError as problem:
        raise HarnessError(f"{where}: url: {problem}") from None
    if candidate.prompt == "ids" and route.endswith("/chat/completions"):
        raise HarnessError(f"{where}: prompt is ids, but a chat takes text; leave it out, or name a completions route.")


def _path_of(candidate: Candidate) -> str:
    return urlsplit(candidate.url).path.rstrip("/") if candidate.attached else ""


@dataclass(frozen=True, slots=True)
class Ground:
    """What every candidate of a comparison is prepared on."""

    plan: Plan
    model: Model
    here: Here
    cache: Path


def prepare(candidate: Candidate, engine: Engine, ground: Ground, say: Say) -> Prepared:
    """Installs or pulls what the best way needs that works here. Raises CannotStart with every way's reason, and
    HarnessError as CannotStart: what this candidate lacks does not concern the others."""
    try:
        plan, model = ground.plan, ground.model
        if reason := engine.cannot(plan.workload):
            raise CannotStart(reason)
        if engine.grpc and find_spec("tritonclient") is None:  # before tens of gigabytes are pulled
            raise CannotStart("its requests need a library: .venv/bin/pip install '.[triton]'")
        profile = profile_of(plan.profile, candidate, "")
        if profile.dtype == "model":  # said by the candidate itself: it means what it means for all
            profile = replace(profile, dtype=plan.profile.dtype)
        variant = read_variant(candidate.model, model) if candidate.model else None
        if candidate.attached:
            tls_context(candidate.ca_file)  # one that cannot be read is this candidate's matter
            served = Contender(candidate, engine, {}, replace(_facts(candidate, engine, model, variant), shown=False))
            return Prepared(contender=served, profile=profile, variant=variant)
        if engine.attach_only:
            raise CannotStart("is not started from here: give the url of a server that already runs")
        _check_weights(engine, variant)
        table = settings(engine, profile, plan.workload)
        contender = Contender(candidate, engine, table, _facts(candidate, engine, model, variant))
        return _first_way(Prepared(contender=contender, profile=profile, variant=variant), ground, say)
    except CannotStart:
        raise
    except HarnessError as problem:
        raise CannotStart(str(problem)) from None


def _facts(candidate: Candidate, engine: Engine, model: Model, variant: Variant | None) -> ModelFacts:
    """What is known of the weights. Of a server that already runs it is what its user says."""
    facts = model.facts()
    if variant is not None:
        facts = replace(facts, weight_dtype=variant.weight_dtype, weights=variant.name, weights_digest=variant.digest)
    told = _precision_by_args(candidate, engine)
    if "weights" in told:
        facts = replace(facts, weight_dtype=f"{told['weights']} (from {facts.weight_dtype} as it loads)")
    return replace(facts, kv_dtype=told.get("kv"))


def _precision_by_args(candidate: Candidate, engine: Engine) -> dict[str, str]:
    """The precision of the weights and of the cache that the candidate's own arguments ask for."""
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


def _first_way(base: Prepared, ground: Ground, say: Say) -> Prepared:
    """The best way to start it that works here, ready to be taken."""
    candidate, engine = base.contender.candidate, base.contender.engine
    native_only = candidate.python or candidate.program or candidate.version
    launch = candidate.launch or ("process" if native_only else "")
    launch = launch or ("compose" if candidate.image else ground.plan.launch)
    found, reasons = ways(engine, ground.here, launch)
    refusals = list(reasons)
    for way in found:
        try:
            if way.launch == "process":
                ready = _process(base, way, ground.cache, say)
            else:
                ready = _container(base, way, ground, say)
            return replace(ready, way=way, because="; ".join(refusals))
        except CannotStart as problem:
            refusals.append(f"no {way}: {problem}")
    raise CannotStart("; ".join(refusals))


def _process(base: Prepared, way: Way, cache: Path, say: Say) -> Prepared:
    candidate, engine = base.contender.candidate, base.contender.engine
    own = candidate.python or candidate.program
    if own:
        path = Path(own).expanduser().absolute()
        if not path.is_file():
            raise CannotStart(f"{own}: no such file")
        # Of an interpreter in a bin folder the environment is the folder above; of a build the folder it lies in.
        return replace(base, env=path.parent.parent if candidate.python else path.parent, program=str(path))
    native = engine.native_on(way.device)
    assert native is not None
    version = candidate.version or engine.tested_on(way.device)
    env = ensure_installed(engine, way.device, version, cache, say)
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


def prompts_of(model: Model, chosen: Iterable[tuple[Candidate, Engine]]) -> Prompts:
    """The ids that prompts are drawn from, those that each begins with, and how one is written out.

    Where one candidate takes text, every candidate's prompts are of ids that stay themselves as text: else they would
    be asked different things."""
    if not any(_wants_text(candidate, engine) for candidate, engine in chosen):
        return Prompts(model.vocabulary, (), no_text)
    texts = Texts(model.folder / "tokenizer.json")
    return Prompts(texts.vocabulary, texts.lead, texts.text)


def _wants_text(candidate: Candidate, engine: Engine) -> bool:
    return takes_text(engine, _path_of(candidate), candidate.prompt)


def no_text(ids: Sequence[int]) -> str:
    """Prompts of ids are not written out."""
    raise HarnessError("no candidate of this comparison takes text")


def saying(title: str, say: Callable[[str], None]) -> Say:
    """What is being done for one candidate, on the terminal."""
    return lambda text: say(f"{title}: {text}")
