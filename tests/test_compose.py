"""The compose files as Docker Compose reads them: complete, closed to the outside, and the same settings for all."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from harness.adapter import Device, Engine
from tests.containers import COMPOSE, ENGINES, EXAMPLE, SERVICES, compose, config, service, settings_of

pytestmark = pytest.mark.live

FILES = sorted(path for path in COMPOSE.glob("*.yaml") if path.stem != "base")
OPTIONAL = {"OWNER", "MEMORY", "SHM_SIZE", "GPU", "GPUS"}  # with a value of their own in the files
each_service = pytest.mark.parametrize(("engine", "device"), SERVICES, ids=lambda v: getattr(v, "name", v))
BOTH_WAYS = [(engine, device) for engine, device in SERVICES if engine.native_on(device) is not None]
each_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)


def test_every_engine_with_containers_has_a_file_and_every_file_an_engine() -> None:
    assert [path.stem for path in FILES] == sorted(engine.name for engine in ENGINES)


@each_engine
def test_a_file_has_a_service_and_a_profile_for_each_device_and_no_more(engine: Engine) -> None:
    found = {device for device in ("cuda", "cpu") if device in config(engine, device).get("services", {})}
    assert found == set(engine.containers)
    for device in engine.containers:
        assert list(config(engine, device)["services"]) == [device]
        assert service(engine, device)["profiles"] == [device]


@each_service
def test_only_this_machine_can_reach_it(engine: Engine, device: str) -> None:
    ports = service(engine, device)["ports"]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    assert {port["target"]: port["published"] for port in ports}[8000] == EXAMPLE["PORT"]
    assert "network_mode" not in service(engine, device)


@each_service
def test_it_has_no_rights_that_it_does_not_need(engine: Engine, device: str) -> None:
    got = service(engine, device)
    assert "privileged" not in got and got["cap_drop"] == ["ALL"]
    assert set(got.get("cap_add", ())) <= {"SYS_NICE"}
    assert "no-new-privileges:true" in got["security_opt"]
    assert got["restart"] == "no"
    (model,) = (volume for volume in got["volumes"] if volume["target"] == "/model")
    assert model["type"] == "bind" and model["source"] == EXAMPLE["MODEL"] and model["read_only"] is True
    assert all(volume["type"] == "volume" for volume in got["volumes"] if volume is not model)


@each_service
def test_nothing_is_downloaded_or_swapped_while_it_is_measured(engine: Engine, device: str) -> None:
    got = service(engine, device, {**settings_of(engine), "MEMORY": "1073741824"})
    assert got["environment"]["HF_HUB_OFFLINE"] == got["environment"]["TRANSFORMERS_OFFLINE"] == "1"
    assert got["mem_limit"] == got["memswap_limit"] == "1073741824"
    assert "mem_limit" not in service(engine, device)


@each_service
def test_the_image_is_of_the_version_that_the_engine_file_names(engine: Engine, device: Device) -> None:
    image = service(engine, device)["image"]
    tag = image.rpartition(":")[2]
    assert "/" not in tag and "latest" not in tag
    assert re.search(rf"(?<![\d.]){re.escape(engine.tested_on(device))}(?![\d.])", tag), image


@each_service
def test_one_variable_names_another_image(engine: Engine, device: str) -> None:
    env = {**settings_of(engine), f"{engine.name.upper()}_IMAGE": "mine:1"}
    assert service(engine, device, env)["image"] == "mine:1"


@each_service
def test_labels_tell_the_engine_and_who_started_it(engine: Engine, device: str) -> None:
    label = "inference-engine-comparison"
    assert service(engine, device)["labels"] == {f"{label}.engine": engine.name, f"{label}.owner": "by-hand"}
    env = {**settings_of(engine), "OWNER": "me/1/2"}
    assert service(engine, device, env)["labels"][f"{label}.owner"] == "me/1/2"


@each_service
def test_a_gpu_is_asked_for_where_one_is_needed(engine: Engine, device: str) -> None:
    env = {**settings_of(engine), "GPU": "3"}
    for given, gpu in ((None, "0"), (env, "3")):
        resources = service(engine, device, given).get("deploy", {}).get("resources", {})
        devices = resources.get("reservations", {}).get("devices", [])
        wanted = [{"driver": "nvidia", "device_ids": [gpu], "capabilities": ["gpu"]}] if device == "cuda" else []
        assert devices == wanted


@each_service
def test_compose_waits_until_the_engine_answers(engine: Engine, device: str) -> None:
    got = service(engine, device)
    check = got["healthcheck"]
    page = got["environment"].get("HEALTH_PAGE", "/health")
    assert page == engine.health and "HEALTH_PAGE:-/health" in check["test"][1]
    assert check["interval"] == "2s" and check["start_period"] == "1h0m0s"


@pytest.mark.parametrize("already_ready", [False, True], ids=["starting", "ready"])
def test_the_health_check_waits_only_once_the_engine_is_ready(tmp_path: Path, already_ready: bool) -> None:
    engine = next(engine for engine in ENGINES if engine.health == "/health")
    script = service(engine, engine.containers[0])["healthcheck"]["test"][1].replace("$$", "$")
    mark = tmp_path / "ready"
    if already_ready:
        mark.touch()
    assert run_with_stubs(tmp_path, script.replace("/tmp/ready", str(mark)), "curl", "sleep") == [
        *(["sleep 60"] if already_ready else []),
        "curl -fsS --max-time 5 http://127.0.0.1:8000/health",
    ]
    assert mark.exists()


def run_with_stubs(folder: Path, script: str, *programs: str, args: tuple[str, ...] = ()) -> list[str]:
    """Runs a shell script in which `programs` only say how they were called; returns what they said."""
    stubs = folder / "stubs"
    stubs.mkdir()
    for name in programs:
        stub = stubs / name
        stub.write_text(f'#!/bin/sh\necho "{name} $*"\n')
        stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    env = {"PATH": f"{stubs}:{os.environ['PATH']}", "LAUNCHER": programs[0]}
    done = subprocess.run(["sh", "-ec", script, "sh", *args], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.timeout(120)
@each_engine
def test_a_missing_setting_is_an_error_that_names_it(engine: Engine) -> None:
    text = (COMPOSE / f"{engine.name}.yaml").read_text() + (COMPOSE / "base.yaml").read_text()
    wanted = set(re.findall(r"(?<!\$)\$\{([A-Z_]+):?\?", text))
    assert {"PORT", "MODEL", "BATCHED_TOKENS", "PREFIX_CACHE_FLAGS"} <= wanted <= set(EXAMPLE)
    for name in wanted:
        env = settings_of(engine)
        del env[name]
        done = compose(engine.name, engine.containers[0], env)
        assert done.returncode and name in done.stderr, name


@pytest.mark.parametrize("path", [*FILES, COMPOSE / "base.yaml"], ids=lambda path: path.stem)
def test_a_variable_is_required_or_has_a_value(path: Path) -> None:
    used = re.findall(r"(?<!\$)\$\{?([A-Z_]+)(:?[-?])?", path.read_text())
    image = f"{path.stem.upper()}_IMAGE"
    assert used
    for name, how in used:
        assert (how == ":-") == (name in OPTIONAL | {image}), name
        assert how in (":-", ":?", "?"), f"{name} would silently be empty"


@pytest.mark.parametrize("on", [False, True], ids=["off", "on"])
@each_service
def test_the_prefix_cache_is_switched(engine: Engine, device: str, on: bool) -> None:
    whole = config(engine, device, settings_of(engine, on))
    got = whole["services"][device]
    for state in (False, True):
        words = engine.prefix_cache[state]
        assert words != engine.prefix_cache[not state]
        if not words:
            continue
        if words[0].startswith("-"):
            said = any(got["command"][i : i + len(words)] == list(words) for i in range(len(got["command"])))
        elif "configs" in whole:
            (content,) = (entry["content"] for entry in whole["configs"].values())
            said = f"enable_block_reuse: {words[0]}\n" in content and f"enable_partial_reuse: {words[0]}\n" in content
        else:
            said = got["environment"]["PREFIX_CACHING"] == words[0]
        assert said == (state == on), words


def pairs(command: list[str]) -> dict[str, str]:
    """--flag value, --flag=value or --flag alone."""
    found: dict[str, str] = {}
    for word, following in zip(command, [*command[1:], "--"], strict=True):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            found[name] = value if equals else "" if following.startswith("--") else following
    return found


@pytest.mark.parametrize(("engine", "device"), BOTH_WAYS, ids=lambda v: getattr(v, "name", v))
def test_a_container_is_told_the_same_as_a_native_start(engine: Engine, device: Device) -> None:
    native = engine.native_on(device)
    assert native is not None
    env = {**settings_of(engine), "GPUS": "2"}
    if engine.most_gpus == 1:
        del env["GPUS"]
    numbers = {"context_and_2": int(env["CONTEXT_TOKENS"]) + 2, "kv_and_2": int(env["KV_TOKENS"]) + 2}
    values = {name.lower(): value for name, value in env.items()}
    values |= {"program": "program", "env": "/env", "cache": "/cache", **{k: str(v) for k, v in numbers.items()}}
    gpu_flags = engine.gpu_flags if device == "cuda" else ()
    ours = pairs([word.format_map(values) for word in (*native.command, *gpu_flags)])
    got = service(engine, device, env)
    theirs = pairs(got["command"])
    if engine.name == "sglang":  # a shell adds them up, see below
        theirs |= {"--context-length": values["context_and_2"], "--max-total-tokens": values["kv_and_2"]}
    if "LLAMA_ARG_N_GPU_LAYERS" in got["environment"]:
        theirs["--gpu-layers"] = got["environment"]["LLAMA_ARG_N_GPU_LAYERS"]
        theirs["--split-mode"] = got["environment"]["LLAMA_ARG_SPLIT_MODE"]
    where = {"--host", "--server-name", "--port", "--server-port", "--model", "--model-path"}
    assert {name: value for name, value in ours.items() if name not in where}.items() <= theirs.items()


def one(name: str) -> Engine:
    (engine,) = (engine for engine in ENGINES if engine.name == name)
    return engine


def test_tgi_is_given_the_same_weights_with_an_end_of_sequence_that_never_comes(tmp_path: Path) -> None:
    model, served = tmp_path / "model", tmp_path / "served"
    model.mkdir()
    for name in ("config.json", "model.safetensors", "generation_config.json"):
        (model / name).write_text(name)
    got = service(one("tgi"), "cpu")
    shell, option, script, _ = got["entrypoint"]
    assert (shell, option) == ("sh", "-ec")
    script = script.replace("$$", "$").replace("/served", str(served)).replace("/model", str(model))
    said = run_with_stubs(tmp_path, script, "launcher", args=("--model-id", "a b"))
    context, connections = int(EXAMPLE["CONTEXT_TOKENS"]), int(EXAMPLE["CONNECTIONS"])
    more = f"--max-input-tokens {context - 1} --max-concurrent-requests {2 * connections}"
    assert said == [f"launcher --model-id a b {more}"]
    assert (served / "generation_config.json").read_text() == '{"eos_token_id": [2147483647]}\n'
    assert (model / "generation_config.json").read_text() == "generation_config.json"
    links = {path.name: path.readlink() for path in served.iterdir() if path.is_symlink()}
    assert links == {name: model / name for name in ("config.json", "model.safetensors")}
    assert got["command"][:2] == ["--model-id", "/served"]


def test_sglang_gets_the_two_tokens_that_it_keeps_for_itself(tmp_path: Path) -> None:
    got = service(one("sglang"), "cuda")
    script = got["entrypoint"][2].replace("$$", "$")
    (said,) = run_with_stubs(tmp_path, script, "python3", args=tuple(got["command"]))
    told = pairs(said.split())
    assert told["--context-length"] == str(int(EXAMPLE["CONTEXT_TOKENS"]) + 2)
    assert told["--max-total-tokens"] == str(int(EXAMPLE["KV_TOKENS"]) + 2)
    assert pairs(got["command"]).items() <= told.items()
