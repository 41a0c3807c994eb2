"""Starts an engine in a container: Docker Compose starts it, Docker's API observes it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from harness.adapter import Engine
from harness.driver.address import local
from harness.errors import CannotStart
from harness.launch.docker_host import (
    COMPOSE,
    DockerHost,
    Image,
    Project,
    check_pin,
    complaint,
    compose_env,
    containers_of,
    docker_answers,
    docker_meaning,
    end_session,
    engine_meaning,
    find_image,
    image_of,
    inspect,
    owner,
)
from harness.launch.endpoint import Endpoint
from harness.launch.keeper import GRACE_S, TRIES
from harness.launch.pages import Pages
from harness.launch.running import says_healthy, signals_deferred, tail, wait_refused, why_stopped
from harness.launch.start import Start
from harness.records.manifest import ImageFacts
from harness.steps import Say, run_step, telling_line

_POLL_S = 0.1
_HEALTHCHECK_S = 30.0  # how much later than ours the compose file's health check may pass
STOP_S = TRIES * (GRACE_S + 15.0)
_ENDED = ("exited", "dead", "removing")


def compose_file(engine: Engine) -> Path:
    """The compose file of the engine."""
    return COMPOSE / f"{engine.name}.yaml"


def image_variable(engine: Engine) -> str:
    """The variable that makes its compose file use another image than the official one."""
    return f"{engine.name.upper()}_IMAGE"


def render(start: Start, image: Image, folder: Path) -> Project:
    """Fills in the compose file with the launch values (variable names in capitals), adds this candidate's arguments,
    variables and GPUs, which no variable of the compose file can express, and writes it into `folder`."""
    name = f"bench-{start.candidate.name.lower().replace('.', '-')}-{os.getpid()}"
    read = _variables(start.engine)
    env = {key.upper(): f"{value}" for key, value in start.values.items() if key.upper() in read}
    env["PREFIX_CACHE_FLAGS"] = " ".join(start.prefix_cache)
    env["OWNER"] = owner()
    env[image_variable(start.engine)] = image.name
    template = Project(name, compose_file(start.engine), start.device, env)
    whole = json.loads(template.run("config", "--format", "json"))
    service = whole["services"][start.device]
    if more := [*start.trust_flags, *start.candidate.args]:
        service["command"] = [*(service.get("command") or ()), *map(_escaped, more)]
    if start.candidate.env:
        own = {key: _escaped(value) for key, value in start.candidate.env.items()}
        if start.gpus:  # it chose them; inside, the chosen ones count from 0
            own.pop("CUDA_VISIBLE_DEVICES", None)
        service["environment"] = {**(service.get("environment") or {}), **own}
    if start.gpus:
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        device["device_ids"] = list(start.gpus)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{start.log.stem}.compose.json"
    file.write_text(json.dumps(whole, indent=2), encoding="utf-8")
    return Project(name, file, start.device, {})


def _variables(engine: Engine) -> set[str]:
    """The names of the variables that its compose file reads."""
    return set(
        re.findall(
            r"\$\{([A-Z0-9_]+)",
            compose_file(engine).read_text(encoding="utf-8") + (COMPOSE / "base.yaml").read_text(encoding="utf-8"),
        )
    )


def _escaped(text: str) -> str:
    """Escaped for a compose file, where a single dollar sign starts a variable."""
    return text.replace("$", "$$")


def _plain(text: str) -> str:
    """Unescaped, as the container gets it."""
    return text.replace("$$", "$")


def _comparable(start: Start, project: Project) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command and the variables of its service. They need no braces: in a container, paths and ports are the same
    at every start."""
    service = json.loads(project.file.read_text(encoding="utf-8"))["services"][start.device]
    words = [*(service.get("entrypoint") or ()), *(service.get("command") or ())]
    env = service.get("environment") or {}
    return tuple(map(_plain, words)), {key: _plain(str(value)) for key, value in env.items()}


def image_name(engine: Engine, device: str, wanted: str = "") -> str:
    """`wanted`, else the image of the compose file, unless the user's environment names another."""
    if wanted:
        return wanted
    placeholders = {name: "1" for name in _variables(engine) if not name.endswith("_IMAGE")}
    return image_of(Project("names", compose_file(engine), device, placeholders))


def ensure_image(host: DockerHost, name: str, log: Path, say: Say) -> Image:
    """The image, pulled if it is missing. Raises CannotStart with the reason in one line."""
    image = find_image(host, name)
    if image is None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)  # or an earlier pull's error would be reported for this one
        try:
            # The whole environment: a private registry's login may be in it, and no code of others runs.
            env = {**os.environ, "DOCKER_CLI_HINTS": "false"}
            run_step(f"docker pull {name}", ["docker", "pull", name], log, say, env=env)
        except CannotStart as problem:
            says = docker_meaning("\n".join(tail(log)) + str(problem))
            raise CannotStart(f"{name}: {says}" if says else str(problem)) from None
        image = find_image(host, name)
        if image is None:
            raise CannotStart(f"{name} was pulled, but is not on this machine")
    check_pin(image)
    return image


@contextlib.contextmanager
def start_container(start: Start, host: DockerHost, image: Image, say: Say) -> Iterator[Endpoint]:
    """The engine in its container, ready to answer; on exit, the container is removed and its port refuses.

    Raises CannotStart if it does not get ready, with the most informative line of its log."""
    engine, log, pages = start.engine, start.log, local(start.port)
    project = render(start, image, log.parent)
    keeper = subprocess.Popen(
        [sys.executable, "-P", "-m", "harness.launch.keeper", project.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    started, container = None, None
    try:
        say("creating its container")
        began = time.monotonic()
        project.run("create")
        created = time.monotonic()
        with docker_answers():
            (container,) = (host.client.containers.get(found) for found in containers_of(project.name))
        started = _up(start, project, container, say)
        launch_line, env = _comparable(start, project)
        yield Endpoint(
            requests=local(start.requests_port),
            pages=pages,
            launch="compose",
            stopped=lambda: why_stopped(engine, pages, _ending(inspect(container)), log),
            device=start.device,
            gpus=start.gpus,
            pid=_visible(container),
            log=log,
            image=ImageFacts(name=image.name, digest=image.digest),
            launch_line=launch_line,
            env=env,
            cold_start_s={
                "create": created - began,
                "start": started.running - created,
                "ready": started.ready - started.running,
            },
            files={"compose.yaml": project.run("config"), "launch.json": _facts(image, container)},
        )
    finally:
        with signals_deferred():
            _stop(keeper, started, container, start.port, engine.title)


def _stop(
    keeper: subprocess.Popen[bytes],
    started: _Started | None,
    container: Any,
    port: int,
    title: str,
) -> None:
    assert keeper.stdin is not None
    ran = started is not None
    with contextlib.suppress(CannotStart):  # the keeper tries again
        ran = ran or (container is not None and inspect(container).get("Status") not in (None, "created"))
    with contextlib.suppress(BrokenPipeError):
        keeper.stdin.write(b"stopped" if started else b"")
        keeper.stdin.close()
    try:
        keeper.wait(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        keeper.kill()
        keeper.wait()
    if started is not None:
        try:
            started.follower.wait(timeout=10)  # ends with its container
        except subprocess.TimeoutExpired:
            started.follower.kill()
            started.follower.wait()
    if keeper.returncode:
        raise CannotStart(f"{title}'s container does not stop; see docker ps")
    if ran:  # otherwise another program may be listening there
        wait_refused(port, title)


@dataclass(frozen=True, slots=True)
class _Started:
    running: float  # monotonic
    ready: float
    follower: subprocess.Popen[bytes]


def _up(start: Start, project: Project, container: Any, say: Say) -> _Started:
    """`docker compose up --wait`, but stops waiting when the container has died."""
    engine, log = start.engine, start.log
    began, timeout_s = time.monotonic(), engine.ready_timeout_s
    client = Pages(local(start.port), deadline_s=2.0)
    with log.with_suffix(".compose").open("w+b") as said, client:
        up = subprocess.Popen(
            project.command("up", "--detach", "--no-recreate", "--wait", "--wait-timeout", f"{timeout_s:.0f}"),
            env={**compose_env(), **project.env},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        follower, running, ready = None, 0.0, 0.0
        try:
            while True:
                state = inspect(container)
                if not running and state.get("Status") != "created":
                    running = time.monotonic()
                    follower = _follow(container, log)
                if follower and (ending := _ending(state)):
                    follower.wait(timeout=10)
                    raise CannotStart(_why_ended(ending, log, "while starting"))
                if not ready and says_healthy(client, engine):
                    ready = time.monotonic()
                status = up.poll()
                if status == 0 and ready and follower:
                    return _Started(running, ready, follower)
                if status:
                    if follower and (ending := _ending(inspect(container))):  # since the look above
                        raise CannotStart(_why_ended(ending, log, "while starting"))
                    raise CannotStart(_why_not_up(engine, said, log, follower))
                now = time.monotonic()
                if ready and now - ready > _HEALTHCHECK_S:
                    raise CannotStart(_why_unhealthy(container))
                waited = now - began
                if waited > timeout_s + _HEALTHCHECK_S:
                    raise CannotStart(_why_not_up(engine, said, log, follower))
                say(f"starting, {waited:.0f} s")
                time.sleep(_POLL_S)
        finally:
            end_session(up)


def _follow(container: Any, log: Path) -> subprocess.Popen[bytes]:
    """Copies its log to a file, in a separate process: in the driver's it would add to the client's lag."""
    with log.open("wb") as out:
        return subprocess.Popen(
            ["docker", "logs", "--follow", str(container.id)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _why_not_up(engine: Engine, said: IO[bytes], log: Path, follower: subprocess.Popen[bytes] | None) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").splitlines()
    if follower is None:
        return complaint("docker compose up", lines)
    last = telling_line(tail(log)[-1:])
    return f"not ready after {engine.ready_timeout_s:g} s; the last line of its log: {last}. Log: {log}"


def _why_unhealthy(container: Any) -> str:
    looks = (inspect(container).get("Health") or {}).get("Log") or [{}]
    said = str(looks[-1].get("Output", "")).strip().splitlines()
    return f"answers, but the health check in its container fails: {said[-1] if said else 'no output'}"


def _ending(state: Mapping[str, Any]) -> str | None:
    """How the container ended; None while it runs."""
    if not state:
        return "was removed"
    if state["Status"] not in _ENDED:
        return None
    how = "was killed: out of memory," if state.get("OOMKilled") else "ended"
    return f"{how} with status {state['ExitCode']}" + (f" ({state['Error']})" if state.get("Error") else "")


def _why_ended(ending: str, log: Path, when: str) -> str:
    lines = tail(log)
    says = engine_meaning("\n".join(lines[-20:]) + ending)
    reason = f"; likely {says}" if says else ""
    return f"its container {ending} {when}: {telling_line(lines)}{reason}. Log: {log}"


def _visible(container: Any) -> int | None:
    """The container's first process, if it is visible among this machine's processes."""
    pid = int(inspect(container).get("Pid") or 0)
    with contextlib.suppress(psutil.NoSuchProcess, OSError):
        if pid and re.search(str(container.id)[:12], Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")):
            return pid
    return None


def _facts(image: Image, container: Any) -> dict[str, Any]:
    attributes = container.attrs
    return {
        "image": image.name,
        "digest": image.digest,
        "architecture": image.architecture,
        "command": [attributes["Path"], *attributes["Args"]],
        "memory_limit_bytes": attributes["HostConfig"]["Memory"],
    }
