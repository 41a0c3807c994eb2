"""`harness compare` with `[[candidate]]` tables: one engine twice, servers that already run, keys and certificates."""

import json
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import trustme

from harness.driver.address import Address
from harness.nullengine.calibrate import null_server
from tests.cli import harness as here
from tests.compare_parts import SMALL, assert_compared, harness, with_engines
from tests.openai_server import Server, answer, models, serving

pytestmark = pytest.mark.live

QUICK = SMALL.replace("rounds = 2", "rounds = {rounds}").split("[[workload.load]]\nconcurrency = 4")[0]
KEY = "sk-a-key-of-this-test"


def compared(
    tmp_path: Path, candidates: str, rounds: int = 1, env: dict[str, str] | None = None
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A comparison file with these `[[candidate]]` tables at one load, and where its results are."""
    file, folder = tmp_path / "candidates.toml", tmp_path / "r"
    file.write_text(QUICK.format(rounds=rounds) + candidates)
    return harness("compare", file, "--results", folder, env=env), folder


def manifest(folder: Path, candidate: str, round_index: int = 1) -> dict[str, Any]:
    path = folder / "runs" / candidate / "c1" / f"round-{round_index}" / "manifest.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.fixture
def served() -> Iterator[Address]:
    with null_server(0.01, 0.001) as address:
        yield address


def test_one_engine_takes_part_under_two_names(tmp_path: Path) -> None:
    done, folder = compared(
        tmp_path,
        """
[[candidate]]
name = "plain"
engine = "fake"
[[candidate]]
name = "fake-slow"
engine = "fake"
args = ["--interval", "0.004"]
env = {OWN = "a b"}
profile = {context_tokens = 48}
""",
    )
    comparison = assert_compared(done, folder)
    cells = {cell["candidate"]: cell for cell in comparison["cells"]}
    assert set(cells) == {"plain", "fake-slow"} and comparison["skipped"] == {}
    tpot = {name: cell["metrics"]["tpot_p50"]["mean"] for name, cell in cells.items()}
    assert tpot["plain"] < 0.002 and 0.0039 < tpot["fake-slow"] < 0.008
    plain, slow = (manifest(folder, name) for name in ("plain", "fake-slow"))
    assert plain["schedule"] == slow["schedule"]
    assert plain["candidate"] == {**slow["candidate"], "name": "plain", "title": "plain", "given": {}}
    assert slow["candidate"]["title"] == "null server slow"
    assert slow["candidate"]["given"] == {
        "args": ["--interval", "0.004"],
        "env": {"OWN": "a b"},
        "profile": {"context_tokens": 48},
    }
    # As asked, and as the running engine shows it.
    assert (plain["endpoint"]["settings"]["context_tokens"], plain["probe"]["settings"]) == (64, {"context_tokens": 64})
    assert (slow["endpoint"]["settings"]["context_tokens"], slow["probe"]["settings"]) == (48, {"context_tokens": 48})
    line = plain["endpoint"]["launch_line"]
    assert line[:5] == ["{python}", "-m", "harness.nullengine.server", "--port", "{port}"]
    assert slow["endpoint"]["launch_line"] == [*(w if w != "64" else "48" for w in line), "--interval", "0.004"]
    assert (plain["endpoint"]["env"], slow["endpoint"]["env"]) == ({}, {"OWN": "a b"})
    assert str(tmp_path) not in json.dumps(slow)


def test_a_server_that_already_runs_is_compared_with_one_that_is_started(served: Address, tmp_path: Path) -> None:
    done, folder = compared(
        tmp_path,
        f'''
[[candidate]]
engine = "fake"
[[candidate]]
name = "prod"
engine = "fake"
url = "{served.url}/v1/"
key_env = "KEY_OF_PROD"
''',
        rounds=2,
        env={"KEY_OF_PROD": KEY},
    )
    comparison = assert_compared(done, folder)
    assert [cell["candidate"] for cell in comparison["cells"]] == ["fake", "prod"]
    assert f"prod: already running at {served.url}/v1/" in done.stdout
    assert "(engines = [...] or [[candidate]])" in done.stdout.splitlines()[-1]
    for round_index in (1, 2):
        mine, prod = (manifest(folder, name, round_index) for name in ("fake", "prod"))
        assert mine["schedule"] == prod["schedule"]
        endpoint = prod["endpoint"]
        assert (endpoint["launch"], endpoint["url"]) == ("attach", f"{served.url}/v1/completions")
        assert (endpoint["device"], endpoint["gpus"], endpoint["same_machine"]) == (None, None, True)
        assert endpoint["version"] == mine["endpoint"]["version"]
        assert {"device", "gpus", "prefix_cache"} <= set(endpoint["unknown"])
        assert endpoint["unverified"] == [] and mine["endpoint"]["unknown"] == {}
        assert (mine["model"]["shown"], prod["model"]["shown"]) == (True, False)
        assert mine["model"]["digest"] == prod["model"]["digest"]
        assert prod["counters"] == mine["counters"] == {"requests": 3, "output_tokens": 24}
        assert set(endpoint["cold_start_s"]) == {"first_token"}
        assert prod["candidate"]["given"] == {"url": f"{served.url}/v1/"}
    run = folder / "runs" / "prod" / "c1" / "round-1"
    assert json.loads((run / "launch.json").read_text()) == {"url": f"{served.url}/v1/completions"}
    assert not (run / "engine.log").exists()
    for path in folder.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
    assert KEY not in done.stdout + done.stderr


DEAD = """
[[candidate]]
name = "dead"
engine = "openai"
url = "http://127.0.0.1:9/v1"
"""
MINE = """
[[candidate]]
engine = "mine"
"""


@pytest.mark.slow
def test_a_url_that_answers_nothing_is_skipped_and_the_others_go_on(served: Address, tmp_path: Path) -> None:
    env = with_engines(tmp_path, mine="env={}")
    second = f'[[candidate]]\nname = "second"\nengine = "mine"\nurl = "{served.url}"\n'
    done, folder = compared(tmp_path, MINE + DEAD + second, env=env)
    comparison = assert_compared(done, folder, alone=False)
    assert {cell["candidate"] for cell in comparison["cells"]} == {"mine", "second"}
    assert comparison["skipped"] == {"dead": "nothing answers at http://127.0.0.1:9: connection refused"}
    left_out = [line for line in done.stdout.splitlines() if "left out from here on" in line]
    assert len(left_out) == 1 and left_out[0].endswith("  dead left out from here on: " + comparison["skipped"]["dead"])
    assert not (folder / "runs" / "dead").exists()


@pytest.mark.slow
def test_with_one_candidate_left_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    done, folder = compared(tmp_path, MINE + DEAD, env=with_engines(tmp_path, mine="env={}"))
    assert_compared(done, folder, alone=True)
    last = done.stdout.splitlines()[-1]
    assert done.returncode == 1
    assert "only mine was measured" in last and "dead: nothing answers at http://127.0.0.1:9" in last


def test_a_key_that_is_not_set_and_an_unreadable_certificate_concern_one_candidate(
    served: Address, tmp_path: Path
) -> None:
    done, folder = compared(
        tmp_path,
        f'''
[[candidate]]
engine = "fake"
[[candidate]]
name = "no-key"
engine = "fake"
url = "{served.url}"
key_env = "NO_SUCH_KEY"
[[candidate]]
name = "no-trust"
engine = "fake"
url = "https://127.0.0.1:9"
ca_file = "/nowhere/ca.pem"
''',
    )
    skipped = assert_compared(done, folder)["skipped"]
    assert skipped["no-key"] == "key_env: NO_SUCH_KEY is not set in the environment"
    assert skipped["no-trust"].startswith("ca_file /nowhere/ca.pem: cannot be read as certificates")


@pytest.mark.parametrize("path", ["/v1", "/proxy/v1/chat/completions"])
def test_a_private_certificate_and_a_key_are_for_the_server_alone(path: str, tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    prefix = path.partition("/v1")[0]
    server = Server(lambda sent: 5 if "chat" in path else 0, {f"{prefix}/v1/models": models("llama")})
    with serving(server, context) as address:
        done, folder = compared(
            tmp_path,
            f'''
[[candidate]]
engine = "openai"
url = "https://localhost:{address.port}{path}"
key_env = "KEY_OF_PROD"
ca_file = "{tmp_path}/ca.pem"
fields = {{user = "me"}}
''',
            env={"KEY_OF_PROD": KEY},
        )
    assert_compared(done, folder)
    assert server.keys == {f"Bearer {KEY}"}
    assert {(body["model"], body["user"]) for body in server.asked} == {("llama", "me")}
    known = manifest(folder, "openai")
    route = path if "chat" in path else "/v1/completions"
    assert known["endpoint"]["url"] == f"https://localhost:{address.port}{route}"
    assert known["probe"]["prompt_offset"] == (5 if "chat" in path else 0)
    rows = pq.read_table(folder / "runs" / "openai" / "c1" / "round-1" / "requests.parquet").to_pydict()
    assert set(rows["status"]) == {"ok"} and set(rows["output_tokens"]) == {8}
    for file in folder.rglob("*"):
        assert file.is_dir() or KEY.encode() not in file.read_bytes(), file


def test_a_key_that_a_server_echoes_is_in_no_reason(tmp_path: Path) -> None:
    refusal = answer(json.dumps({"error": {"message": f"Incorrect API key: {KEY}"}}), "401 Unauthorized")
    with serving(Server(pages={"/v1/models": models("llama")}, refuses=refusal)) as address:
        done, folder = compared(
            tmp_path,
            f'''
[[candidate]]
engine = "fake"
[[candidate]]
engine = "openai"
url = "{address.url}"
key_env = "KEY_OF_PROD"
''',
            env={"KEY_OF_PROD": KEY},
        )
    skipped = assert_compared(done, folder)["skipped"]
    assert skipped == {"openai": "failed the probe request: HTTP 401: Incorrect API key: ***; check the API key"}
    assert KEY not in done.stdout + done.stderr
    for file in folder.rglob("*"):
        assert file.is_dir() or KEY.encode() not in file.read_bytes(), file


def test_a_field_that_a_gateway_refuses_is_named_with_the_key_that_leaves_it_out(tmp_path: Path) -> None:
    refusal = answer(json.dumps({"error": 'json: unknown field "include_usage"'}), "400 Bad Request")
    with serving(Server(pages={"/v1/models": models("llama")}, refuses=refusal)) as address:
        done, folder = compared(
            tmp_path, f'[[candidate]]\nengine = "fake"\n[[candidate]]\nengine = "openai"\nurl = "{address.url}"\n'
        )
    reason = assert_compared(done, folder)["skipped"]["openai"]
    assert 'unknown field "include_usage". It refuses' in reason and 'drop = ["stream_options.include_usage"]' in reason


def keys(value: Any, prefix: str = "") -> set[str]:
    """The names in a JSON object, with those inside."""
    if not isinstance(value, dict):
        return {prefix}
    return {name for key, inner in value.items() for name in keys(inner, f"{prefix}.{key}")} or {prefix}


def test_replay_and_compare_write_the_same_kind_of_manifest(served: Address, tmp_path: Path) -> None:
    done, folder = compared(tmp_path, f'[[candidate]]\nengine = "fake"\nurl = "{served.url}"\n')
    assert_compared(done, folder)
    run = folder / "runs" / "fake" / "c1" / "round-1"
    shape = ("--input-tokens", "16", "--output-tokens", "8", "--requests", "3", "--concurrency", "1", "--warmup")
    asked = ("--url", served.url, "--engine", "fake", "--model", "bench", "--tokenizer", "tiny")
    replayed = here("replay", *asked, *shape, "--out", tmp_path / "one")
    assert replayed.returncode in (0, 1), replayed.stderr
    one, other = (json.loads((path / "manifest.json").read_text()) for path in (run, tmp_path / "one"))
    # A replay sends no probe: its manifest lacks what that shows, and nothing else.
    assert one["endpoint"].pop("cold_start_s").keys() == {"first_token"} and not other["endpoint"].pop("cold_start_s")
    assert keys(other) - keys(one) <= {".candidate.given.served_model"} and not keys(one) - keys(other)
    for part in ("schema", "harness", "load", "machine", "round"):
        assert one[part] == other[part], part
    assert one["endpoint"] == other["endpoint"]
    assert one["schedule"].keys() == other["schedule"].keys()
    shown = ("settings", "version")
    assert [one["probe"][name] for name in shown] == [other["probe"][name] for name in shown]
    assert {p.name for p in run.iterdir()} | {"calibration.json"} == {p.name for p in (tmp_path / "one").iterdir()}
