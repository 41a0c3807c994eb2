"""`harness compare`: prepare, measure, judge, show."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.adapter import Engine
from harness.campaign.again import check_round, set_aside
from harness.campaign.contender import Contender
from harness.campaign.power_command import words_of
from harness.campaign.rounds import Rounds, Watch, run_campaign
from harness.campaign.schedules import freeze, schedules_digest
from harness.campaign.session import Setting, now_utc
from harness.commands.alone import alone_in, check_empty, new_folder
from harness.commands.candidates import Ground, choose, prompts_of, saying, text_needed
from harness.commands.look_for import Found, look_for, nothing_started
from harness.commands.progress import Progress
from harness.commands.resume import PLAN, Earlier, StoredPlan, check_same_starts, read_earlier, to_store
from harness.commands.serving import AtHand, serve
from harness.commands.show import ShowOptions, show, terminal
from harness.commands.so_far import show_first, show_round
from harness.commands.texts import with_texts
from harness.decode.replay import Drivers
from harness.driver.connection import allow_connections
from harness.errors import INVALID_CELLS, OUR_FAULT, HarnessError, Stopped
from harness.launch.docker_host import remove_leftovers
from harness.launch.endpoint import Endpoint
from harness.launch.running import free_port
from harness.launch.ways import look_around
from harness.model.resolve import Model, resolve
from harness.nullengine.calibrate import calibrate
from harness.nullengine.peaks import highest, machine_peaks
from harness.paths import cache_folder
from harness.progress import Display
from harness.records.calibration import CALIBRATION
from harness.records.campaign import Campaign, finished_runs
from harness.records.stored import write_json
from harness.workload.candidate import Launch
from harness.workload.given_files import check_folder
from harness.workload.plan import Plan, read_plan, with_prices

RESULTS = Path("results")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """The command line of `harness compare`."""

    file: Path
    names: Sequence[str] = ()  # candidates in the file, or engines
    model: str | None = None
    launch: Launch | None = None
    results: Path | None = None
    resume: Path | None = None
    then: Path | None = None  # the folder of an earlier comparison to hold this one against
    again: int | None = None  # a round to measure again when resuming
    allow_machine: bool = False  # resume even if the earlier rounds were measured on another machine


def run_comparison(known: Mapping[str, Engine], options: CompareOptions) -> int:
    """Runs the comparison that the file describes and reports it; returns the exit status."""
    check_again(options)
    plan = read_plan(options.file)
    refuse = _later_refusal(options)
    plan = replace(plan, model=options.model or plan.model, launch=options.launch or plan.launch)
    by_name = bool(options.names or plan.candidates)
    secrets = tuple({candidate.key_env for candidate in plan.candidates if candidate.key_env})
    if options.resume and not (options.names or plan.candidates):
        # Those that it began with: by default there may be others by now.
        plan = replace(plan, candidates=read_earlier(options.resume).asked.plan.candidates)
    plan = with_prices(replace(plan, candidates=choose(known, plan, options.names, str(options.file))))
    if plan.port and not all(candidate.attached for candidate in plan.candidates):
        free_port(plan.port)
    allow_connections()
    console = terminal()
    folder = options.resume or folder_of(options.results, plan.name)
    with _writing_in(folder, resuming=options.resume is not None):
        with Display(console) as display:
            rounds, kit = _prepare(known, Asked(plan, by_name, secrets), options, folder, display)
            refuse(rounds, kit.at_hand.model.digest)
            if not (folder / CALIBRATION).is_file():
                _calibrate(rounds, plan.workers, folder, display)
            campaign = _measure(rounds, kit, plan.precision, options.allow_machine, display)
        if not finished_runs(folder):
            raise nothing_started(campaign.skipped)
        shown = ShowOptions(allow_machine=options.allow_machine, file=options.file, then=options.then)
        status = show(folder, console, shown)
    _point_latest_to(folder)
    if kit.faults:
        console.print(f"A fault of the harness left out {' and '.join(kit.faults)}: please report it.", soft_wrap=True)
        return OUR_FAULT
    # A named candidate that was left out is missed even where it has all its runs from before.
    return max(status, INVALID_CELLS) if any(name in campaign.named for name in campaign.skipped) else status


@contextlib.contextmanager
def _writing_in(folder: Path, resuming: bool) -> Iterator[None]:
    if resuming and not (folder / PLAN).is_file():
        read_earlier(folder)  # says what is missing, and leaves no lock in a folder that is none of ours
    with alone_in(folder) if resuming else new_folder(folder):
        yield


def _later_refusal(options: CompareOptions) -> Callable[[Rounds, str], None]:
    """Reads the earlier comparison at once; what is returned refuses, before anything is measured, what cannot be held
    against it."""
    if options.then is None:
        return lambda rounds, model: None
    from harness.commands.against import judged_again, refuse_before_measuring  # imports what judges

    then, where, allow_machine = judged_again(options.then, options.allow_machine), options.then, options.allow_machine
    return lambda rounds, model: refuse_before_measuring(then, where, rounds, model, allow_machine)


def check_again(options: CompareOptions) -> None:
    """Raises HarnessError if `again` cannot be done."""
    if options.again is None:
        return
    if options.resume is None:
        raise HarnessError("--again needs --resume DIR: the comparison whose round is measured again.")
    if options.names:
        raise HarnessError("--again measures a round of all candidates again; leave --engines out.")
    check_round(options.resume, options.again)


@dataclass(frozen=True, slots=True)
class Asked:
    """The plan with the candidates that were chosen, and whether the user named them. `secrets`: names of environment
    variables with keys, of all candidates in the file."""

    plan: Plan
    by_name: bool
    secrets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kit:
    """What starting the candidates needs. `faults`: the titles of those that a fault of the harness left out."""

    found: Found
    ground: Ground
    at_hand: AtHand

    @property
    def faults(self) -> list[str]:
        return self.found.faults


def _prepare(
    known: Mapping[str, Engine], chosen: Asked, options: CompareOptions, folder: Path, display: Display
) -> tuple[Rounds, Kit]:
    """Everything up to the first start: model, candidates, requests, and the folder."""
    plan, secrets = chosen.plan, chosen.secrets
    earlier = read_earlier(folder) if options.resume else None
    cache = cache_folder()
    display.say(f"model {plan.model}")
    model = resolve(plan.model, cache, display.say, secrets)
    plan = with_texts(fit_to(plan, model), model)
    for source in (plan.workload.trace_facts, plan.workload.text_facts):
        if source is not None:
            display.keep(source.words)
    here = look_around(plan.device)
    if here.docker is not None and plan.launch != "process":
        for gone in remove_leftovers(here.docker):
            display.keep(f"removed a container of {gone} left by a killed run")
    ground = Ground(plan, model, here, cache, secrets, chosen.by_name)
    found = look_for(known, ground, display, wait=earlier is None)
    skipped, looked = found.skipped, {**found.ready, **found.waiting}
    asking = ((p.contender.candidate, p.contender.engine) for p in looked.values())
    text = bool(plan.workload.texts) or text_needed(asking)
    text = earlier.text(text) if earlier else text
    prompts = prompts_of(model, text)
    asked = StoredPlan(to_store(plan), model.digest, text)
    started_at = now_utc()
    if earlier:
        earlier.check(asked, schedules_digest(plan.workload, plan.rounds, prompts))
        check_same_starts(folder, found.ready, options.allow_machine)
        asked = earlier.with_more(asked)
        started_at = earlier.campaign.started_at if earlier.campaign else started_at
        skipped = {**earlier.skipped_without(looked), **skipped}
    write_json(folder / PLAN, asked)
    display.say("requests")
    setting = Setting(
        workload=plan.workload,
        prompts=prompts,
        schedules=freeze(plan.workload, plan.rounds, prompts, folder),
        deadline_s=plan.request_deadline_s,
        drivers=Drivers(plan.workers),
        slo=plan.slo,
        power_command=words_of(plan.power_command),
    )
    rounds = Rounds(
        name=plan.name,
        folder=folder,
        started_at=started_at,
        rounds=plan.rounds,
        candidates=[candidate.name for candidate in asked.plan.candidates],
        named=(named := _named(earlier, chosen)),
        contenders={one.name: looked[one.name].contender for one in plan.candidates if one.name in looked},
        skipped=skipped,
        setting=setting,
        budget_s=plan.budget_s,
        measured_s=earlier.campaign.measured_s if earlier and earlier.campaign else 0.0,
        repeated=_repeated(earlier, options.again, display),
        once=tuple(name for name, one in looked.items() if ground.once(one) and name not in named),
        later=found.later,
    )
    return rounds, Kit(found, ground, AtHand(model=model, here=here, cache=cache, port=plan.port, secrets=secrets))


def _named(earlier: Earlier | None, chosen: Asked) -> list[str]:
    """The candidates that the user named, now or before."""
    before = earlier.campaign.named if earlier and earlier.campaign else ()
    return list(dict.fromkeys([*before, *(one.name for one in chosen.plan.candidates if chosen.by_name)]))


def _calibrate(rounds: Rounds, workers: int, folder: Path, display: Display) -> None:
    """Measures the client's own floor and, for the weights of each candidate, the machine: before and after, because
    something else may run on it for some seconds."""
    sizes = [contender.model.decode_bytes for contender in rounds.contenders.values() if not contender.engine.null]
    display.say("how fast this machine reads memory")
    before = machine_peaks(sizes)
    found = calibrate(rounds.setting.workload, workers, now_utc(), display.say)
    display.say("how fast this machine reads memory")
    write_json(folder / CALIBRATION, replace(found, peaks=highest(before, machine_peaks(sizes))))


def _repeated(earlier: Earlier | None, again: int | None, display: Display) -> tuple[int, ...]:
    """The rounds that were measured again, with `again`, whose runs are set aside here."""
    before = earlier.campaign.repeated if earlier and earlier.campaign else ()
    if earlier is None or again is None:
        return before
    display.keep(f"round {again} is measured again; its runs are in {set_aside(earlier.folder, again)}")
    return (*before, again)


def _measure(rounds: Rounds, kit: Kit, precision: float, allow_machine: bool, display: Display) -> Campaign:
    """Runs the campaign and shows its progress."""
    progress = Progress(rounds, display)

    @contextlib.contextmanager
    def serving(contender: Contender, log: Path) -> Iterator[Endpoint]:
        progress.starting(contender)
        with serve(kit.found.ready[contender.name], kit.at_hand, log, saying(contender.title, display.say)) as endpoint:
            progress.started()
            yield endpoint
        progress.stopped()

    def prepare_now(contender: Contender) -> None:
        if contender.name not in kit.found.waiting:
            return
        if finished_runs(rounds.folder) and kit.found.must_install(contender.name, kit.ground):
            show_first(rounds.folder, contender.title, display, allow_machine)
        kit.found.install(contender.name, kit.ground, display)

    watch = Watch(
        say=lambda contender: saying(contender.title, display.say),
        ran=progress.ran,
        left_out=progress.left_out,
        wide=lambda round_index: show_round(rounds, round_index, display, precision, allow_machine),
        further=progress.further,
        fault=lambda contender: kit.faults.append(contender.title),
        prepare=prepare_now,
    )
    try:
        return run_campaign(rounds, serving, watch)
    except (KeyboardInterrupt, Stopped):
        display.keep(f"interrupted; continue with --resume {rounds.folder}")
        raise


def folder_of(results: Path | None, name: str) -> Path:
    """The folder for new results. Raises HarnessError at once if it has files."""
    folder = results or RESULTS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    check_folder(folder)
    check_empty(folder)
    return folder


def _point_latest_to(folder: Path) -> None:
    if folder.parent == RESULTS and not folder.is_symlink():
        with contextlib.suppress(OSError):  # a convenience: results/latest for the next command
            (RESULTS / "latest").unlink(missing_ok=True)
            (RESULTS / "latest").symlink_to(folder.name)


def fit_to(plan: Plan, model: Model) -> Plan:
    """The plan in the model's own precision. Raises HarnessError if the comparison asks for another precision (some
    engines would convert the weights, others not) or for more context than the model has."""
    profile = plan.profile
    if profile.dtype not in ("model", model.weight_dtype):
        raise HarnessError(
            f"profile.dtype is {profile.dtype}, but the weights of {model.name} are {model.weight_dtype}; leave "
            "the key out, or name a checkpoint in that precision."
        )
    contexts = {"profile.context_tokens": profile.context_tokens}
    for candidate in plan.candidates:
        if not candidate.model and candidate.profile.get("dtype", "model") not in ("model", model.weight_dtype):
            raise HarnessError(
                f"candidate {candidate.name}: profile.dtype is {candidate.profile['dtype']}, but the weights of "
                f"{model.name} are {model.weight_dtype}; name weights in that precision as its model."
            )
        if own := candidate.profile.get("context_tokens"):
            contexts[f"candidate {candidate.name}: profile.context_tokens"] = own
    for key, context in contexts.items():
        if context > model.context_tokens:
            raise HarnessError(f"{key} is {context}, but {model.name} has {model.context_tokens}; lower it.")
    return replace(plan, profile=replace(profile, dtype=model.weight_dtype))
