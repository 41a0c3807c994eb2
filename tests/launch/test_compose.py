"""Engines in containers, with a toy engine and a real Docker daemon: how they start, and every way in which they do
not. In CI a machine without Docker is a failure, elsewhere a skip with its reason."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import engines
from harness.adapter import Engine
from harness.errors import CannotStart, HarnessError
from harness.launch import compose as launching
from harness.launch import docker_host
from harness.launch.docker_host import DockerHost, docker_meaning, engine_meaning, find_image, remove_leftovers
from harness.launch.endpoint import Endpoint
from harness.launch.running import answers, free_port
from harness.workload.candidate import Candidate
from tests.parts import missing
from tests.starts import start_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
BASE = "debian:bookworm-slim"
SERVE = (
    "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 8000, Listen => 9, ReuseAddr => 1) or die; "
    'print STDERR "ready\\n"; while (my $c = $s->accept) { while (<$c>) { last if /^\\r/ } '
    'print $c "HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok"; close $c }'
)
LOOK = 'use IO::Socket::INET; exit !IO::Socket::INET->new("127.0.0.1:8000")'
ENGINE = replace(engines.load()["fake"], name="toy", title="toy", containers=("cpu",), null=False, ready_timeout_s=60)


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def host() -> DockerHost:
    try:
        found = docker_host.docker_host()
        assert find_image(found, BASE), f"no image {BASE}"
        return found
    except (CannotStart, AssertionError) as problem:
        missing(str(problem))


@pytest.fixture
def compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "compose"
    folder.mkdir()
    (folder / "base.yaml").write_text("services: {}\n")
    monkeypatch.setattr(docker_host, "COMPOSE", folder)
    monkeypatch.setattr(launching, "COMPOSE", folder)
    write(folder, [*PERL, SERVE])
    yield folder
    left = subprocess.run(
        ["docker", "ps", "-aq", "--filter", "label=inference-engine-comparison.engine=toy"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert left.stdout == ""


PERL = ["perl", "-e"]


def write(folder: Path, command: list[str], image: str = BASE, **more: object) -> None:
    service = {
        "image": "${TOY_IMAGE:-" + image + "}",
        "profiles": ["cpu"],
        "init": True,
        "command": [word.replace("$", "$$") for word in command],
        "ports": ["127.0.0.1:${PORT:?}:8000"],
        "stop_grace_period": "2s",
        "labels": {
            "inference-engine-comparison.engine": "toy",
            "inference-engine-comparison.owner": "${OWNER:-by-hand}",
        },
        "healthcheck": {"test": ["CMD", *PERL, LOOK], "interval": "1s"},
        **more,
    }
    (folder / "toy.yaml").write_text(json.dumps({"services": {"cpu": service}}))


def start(
    host: DockerHost,
    tmp_path: Path,
    engine: Engine = ENGINE,
    port: int | None = None,
    candidate: Candidate | None = None,
) -> AbstractContextManager[Endpoint]:
    name = launching.image_name(engine, "cpu", candidate.image if candidate else "")
    image = launching.ensure_image(host, name, tmp_path / "pull", quiet)
    return launching.start_container(
        start_of(engine, tmp_path / "log", port=port, candidate=candidate), host, image, quiet
    )


def why_not(host: DockerHost, tmp_path: Path, **how: Any) -> str:
    began = time.monotonic()
    with pytest.raises(CannotStart) as caught, start(host, tmp_path, **how):
        pass
    assert time.monotonic() - began < 120
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_starts_observed_and_stops_for_certain(host: DockerHost, compose: Path, tmp_path: Path) -> None:
    with start(host, tmp_path) as running:
        assert running.stopped() is None
        assert (running.launch, running.device, running.gpus) == ("compose", "cpu", ())
        assert set(running.cold_start_s) == {"create", "start", "ready"}
        assert all(0 <= seconds < 60 for seconds in running.cold_start_s.values())
        assert running.image and running.image.name == BASE and running.image.digest.startswith("sha256:")
        assert "127.0.0.1" in running.files["compose.yaml"]
        assert running.pid and Path(f"/proc/{running.pid}").exists()
        assert "ready" in (tmp_path / "log").read_text()
        port = running.pages.port
    assert not answers(port)


def test_no_token_gets_into_a_container(
    host: DockerHost, compose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(compose, [*PERL, SERVE], environment={"SEEN": "${HF_TOKEN:-none}"})
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with start(host, tmp_path) as running:
        assert "hf_secret" not in json.dumps(running.files)
        assert "SEEN: none" in running.files["compose.yaml"]


def test_a_candidates_arguments_and_variables_get_inside_as_they_are(
    host: DockerHost, compose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME_OF_ME", "this machine's")
    told = 'print STDERR join("|", @ARGV, $ENV{OWN}, $ENV{PLAIN}), "\\n"; '
    write(compose, [*PERL, told + SERVE], environment={"PLAIN": "1"})
    own = ("two words", "$HOME_OF_ME ${PORT}", "100%", "")
    candidate = Candidate(engine="toy", name="toy-two", args=own, env={"OWN": "$HOME_OF_ME"})
    with start(host, tmp_path, candidate=candidate) as running:
        assert (tmp_path / "log").read_text().startswith("|".join([*own, "$HOME_OF_ME", "1"]) + "\n")
        assert running.launch_line[-4:] == own
        assert running.env == {"PLAIN": "1", "OWN": "$HOME_OF_ME"}


def test_exits_while_loading(host: DockerHost, compose: Path, tmp_path: Path) -> None:
    write(compose, [*PERL, 'print STDERR "loading\\nerror: CUDA out of memory\\n"; exit 3'])
    line = why_not(host, tmp_path)
    assert "its container ended with status 3 while starting: error: CUDA out of memory" in line
    assert "likely not enough memory" in line and str(tmp_path / "log") in line


def test_is_killed_for_memory(host: DockerHost, compose: Path, tmp_path: Path) -> None:
    write(compose, [*PERL, 'my $x = "a" x 300_000_000; sleep 60'], init=False, mem_limit="64m", memswap_limit="64m")
    assert "its container was killed: out of memory," in why_not(host, tmp_path)


def test_never_healthy_has_a_deadline(host: DockerHost, compose: Path, tmp_path: Path) -> None:
    write(compose, [*PERL, 'print STDERR "still loading shard 3\\n"; sleep 600'])
    line = why_not(host, tmp_path, engine=replace(ENGINE, ready_timeout_s=4))
    assert "not ready after 4 s; the last line of its log: still loading shard 3" in line


def test_port_taken(host: DockerHost, compose: Path, tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(HarnessError) as caught,
        start(host, tmp_path, port=taken.getsockname()[1]),
    ):
        pass
    assert "its port is taken" in str(caught.value)


def test_image_missing_and_no_registry(host: DockerHost, compose: Path, tmp_path: Path) -> None:
    write(compose, ["true"], image="registry.invalid/nobody/nothing:1.0")
    line = why_not(host, tmp_path)
    assert line.startswith("registry.invalid/nobody/nothing:1.0: the image is not on this machine")


def test_the_image_can_be_named_from_outside(host: DockerHost, compose: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_IMAGE", "mine:2")
    assert launching.image_name(ENGINE, "cpu") == "mine:2"


def test_an_image_that_is_not_the_pinned_one_is_refused(host: DockerHost, compose: Path, tmp_path: Path) -> None:
    (compose / "digests.json").write_text(json.dumps({BASE: "sha256:" + "0" * 64}))
    assert "is pinned in compose/digests.json" in why_not(host, tmp_path)


def test_wrong_architecture(host: DockerHost, compose: Path, tmp_path: Path) -> None:
    """A program that this processor cannot run, whatever the image says of itself."""
    broken = "printf '\\177ELF broken' > /tmp/x; chmod +x /tmp/x; exec /tmp/x"
    write(compose, ["perl", "-e", f"exec '/bin/sh', '-c', q({broken})"])
    line = why_not(host, tmp_path)
    assert "while starting" in line


def test_a_container_that_dies_in_mid_run_is_noticed(host: DockerHost, compose: Path, tmp_path: Path) -> None:
    with start(host, tmp_path) as running:
        (found,) = host.client.containers.list(filters={"label": "inference-engine-comparison.engine=toy"})
        found.kill()
        said = running.stopped()
        assert said is not None and "ended with status 137" in said


PROGRAM = """
import sys, time
from pathlib import Path
from harness.launch import compose, docker_host
docker_host.COMPOSE = compose.COMPOSE = Path({compose!r})
from tests.launch.test_compose import ENGINE, start
with start(docker_host.docker_host(), Path({folder!r})) as running:
    print(running.pages.port, flush=True)
    time.sleep(60)
"""


def test_a_killed_harness_leaves_no_container(host: DockerHost, compose: Path, tmp_path: Path) -> None:
    program = textwrap.dedent(PROGRAM).format(compose=str(compose), folder=str(tmp_path))
    harness = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert harness.stdout is not None
    port = int(harness.stdout.readline())
    assert answers(port)
    os.kill(harness.pid, signal.SIGKILL)
    harness.wait()
    until = time.monotonic() + 30
    while host.client.containers.list(all=True, filters={"label": "inference-engine-comparison.engine=toy"}):
        assert time.monotonic() < until
        time.sleep(0.2)
    assert not answers(port)


def test_leftovers_of_a_killed_run_are_found_and_removed(host: DockerHost, compose: Path) -> None:
    """Killed together with its keeper, as by a power cut; those of a living process and by hand stay."""
    env = {
        **os.environ,
        "PORT": str(free_port()),
        "OWNER": docker_host.owner().replace(f"/{os.getpid()}/", "/4194000/"),
    }
    command = ["docker", "compose", "-p", "bench-toy-left", "-f", str(compose / "toy.yaml"), "--profile", "cpu"]
    subprocess.run([*command, "create"], env=env, check=True, capture_output=True)
    assert remove_leftovers(host) == ["toy"]
    subprocess.run([*command, "create"], env={**env, "OWNER": docker_host.owner()}, check=True, capture_output=True)
    assert remove_leftovers(host) == []
    subprocess.run([*command, "down"], env=env, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("Error response from daemon: manifest for x:9 not found: manifest unknown", "no image with that tag"),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", "another processor"),
        ("pull access denied for x, repository does not exist", "the registry refuses"),
        ('could not select device driver "nvidia" with capabilities: [[gpu]]', "NVIDIA"),
        ("write /var/lib/docker/tmp/x: no space left on device", "the disk is full"),
        ("dial tcp: lookup registry.invalid: no such host", "cannot be reached"),
        ("exec /engine: exec format error", "another processor"),
        ("toomanyrequests: You have reached your pull rate limit", "rate limit is reached"),
        ("all is well", ""),
    ],
)
def test_what_docker_says_is_explained(said: str, means: str) -> None:
    found = docker_meaning(said)
    assert means in found and bool(means) == bool(found)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "not enough memory"),
        ("PermissionError: [Errno 13] Permission denied: '/model/config.json'", "chmod"),
        ("Loading BloomForCausalLM; no room left in batch; deadline exceeded", ""),
    ],
)
def test_what_an_engine_says_last_is_explained(said: str, means: str) -> None:
    found = engine_meaning(said)
    assert means in found and bool(means) == bool(found)


def test_no_daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(CannotStart, match="no Docker daemon answers"):
        docker_host.docker_host()


def test_a_daemon_elsewhere_is_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    with pytest.raises(CannotStart, match="on another machine"):
        docker_host.docker_host()


def test_no_docker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotStart, match="no docker command"):
        docker_host.docker_host()


def test_pinned_digests_are_those_of_this_machine(
    host: DockerHost, compose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.commands import list_engines
    from harness.launch.ways import Here

    monkeypatch.setattr(list_engines, "COMPOSE", compose)
    here = Here(host, "", "cpu")
    list_engines.pin_digests({"toy": ENGINE}, here)
    image = find_image(host, BASE)
    assert image and json.loads((compose / "digests.json").read_text()) == {BASE: image.digest}
    possible, notes = list_engines.notes_on(ENGINE, here)
    assert possible and f"container on the CPU: {BASE} is here, as pinned" in notes
    with start(host, tmp_path):
        pass
