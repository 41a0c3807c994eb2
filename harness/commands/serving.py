"""Starts a comparison's candidates: with Docker Compose, as a process, or not at all (a URL)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.campaign.contender import Contender
from harness.commands.candidates import Prepared
from harness.errors import CannotStart, HarnessError, Stopped
from harness.launch import compose, process
from harness.launch.attach import attach, read_key, require_answer
from harness.launch.endpoint import Endpoint
from harness.launch.running import two_free_ports
from harness.launch.start import Start
from harness.launch.values import Places, chosen_gpus, launch_values
from harness.launch.ways import Here
from harness.model.resolve import Model, mountable
from harness.secret_names import HIDDEN, masked
from harness.steps import Say


@dataclass(frozen=True, slots=True, kw_only=True)
class AtHand:
    """What every start of a comparison can use."""

    model: Model
    here: Here
    cache: Path
    port: int  # 0: any free one
    secrets: tuple[str, ...] = ()  # names of environment variables that hold API keys


@contextlib.contextmanager
def serve(prepared: Prepared, at_hand: AtHand, log: Path, say: Say) -> Iterator[Endpoint]:
    """The candidate's running endpoint, until the block is left. Raises CannotStart."""
    if prepared.way is None:
        with attached(prepared.contender) as endpoint:
            require_answer(endpoint)
            yield endpoint
        return
    with _secrets_hidden(prepared.contender.secrets, log), _started(prepared, at_hand, log, say) as endpoint:
        yield replace(endpoint, stopped=lambda: masked(endpoint.stopped(), prepared.contender.secrets))


@contextlib.contextmanager
def _secrets_hidden(secrets: Sequence[str], log: Path) -> Iterator[None]:
    """Keeps secrets of the launch line out of why it did not start and, once it has stopped, out of its log: engines
    print their arguments."""
    try:
        yield
    except CannotStart as problem:
        problem.args = (masked(str(problem), secrets),)
        raise
    finally:
        if secrets and log.is_file():
            found = hidden = log.read_bytes()
            for secret in secrets:
                hidden = hidden.replace(secret.encode(errors="surrogateescape"), HIDDEN.encode())
            if hidden != found:
                log.write_bytes(hidden)


@contextlib.contextmanager
def _started(prepared: Prepared, at_hand: AtHand, log: Path, say: Say) -> Iterator[Endpoint]:
    """The candidate's endpoint in a process or a container of ours."""
    start = _start(prepared, at_hand, log, say)
    if prepared.way is not None and prepared.way.launch == "process":
        with process.start_process(start, say) as endpoint:
            yield endpoint
        return
    assert at_hand.here.docker is not None and prepared.image is not None
    with compose.start_container(start, at_hand.here.docker, prepared.image, say) as endpoint:
        yield replace(endpoint, cold_start_s={"pull": prepared.pull_s, **endpoint.cold_start_s})


@contextlib.contextmanager
def attached(contender: Contender, environ: Mapping[str, str] = os.environ) -> Iterator[Endpoint]:
    """The server at the candidate's url. Raises CannotStart for a bad URL, and if the variable that holds its API key
    is not set."""
    candidate = contender.candidate
    with contextlib.ExitStack() as stack:
        try:
            key = read_key(candidate.key_env, environ) if candidate.key_env else None
            if candidate.key_env and key is None:
                raise CannotStart(f"key_env: {candidate.key_env} is not set in the environment")
            endpoint = stack.enter_context(attach(candidate.url, key, candidate.ca_file, "url"))
        except HarnessError as problem:
            raise CannotStart(str(problem)) from None
        yield endpoint  # outside of the try: what interrupts a measurement must not look like a server's failure


def _start(prepared: Prepared, at_hand: AtHand, log: Path, say: Say) -> Start:
    """Everything that is decided before it starts: weights, ports, GPUs, values. Raises CannotStart."""
    assert prepared.way is not None
    contender, way = prepared.contender, prepared.way
    engine = contender.engine
    named = contender.candidate.env.get("CUDA_VISIBLE_DEVICES")
    gpus = chosen_gpus(engine, way.device, prepared.profile.gpus, named)
    say("loading the model")
    try:
        path = prepared.weights
        if way.launch == "compose":
            digest = prepared.variant.digest if prepared.variant else at_hand.model.digest
            path = mountable(path, digest, at_hand.cache)
        ports = two_free_ports(at_hand.port)
    except Stopped:
        raise
    except HarnessError as problem:  # the other candidates may still start
        raise CannotStart(str(problem)) from None
    folder = at_hand.cache / "engines" / "kept" / engine.name
    folder.mkdir(parents=True, exist_ok=True)
    places = Places(
        env=prepared.env,
        cache=folder,
        program=prepared.program,
        weights=path,
        cache_values=at_hand.model.cache_values,
    )
    return Start(
        engine=engine,
        candidate=contender.candidate,
        device=way.device,
        values=launch_values(engine, contender.settings, places, ports, gpus),
        gpus=gpus,
        log=log,
        package=prepared.package,
        secrets=at_hand.secrets,
    )
