"""`harness compare`: prepare, measure, judge, show."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from harness.adapter import Engine
from harness.campaign.rounds import Served, Setting, now_utc, on_disk, run_campaign
from harness.campaign.target import Text
from harness.commands.serving import Prepared, prepare, serve
from harness.commands.show import show, terminal
from harness.driver.connection import allow_connections
from harness.errors import CannotStart, HarnessError, unknown
from harness.launch.docker_host import remove_leftovers
from harness.launch.running import free_port
from harness.launch.steps import Say
from harness.launch.values import settings
from harness.launch.ways import Here, Launch, look_around
from harness.model.resolve import Model, resolve
from harness.model.tokenizer import Texts
from harness.nullengine.calibrate import calibrate
from harness.paths import cache_folder
from harness.progress import Display, clock, time_left
from harness.records.calibration import CALIBRATION
from harness.records.campaign import read_campaign
from harness.records.manifest import MANIFEST, Manifest
from harness.records.stored import write_json
from harness.workload.plan import Plan, read_plan, stored
from harness.workload.schedule import schedules_digest
from harness.workload.spec import LoadPoint

RESULTS = Path("results")
PLAN = "plan.json"


def compare(
    known: Mapping[str, Engine],
    file: Path,
    names: Sequence[str],
    model_name: str | None,
    results: Path | None,
    resume: Path | None,
    launch: Launch | None = None,
) -> int:
    """Runs the comparison that `file` describes and reports it; returns the exit status."""
    plan = read_plan(file)
    plan = replace(plan, engines=tuple(names) or plan.engines, model=model_name or plan.model)
    plan = replace(plan, launch=launch or plan.launch)
    chosen = choose(known, plan, str(file))
    if plan.port:
        free_port(plan.port)
    allow_connections()
    console = terminal()
    cache = cache_folder()
    started_at = now_utc()
    folder = resume or new_folder(results, plan.name)
    with Display(console) as display:
        display.say(f"model {plan.model}")
        model = resolve(plan.model, cache)
        plan = fit_to(plan, model)
        skipped: dict[str, str] = {}
        here = look_around(plan.device)
        if here.docker is not None and plan.launch != "process":
            for gone in remove_leftovers(here.docker):
                display.keep(f"removed a container of {gone} that a killed run had left")
        ready = prepare_all(chosen, plan, here, cache, skipped, display)
        vocabulary, lead, text = prompts_of(model, [engine for name, engine in chosen.items() if name in ready])
        setting = Setting(
            plan=plan,
            model=model.describe(),
            vocabulary=vocabulary,
            lead=lead,
            text=text,
            settings={name: settings(engine, plan.profile, plan.workload) for name, engine in chosen.items()},
            schedules_digest=schedules_digest(plan.workload, plan.rounds, vocabulary, lead),
            folder=folder,
            started_at=started_at,
        )
        asked = Asked(stored(plan), model.digest)
        if resume:
            setting = check_resumable(setting, asked)
            for name in ready:
                check_same_start(resume, ready[name])
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / PLAN, asked)
        if not (folder / CALIBRATION).is_file():
            write_json(folder / CALIBRATION, calibrate(plan.workload, plan.workers, now_utc(), display.say))
        measure(setting, chosen, skipped, ready, model, here, cache, display)
    if not any(folder.glob(f"runs/*/*/*/{MANIFEST}")):
        raise nothing_started(skipped)
    status = show(folder, console)
    if folder.parent == RESULTS and not folder.is_symlink():
        with contextlib.suppress(OSError):  # a convenience: results/latest for the next command
            (RESULTS / "latest").unlink(missing_ok=True)
            (RESULTS / "latest").symlink_to(folder.name)
    return status


def prepare_all(
    chosen: Mapping[str, Engine],
    plan: Plan,
    here: Here,
    cache: Path,
    skipped: dict[str, str],
    display: Display,
) -> dict[str, Prepared]:
    """Every engine that can start here; adds to `skipped` why the others cannot. Raises CannotStart where none can."""
    ready = {}
    for name, engine in chosen.items():
        try:
            ready[name] = prepare(engine, plan, here, cache, saying(engine, display))
            because = f" ({ready[name].because})" if ready[name].because else ""
            display.keep(f"{engine.title}: {ready[name].way}{because}")
        except CannotStart as problem:
            skipped[name] = str(problem)
            display.keep(f"{engine.title} skipped: {problem}")
    if not ready:
        raise nothing_started(skipped)
    return ready


def saying(engine: Engine, display: Display) -> Say:
    """What is being done for this engine, on the terminal."""
    return lambda text: display.say(f"{engine.title}: {text}")


def prompts_of(model: Model, engines: Iterable[Engine]) -> tuple[Sequence[int], Sequence[int], Text]:
    """The ids that prompts are drawn from, those that each begins with, and how one is written out.

    Where one engine takes text, every engine's prompts are of ids that stay themselves as text: else the
    engines would be asked different things."""

    def no_text(ids: Sequence[int]) -> str:
        raise HarnessError("no engine of this comparison takes text")

    if all(engine.dialect.prompt == "ids" for engine in engines):
        return model.vocabulary, (), no_text
    texts = Texts(model.folder / "tokenizer.json")
    return texts.vocabulary, texts.lead, texts.text


def nothing_started(skipped: Mapping[str, str]) -> CannotStart:
    """The error for a comparison without a single run: every engine's reason in one line."""
    return CannotStart("no engine could be started. " + " ".join(f"{n}: {r}" for n, r in skipped.items()))


def choose(known: Mapping[str, Engine], plan: Plan, file: str) -> dict[str, Engine]:
    """The engines asked for, or every real one. Raises HarnessError for a name that no engine has."""
    for name in plan.engines:
        if name not in known:
            raise unknown("engine", name, known, file)
    if plan.engines:
        return {name: known[name] for name in plan.engines}
    return {name: engine for name, engine in known.items() if not engine.null and not engine.attach_only}


def new_folder(results: Path | None, name: str) -> Path:
    """A folder that holds nothing yet. Raises HarnessError where it does."""
    folder = results or RESULTS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if folder.is_dir() and any(folder.iterdir()):
        raise HarnessError(f"{folder} is not empty; name another folder, or continue it with --resume {folder}.")
    return folder


def fit_to(plan: Plan, model: Model) -> Plan:
    """The plan in the model's own precision. Raises HarnessError where the comparison wants another
    precision, which some engines would convert to and others not, or more context than the model has."""
    profile = plan.profile
    if profile.dtype not in ("model", model.weight_dtype):
        raise HarnessError(
            f"profile.dtype is {profile.dtype}, but the weights of {model.name} are {model.weight_dtype}; leave "
            "the key out, or name a checkpoint in that precision."
        )
    if profile.context_tokens > model.context_tokens:
        raise HarnessError(
            f"profile.context_tokens is {profile.context_tokens}, but {model.name} was made for "
            f"{model.context_tokens}; lower it."
        )
    return replace(plan, profile=replace(profile, dtype=model.weight_dtype))


@dataclass(frozen=True, slots=True)
class Asked:
    """`plan.json`: what a comparison was asked, to be asked the same when it is resumed."""

    plan: Plan
    model_digest: str


def check_resumable(setting: Setting, asked: Asked) -> Setting:
    """The same setting under the old start time. Raises HarnessError where the folder was asked otherwise:
    rounds under two configurations would go into one mean."""
    folder = setting.folder
    try:
        earlier = read_campaign(folder)
        before = msgspec.json.decode((folder / PLAN).read_bytes(), type=Asked)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        raise HarnessError(f"{folder} holds no comparison to resume ({PLAN} or campaign.json is missing).") from None
    # Name, engines, port and where a trace lies (its SHA-256 must agree) may differ: they change no number. How
    # engines were really started is checked for each.
    old, new = (
        replace(
            plan,
            name="",
            engines=(),
            port=0,
            launch="auto",
            device="auto",
            workload=replace(plan.workload, trace=""),
        )
        for plan in (before.plan, asked.plan)
    )
    if before.model_digest != asked.model_digest or earlier.schedules_digest != setting.schedules_digest:
        raise HarnessError(f"{folder} was measured with other requests; resume it with its own file and model.")
    if old != new:
        raise HarnessError(f"{folder} was measured with another profile or deadline; resume it with its own file.")
    return replace(setting, started_at=earlier.started_at)


def check_same_start(folder: Path, ready: Prepared) -> None:
    """Raises HarnessError where this engine's earlier rounds were started in another way or from another image."""
    for file in sorted(folder.glob(f"runs/{ready.engine.name}/*/*/{MANIFEST}"))[:1]:
        earlier = msgspec.json.decode(file.read_bytes(), type=Manifest)
        before = (earlier.launch, earlier.settings.get("device"), dict(earlier.image))
        image = {"name": ready.image.name, "digest": ready.image.digest} if ready.image else {}
        if before != (ready.way.launch, ready.way.device, image):
            was = f"{earlier.launch} on the {earlier.settings.get('device')}" + "".join(
                f", {value}" for value in earlier.image.values()
            )
            raise HarnessError(
                f"{folder}: {ready.engine.title} was measured there as a {was}; now it would be a {ready.way}"
                + (f", {ready.image.name}, {ready.image.digest}" if ready.image else "")
                + ". Start it in the same way, or measure anew."
            )


def measure(
    setting: Setting,
    chosen: Mapping[str, Engine],
    skipped: dict[str, str],
    ready: Mapping[str, Prepared],
    model: Model,
    here: Here,
    cache: Path,
    display: Display,
) -> None:
    """The campaign, with its progress on the terminal."""
    plan = setting.plan
    remaining = [
        (name, point.name)
        for round_index in range(1, plan.rounds + 1)
        for name in chosen
        if name not in skipped
        for point in plan.workload.load
        if not on_disk(setting.folder, name, point, round_index)
    ]
    total = len(remaining)
    taken: dict[tuple[str, str], float] = {}

    def ran(name: str, point: LoadPoint, round_index: int, seconds: float) -> None:
        key = (name, point.name)
        taken[key] = seconds
        if key in remaining:
            remaining.remove(key)
        left = time_left(taken, [k for k in remaining if k[0] not in skipped])
        display.keep(
            f"run {total - len(remaining)}/{total}  round {round_index}/{plan.rounds}  "
            f"{chosen[name].title} {point.name}: {seconds:.1f} s"
            + (f"; about {clock(left)} of load left" if left else "")
        )
        display.say("next load point")

    def serving(engine: Engine, log: Path) -> contextlib.AbstractContextManager[Served]:
        table = setting.settings[engine.name]
        return serve(ready[engine.name], plan, table, model, here, cache, log, saying(engine, display))

    try:
        run_campaign(setting, chosen, skipped, serving, display.say, ran)
    except KeyboardInterrupt:
        display.keep(f"interrupted; continue with --resume {setting.folder}")
        raise
