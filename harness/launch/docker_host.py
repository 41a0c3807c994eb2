"""The Docker daemon of this machine: whether containers can start here, and what Docker says of images."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import psutil
import requests

from harness.errors import CannotStart
from harness.launch.steps import telling_line

COMPOSE = Path(__file__).parents[2] / "compose"
PINS = "digests.json"
LABEL = "inference-engine-comparison"
_LEAST_COMPOSE = (2, 23, 1)  # from which on a compose file can hold an engine's configuration file
_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY")

# What Docker or an engine's log says -> what it means and what to do.
_MEANINGS = (
    (r"manifest unknown|manifest for .* not found", "there is no image of that tag"),
    (r"no matching manifest|exec format error", "the image is for another processor architecture"),
    (r"pull access denied|unauthorized|denied: ", "the registry refuses the image; log in with docker login"),
    (
        r"no such host|i/o timeout|TLS handshake|dial tcp|Client\.Timeout|x509|deadline exceeded|unexpected EOF",
        "the image is not on this machine and its registry cannot be reached",
    ),
    (r"port is already allocated|address already in use", "its port is taken; stop what listens there or set port = 0"),
    (r"could not select device driver|nvidia-container-cli", "Docker has no NVIDIA runtime: install the NVIDIA "
     "Container Toolkit"),
    (r"no space left on device", "the disk is full"),
    (r"permission denied while trying to connect", "no permission on Docker's socket"),
    (r"gated repo|401 Client Error", "the model is gated: set HF_TOKEN and let the harness download it"),
    (r"illegal instruction", "this processor lacks instructions that the image was built for"),
    (r"out of memory|cannot allocate memory|oom", "not enough memory for the model and its key-value cache"),
)


def meaning(text: str) -> str:
    """What the first known sign in `text` means; empty where it has none."""
    return next((says for pattern, says in _MEANINGS if re.search(pattern, text, re.IGNORECASE)), "")


@dataclass(frozen=True, slots=True)
class DockerHost:
    """A daemon that answers."""

    client: docker.DockerClient
    version: str
    compose: str
    gpu: bool  # containers get an NVIDIA GPU


def docker_host() -> DockerHost:
    """Raises CannotStart with the reason why no container can start here."""
    if shutil.which("docker") is None:
        raise CannotStart("no docker command on PATH; install Docker Engine with its Compose plugin")
    url = os.environ.get("DOCKER_HOST") or _context_url()
    if not url.startswith(("unix://", "npipe://")):
        raise CannotStart(f"Docker's daemon at {url} is on another machine, whose loopback ports do not answer here")
    try:
        client = docker.DockerClient(base_url=url, timeout=60)
        version = str(client.version()["Version"])
        info = client.info()
    except (docker.errors.DockerException, requests.exceptions.RequestException) as problem:
        if "Permission denied" in str(problem):
            raise CannotStart(f"no permission on Docker's socket {url}; add this user to the group docker") from None
        raise CannotStart(f"no Docker daemon answers at {url}; start it") from None
    done = subprocess.run(["docker", "compose", "version", "--short"], capture_output=True, text=True, check=False)
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", done.stdout.strip())
    if done.returncode or not found:
        raise CannotStart("docker has no Compose plugin; install Docker Compose v2")
    if tuple(map(int, found.groups())) < _LEAST_COMPOSE:
        least = ".".join(map(str, _LEAST_COMPOSE))
        raise CannotStart(f"Docker Compose {found[0]} is older than {least}; install a newer one")
    devices = json.dumps(info.get("DiscoveredDevices") or [])
    return DockerHost(client, version, found[0], "nvidia" in (info.get("Runtimes") or {}) or "nvidia" in devices)


def _context_url() -> str:
    """Of the context that the docker command uses; its Python package would not look there."""
    shown = subprocess.run(
        ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return shown.stdout.strip() or "unix:///var/run/docker.sock"


def without_secrets(env: Mapping[str, str]) -> dict[str, str]:
    """Containers never see a token: their weights are downloaded before they start."""
    return {name: value for name, value in env.items() if name not in _SECRETS}


@dataclass(frozen=True, slots=True)
class Project:
    """One engine's compose file on one device, filled in."""

    name: str
    file: Path
    device: str  # the service of that name
    env: Mapping[str, str]

    def command(self, *words: str) -> list[str]:
        """A docker compose command on it."""
        return ["docker", "compose", "-p", self.name, "-f", str(self.file), "--profile", self.device, *words]

    def run(self, *words: str, timeout_s: float = 120.0) -> str:
        """Runs it and returns what it printed. Raises CannotStart with what Docker said."""
        try:
            done = subprocess.run(
                self.command(*words),
                env={**without_secrets(os.environ), **self.env},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CannotStart(f"docker compose {words[0]} did not end within {timeout_s:g} s") from None
        if done.returncode:
            raise CannotStart(complaint(f"docker compose {words[0]}", done.stderr.splitlines()))
        return done.stdout


def complaint(what: str, lines: Sequence[str]) -> str:
    """One line for a docker command that failed: what it means, then what it said."""
    said = telling_line([line.strip() for line in lines if line.strip()])
    says = meaning("\n".join(lines))
    return f"{says} ({what}: {said})" if says else f"{what} failed: {said}"


def image_of(project: Project) -> str:
    """The image that the service starts from."""
    config = json.loads(project.run("config", "--format", "json"))
    return str(config["services"][project.device]["image"])


@dataclass(frozen=True, slots=True)
class Image:
    """An image on this machine. `digest`: of its registry, or its id where it was built here."""

    name: str
    digest: str
    architecture: str


def find_image(host: DockerHost, name: str) -> Image | None:
    """Null where it is not on this machine."""
    with contextlib.suppress(docker.errors.ImageNotFound):
        image = host.client.images.get(name)
        digests: list[str] = image.attrs.get("RepoDigests") or []
        return Image(name, digests[0].partition("@")[2] if digests else str(image.id), image.attrs["Architecture"])
    return None


def read_pins() -> dict[str, str]:
    """Image name -> the digest it must have; empty where nothing was pinned."""
    with contextlib.suppress(FileNotFoundError):
        pins: dict[str, str] = json.loads((COMPOSE / PINS).read_text())
        return pins
    return {}


def check_pin(image: Image) -> None:
    """Raises CannotStart where the tag has come to mean another image than the one pinned."""
    pinned = read_pins().get(image.name)
    if pinned not in (None, image.digest):
        raise CannotStart(
            f"{image.name} is {image.digest[:19]} here, but {pinned[:19]} is pinned in compose/{PINS}; pull that one, "
            "or pin anew with harness engines --pin"
        )


def remove_leftovers(host: DockerHost) -> list[str]:
    """Removes the containers of harnesses that were killed; returns the names of the engines."""
    gone: list[str] = []
    for container in host.client.containers.list(all=True, filters={"label": f"{LABEL}.owner"}):
        owner = container.labels[f"{LABEL}.owner"]
        if owner == "by-hand" or alive(owner):
            continue
        project = container.labels.get("com.docker.compose.project", "")
        subprocess.run(["docker", "compose", "-p", project, "down", "--timeout", "5"], capture_output=True, check=False)
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(force=True)
        gone.append(container.labels.get(f"{LABEL}.engine", "an engine"))
    return gone


def owner() -> str:
    """This process, so that another can tell whether it still lives: machine, id and start."""
    me = psutil.Process()
    return f"{os.uname().nodename}/{me.pid}/{int(me.create_time())}"


def alive(owner: str) -> bool:
    """Whether that process runs. One of another machine is taken to: it may share this daemon."""
    machine, pid, started = ([*owner.split("/"), "", ""])[:3]
    if machine != os.uname().nodename or not pid.isdigit():
        return True
    try:
        return abs(int(psutil.Process(int(pid)).create_time()) - int(started)) <= 1
    except (psutil.NoSuchProcess, ValueError):
        return False


def inspect(container: Any) -> dict[str, Any]:
    """The state of a container as Docker has it now; empty where it is gone."""
    try:
        container.reload()
    except docker.errors.NotFound:
        return {}
    state: dict[str, Any] = container.attrs["State"]
    return state
