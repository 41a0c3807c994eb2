"""The docker command and where its daemon listens, whatever they turn out to be: another machine, a script of Podman's,
nonsense in DOCKER_HOST."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from harness.errors import CannotStart
from harness.visible import visible

_TIMEOUT_S = 30.0  # each of these commands takes a second
_OVER_TCP = ("tcp", "http", "https")
DEFAULT = "unix:///var/run/docker.sock"


def run_docker(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs a docker command. Raises CannotStart if it cannot run or does not end; its status is for the caller."""
    try:
        return subprocess.run(
            ["docker", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise CannotStart(f"docker {words[0]} did not end within {_TIMEOUT_S:g} s") from None
    except OSError as problem:  # a script without its first line, another architecture
        raise CannotStart(f"the docker command cannot run ({problem.strerror})") from None


def daemon_url(environ: Mapping[str, str] = os.environ) -> str:
    """The URL of the daemon on this machine: DOCKER_HOST, else that of the docker command's context, which Docker's
    Python package ignores. Raises CannotStart if it is on another machine, or no URL of a daemon."""
    named = environ.get("DOCKER_HOST", "").strip()
    url = named or _context_url(environ)
    if re.fullmatch(r"[\w.\[\]:-]+:\d+", url):  # docker takes HOST:PORT too
        url = f"tcp://{url}"
    shown = visible(re.sub(r"//[^/@]*@", "//", url))
    try:
        scheme, host = urlsplit(url).scheme, urlsplit(url).hostname
    except ValueError:
        scheme, host = "", None
    if scheme == "unix":
        with contextlib.suppress(PermissionError):  # the client says so
            if not Path(url.removeprefix("unix://")).exists():
                raise CannotStart(f"no Docker daemon answers at {shown}: there is no such socket; start it")
        return url
    if scheme == "npipe" or (scheme in _OVER_TCP and _is_here(host)):
        return url
    if scheme == "ssh" or (scheme in _OVER_TCP and host):
        why = "is on another machine; its loopback ports cannot be reached here"
        raise CannotStart(f"Docker's daemon at {shown} {why}")
    where = "DOCKER_HOST" if named else "the docker command's context"
    raise CannotStart(f"{where} is '{shown}', which is no daemon's; give unix:///PATH or tcp://127.0.0.1:PORT")


def _is_here(host: str | None) -> bool:
    """Whether a daemon's host is this machine: `tcp://:2375` is, as docker reads it."""
    if not host or host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _context_url(environ: Mapping[str, str]) -> str:
    done = run_docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
    urls = re.findall(r"^\w+://\S+$", done.stdout, re.MULTILINE)  # Podman's script prints a line of its own
    if not urls and (name := environ.get("DOCKER_CONTEXT")):
        raise CannotStart(f"DOCKER_CONTEXT is '{visible(name)}', a context that docker does not know")
    return urls[-1] if urls else DEFAULT


def compose_version() -> tuple[int, int, int]:
    """The version of the Compose plugin. Raises CannotStart if there is none."""
    done = run_docker("compose", "version", "--short")
    found = re.search(r"^v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        raise CannotStart("docker has no Compose plugin; install Docker Compose v2")
    return int(found[1]), int(found[2]), int(found[3])
