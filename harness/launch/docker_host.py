"""The Docker daemon of this machine: whether containers can start here, and which images there are."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import psutil
import requests

from harness.environment import without_secrets
from harness.errors import CannotStart
from harness.launch.docker_command import compose_version, daemon_url, run_docker
from harness.machine import describe_machine
from harness.steps import telling_line
from harness.visible import visible

COMPOSE = Path(__file__).parents[2] / "compose"
PINS = "digests.json"
LABEL = "inference-engine-comparison"
_LEAST_COMPOSE = (2, 23, 1)  # the first version whose compose files can contain an engine's configuration file

# A pattern in Docker's messages -> what it means and what to do.
_OF_DOCKER = (
    (
        r"toomanyrequests|rate limit",
        "the registry's rate limit is reached: docker login, or wait",
    ),
    (r"manifest unknown|manifest for .* not found", "there is no image with that tag"),
    (r"no matching manifest|exec format error", "the image is for another processor architecture"),
    (r"pull access denied|unauthorized|denied: requested", "the registry refuses the image; log in with docker login"),
    (r"no space left on device", "the disk is full"),
    (
        r"no such host|i/o timeout|TLS handshake|dial tcp|Client\.Timeout|x509|deadline exceeded|unexpected EOF",
        "the image is not on this machine and its registry cannot be reached",
    ),
    (r"port is already allocated|address already in use", "its port is taken; stop what listens there or set port = 0"),
    (
        r"could not select device driver|nvidia-container-cli",
        "Docker has no NVIDIA runtime: install the NVIDIA Container Toolkit",
    ),
    (r"permission denied while trying to connect", "no permission on Docker's socket"),
)
# A pattern in an engine's log -> why it ended.
_OF_AN_ENGINE = (
    (r"exec format error", "the image is for another processor architecture"),
    (r"illegal instruction", "this processor lacks instructions that the image was built for"),
    (r"out of memory|cannot allocate memory|\boom\b", "not enough memory for the model and its cache"),
    (r"no space left on device", "the disk is full"),
    (r"permission denied: '?/model", "the weights cannot be read by others: chmod -R o+rX their folder"),
    (r"gated repo|401 client error", "the model is gated: set HF_TOKEN, so that the harness can download it"),
)


def docker_meaning(text: str) -> str:
    """What Docker's message means, by the first known pattern; empty if none matches."""
    return _first(_OF_DOCKER, text)


def engine_meaning(text: str) -> str:
    """Why an engine probably exited, from the last lines of its log; empty if no pattern matches."""
    return _first(_OF_AN_ENGINE, text)


def _first(signs: Sequence[tuple[str, str]], text: str) -> str:
    return next((says for pattern, says in signs if re.search(pattern, text, re.IGNORECASE)), "")


@contextlib.contextmanager
def docker_answers() -> Iterator[None]:
    """Turns errors of Docker's API into CannotStart: the other candidates go on."""
    try:
        yield
    except (docker.errors.DockerException, requests.exceptions.RequestException) as problem:
        raise CannotStart(f"Docker: {visible(str(problem))}") from None


@dataclass(frozen=True, slots=True)
class DockerHost:
    """A running Docker daemon."""

    client: docker.DockerClient
    version: str
    compose: str
    gpu: bool  # containers get an NVIDIA GPU


def docker_host() -> DockerHost:
    """The Docker daemon. Raises CannotStart with the reason if no container can start here."""
    if shutil.which("docker") is None:
        raise CannotStart("no docker command on PATH; install Docker Engine with its Compose plugin")
    url = daemon_url()
    client, version, info = _connected(url)
    compose = compose_version()
    shown = ".".join(map(str, compose))
    if compose < _LEAST_COMPOSE:
        least = ".".join(map(str, _LEAST_COMPOSE))
        raise CannotStart(f"Docker Compose {shown} is older than {least}; install a newer one")
    devices = json.dumps(info.get("DiscoveredDevices") or [])
    # With its hook, the NVIDIA toolkit works without being registered as a runtime.
    gpu = "nvidia" in (info.get("Runtimes") or {}) or "nvidia" in devices or shutil.which("nvidia-container-cli")
    return DockerHost(client, version, shown, bool(gpu))


def _connected(url: str) -> tuple[docker.DockerClient, str, Mapping[str, Any]]:
    """The daemon's client, its version, and what it says of itself."""
    try:
        with _no_proxy():
            where = docker.utils.kwargs_from_env(environment={**os.environ, "DOCKER_HOST": url})
            client = docker.DockerClient(**where, timeout=60)
        client.api.trust_env = False
        version, info = str(client.version()["Version"]), client.info()
        if not isinstance(info, dict):
            raise TypeError("no object")
    except (docker.errors.DockerException, requests.exceptions.RequestException) as problem:
        if "Permission denied" in str(problem):
            raise CannotStart(f"no permission on Docker's socket {url}; add this user to the group docker") from None
        raise CannotStart(f"no Docker daemon answers at {visible(url)}; start it") from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise CannotStart(f"what answers at {visible(url)} is no Docker daemon") from None
    return client, version, info


@contextlib.contextmanager
def _no_proxy() -> Iterator[None]:
    """Without this a daemon on 127.0.0.1 would be asked through HTTP_PROXY: the client asks for the daemon's version
    while it is made, before it can be told not to."""
    before = os.environ.get("NO_PROXY")
    os.environ["NO_PROXY"] = "*"
    try:
        yield
    finally:
        del os.environ["NO_PROXY"]
        if before is not None:
            os.environ["NO_PROXY"] = before


def compose_env() -> dict[str, str]:
    """This process's environment for docker compose, without tokens (weights are downloaded before a container starts)
    and without COMPOSE_FILE and the like, which would make it use other files."""
    return {k: v for k, v in without_secrets(os.environ).items() if not k.startswith("COMPOSE_")}


@dataclass(frozen=True, slots=True)
class Project:
    """One engine's compose file on one device, filled in."""

    name: str
    file: Path
    device: str  # the service of that name
    env: Mapping[str, str]

    def command(self, *words: str) -> list[str]:
        """A docker compose command for this project."""
        return ["docker", "compose", "-p", self.name, "-f", str(self.file), "--profile", self.device, *words]

    def run(self, *words: str, timeout_s: float = 120.0) -> str:
        """Runs a docker compose command and returns its output. Raises CannotStart with Docker's message."""
        with subprocess.Popen(
            self.command(*words),
            env={**compose_env(), **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                out, error = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                raise CannotStart(f"docker compose {words[0]} did not end within {timeout_s:g} s") from None
            finally:
                end_session(process)
        if process.returncode:
            raise CannotStart(complaint(f"docker compose {words[0]}", error.splitlines()))
        return out


def end_session(process: subprocess.Popen[Any]) -> None:
    """Kills docker and the Compose plugin, a separate process that would go on creating containers."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def complaint(what: str, lines: Sequence[str]) -> str:
    """One line for a docker command that failed: the meaning, if known, and Docker's message."""
    said = telling_line([line.strip() for line in lines if line.strip()])
    says = docker_meaning("\n".join(lines))
    return f"{says} ({what}: {said})" if says else f"{what} failed: {said}"


def image_of(project: Project) -> str:
    """The image of the service."""
    config = json.loads(project.run("config", "--format", "json"))
    return str(config["services"][project.device]["image"])


@dataclass(frozen=True, slots=True)
class Image:
    """An image on this machine. `digest`: the registry's, or the image's id if it was built here."""

    name: str
    digest: str
    architecture: str


def find_image(host: DockerHost, name: str) -> Image | None:
    """The image of that name; None if it is not on this machine. Raises CannotStart for a malformed name."""
    with docker_answers(), contextlib.suppress(docker.errors.ImageNotFound):
        image = host.client.images.get(name)
        repository = name.partition("@")[0].rpartition(":")[0] if ":" in name.rpartition("/")[2] else name
        digests = [d.split("@") for d in image.attrs.get("RepoDigests") or []]
        own = [digest for found, digest in digests if found in (repository, f"docker.io/{repository}")]
        return Image(name, own[0] if own else str(image.id), image.attrs["Architecture"])
    return None


def read_pins() -> dict[str, str]:
    """Image name -> the digest it must have; empty if nothing was pinned."""
    with contextlib.suppress(FileNotFoundError):
        pins: dict[str, str] = json.loads((COMPOSE / PINS).read_text(encoding="utf-8"))
        return pins
    return {}


def check_pin(image: Image) -> None:
    """Raises CannotStart if the tag now has another image than the one pinned."""
    pinned = read_pins().get(image.name)
    if pinned not in (None, image.digest):
        raise CannotStart(
            f"{image.name} is {image.digest[:19]} here, but {pinned[:19]} is pinned in compose/{PINS}; pull that one, "
            "or pin this one with harness engines --pin"
        )


def remove_leftovers(host: DockerHost) -> list[str]:
    """Removes the containers of harness processes that were killed; returns the names of the engines. Containers that
    are already being removed are ignored."""
    gone: list[str] = []
    with docker_answers():
        found = host.client.containers.list(all=True, filters={"label": f"{LABEL}.owner"}, ignore_removed=True)
    for container in found:
        owner = container.labels[f"{LABEL}.owner"]
        if owner == "by-hand" or alive(owner):
            continue
        take_down(container.labels.get("com.docker.compose.project", ""))
        with contextlib.suppress(docker.errors.APIError):
            container.remove(force=True)
        gone.append(container.labels.get(f"{LABEL}.engine", "an engine"))
    return gone


def take_down(project: str, grace_s: int = 5) -> None:
    """Stops and removes all containers of a compose project."""
    down = ["docker", "compose", "-p", project, "down", "--timeout", str(grace_s)]
    if subprocess.run(down, capture_output=True, check=False, env=compose_env()).returncode:
        for left in containers_of(project):
            subprocess.run(["docker", "rm", "--force", left], capture_output=True, check=False)


def containers_of(project: str) -> list[str]:
    """The ids of a compose project's containers, running or not."""
    label = f"label=com.docker.compose.project={project}"
    return run_docker("ps", "--all", "--quiet", "--filter", label).stdout.split()


def owner() -> str:
    """Identifies this process, so that another can tell whether it still runs: machine, process id and start time."""
    return f"{_machine()}/{os.getpid()}/{_started(os.getpid())}"


def alive(owner: str) -> bool:
    """Whether that process still runs. One on another machine counts as running: it may share this daemon."""
    machine, pid, started = ([*owner.split("/"), "", ""])[:3]
    if machine != _machine() or not pid.isdigit():
        return True
    return _started(int(pid)) == started


def _machine() -> str:
    """This machine and PID namespace."""
    space = Path("/proc/self/ns/pid")
    return str(describe_machine()["id"]) + (space.readlink().name.strip("pid:[]") if space.exists() else "")


def _started(pid: int) -> str:
    """When a process started, in ticks since boot, so that clock steps do not change it; empty if it is gone."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        if sys.platform == "linux":
            return stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        return str(int(psutil.Process(pid).create_time()))
    except (OSError, psutil.NoSuchProcess):
        return ""


def inspect(container: Any) -> dict[str, Any]:
    """The current state of a container; empty if it is gone."""
    try:
        with docker_answers():
            container.reload()
    except CannotStart as problem:
        if "404" in str(problem) or "No such container" in str(problem):
            return {}
        raise
    state: dict[str, Any] = container.attrs["State"]
    return state
