"""Where Docker's daemon is said to be, and what the docker command turns out to be."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from harness.errors import CannotStart
from harness.launch.docker_command import compose_version, daemon_url
from harness.launch.docker_host import docker_host
from tests.wire import wire_server

pytestmark = pytest.mark.live


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker command that is a script, first on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    return write(tmp_path / "docker", "#!/bin/sh\nexit 1\n")


def write(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o755)
    return file


@pytest.mark.parametrize(
    "url",
    [
        "tcp://127.0.0.1:2375",
        "tcp://localhost:2375",
        "tcp://[::1]:2375",
        "http://127.0.0.1:2375",
        "tcp://:2375",
        "127.0.0.1:2375",
        "npipe:////./pipe/docker_engine",
    ],
)
def test_a_daemon_on_the_loopback_is_this_machine(url: str) -> None:
    assert url in daemon_url({"DOCKER_HOST": url})


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ssh://me:pw@gpu-box", "Docker's daemon at ssh://gpu-box is on another machine"),
        ("tcp://192.0.2.1:2375", "Docker's daemon at tcp://192.0.2.1:2375 is on another machine"),
        ("docker:2375", "Docker's daemon at tcp://docker:2375 is on another machine"),
        ("unix:///no/such.sock", "no Docker daemon answers at unix:///no/such.sock: there is no such socket"),
        ("nonsense\x1b[2J", r"DOCKER_HOST is 'nonsense\x1b[2J', which is no daemon's; give unix:///PATH or tcp"),
        ("http+unix://%2Frun%2Fx.sock", "DOCKER_HOST is 'http+unix://%2Frun%2Fx.sock', which is no daemon's"),
        ("tcp://[::1", "DOCKER_HOST is 'tcp://[::1', which is no daemon's"),
    ],
)
def test_what_is_no_daemon_of_this_machine_is_one_line(url: str, why: str) -> None:
    with pytest.raises(CannotStart) as problem:
        daemon_url({"DOCKER_HOST": url})
    assert str(problem.value).startswith(why) and "pw" not in str(problem.value)


def test_lines_that_a_script_prints_besides_are_passed_over(script: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "d.sock"))
        banner = "echo 'Emulate Docker CLI using podman.'"
        answers = f'case "$1" in context) echo unix://{tmp_path}/d.sock;; *) echo v2.29.1;; esac'
        write(script, f"#!/bin/sh\n{banner}\n{answers}\n")
        assert daemon_url({}) == f"unix://{tmp_path}/d.sock"
        assert compose_version() == (2, 29, 1)


def test_a_context_that_docker_does_not_know(script: Path) -> None:
    with pytest.raises(CannotStart, match="DOCKER_CONTEXT is 'gone', a context that docker does not know"):
        daemon_url({"DOCKER_CONTEXT": "gone"})


def test_a_command_that_cannot_run(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(script, "no first line\x00\n")
    monkeypatch.setenv("PATH", str(script.parent))
    with pytest.raises(CannotStart, match="the docker command cannot run"):
        compose_version()


@pytest.mark.parametrize("body", [b"{}", b"[]", b"<html>", b'{"ApiVersion": 7}', b"[" * 100_000])
def test_what_answers_but_is_no_daemon_is_one_line_and_no_proxy_is_asked(
    body: bytes, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    asked: list[bytes] = []
    monkeypatch.delenv("NO_PROXY", raising=False)
    with wire_server(lambda n: [answer]) as daemon, wire_server(lambda n: [answer], heard=asked) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("DOCKER_HOST", f"tcp://{daemon.authority}")
        with pytest.raises(CannotStart, match=r"^(what|no Docker daemon) answers at tcp://127.0.0.1:\d+"):
            docker_host()
    assert asked == []
