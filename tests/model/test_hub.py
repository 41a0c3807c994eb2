"""Hub ids, against a small copy of the hub's API on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import huggingface_hub.constants
import pytest

from harness.errors import HarnessError
from harness.model.resolve import resolve
from harness.model.tokenizer import find_tokenizer
from tests.model.small import write_small

pytestmark = pytest.mark.live

COMMIT, OLDER = "a" * 40, "b" * 40
TOKEN = "hf_secret_of_this_test"
REVISIONS = {"main": COMMIT, "v1": OLDER, "refs/pr/7": OLDER, COMMIT: COMMIT, OLDER: OLDER}
ODD = {"org/page": b"<html>", "org/list": b"[1]", "org/away": b'{"id": "org/away", "sha": "../../x", "siblings": []}'}


@dataclass
class Hub:
    """The model's files, what each repository answers, and what was asked."""

    folder: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    extra: tuple[str, ...] = ("model-q4.gguf", "consolidated.safetensors", "original/params.json", "pytorch_model.bin")


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if "/models/" not in path and "/resolve/" not in path:
                self.answer(404, b"")  # the client also asks about things of its own
                return
            hub.asked.append(path)
            hub.tokens.add(self.headers.get("Authorization"))
            if path.startswith("/api/models/"):
                self.api(path.removeprefix("/api/models/").split("/"))
                return
            commit, file = path.partition("/resolve/")[2].split("/", 1)
            body = (hub.folder / file).read_bytes()
            etag = hashlib.sha256(body).hexdigest()
            self.answer(200, body, ETag=f'"{etag}"', X_Repo_Commit=commit)

        do_HEAD = do_GET

        def api(self, parts: list[str]) -> None:
            repo = "/".join(parts[:2])
            if parts[0] == "old":  # a name without an organisation
                repo, parts = "org/small", ["org", "small", *parts[1:]]
            if repo == "org/gated":
                self.answer(403, b"{}", X_Error_Code="GatedRepo")
            elif repo in ODD:
                self.answer(200, ODD[repo], Content_Type="application/json")
            elif repo == "org/broken":
                self.answer(418, b"{}")
            elif repo != "org/small":
                self.answer(401, b"{}", X_Error_Code="RepoNotFound")
            else:
                revision = unquote(parts[3]) if len(parts) > 3 else "main"
                if revision not in REVISIONS:
                    self.answer(404, b"{}", X_Error_Code="RevisionNotFound")
                    return
                names = [p.name for p in hub.folder.iterdir()] + list(hub.extra)
                if "tree" in parts:
                    self.answer(200, json.dumps(list(map(self.entry, names))).encode(), Content_Type="application/json")
                    return
                info = {"id": repo, "sha": REVISIONS[revision], "siblings": [{"rfilename": n} for n in names]}
                self.answer(200, json.dumps(info).encode(), Content_Type="application/json")

        def entry(self, name: str) -> dict[str, object]:
            path = hub.folder / name
            return {"type": "file", "path": name, "oid": "0" * 40, "size": path.stat().st_size if path.exists() else 9}

    return Handler


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub-files")
    write_small(folder)
    hub = Hub(folder)
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    hub.url = f"http://127.0.0.1:{http.server_address[1]}"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield hub
    http.shutdown()
    http.server_close()


def at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)


@pytest.fixture
def hub(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """HF_ENDPOINT and HF_HUB_CACHE as the client keeps them once it is imported."""
    at(server.url, monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    server.asked.clear()
    server.tokens.clear()
    return server


def test_resolves_a_branch_to_its_commit(hub: Hub, tmp_path: Path) -> None:
    model = resolve("org/small", tmp_path)
    assert (model.name, model.revision) == ("org/small", COMMIT)
    assert model.digest == resolve(str(hub.folder), tmp_path).digest
    assert f"Bearer {TOKEN}" in hub.tokens


def test_fetches_at_that_commit_and_no_other_format(hub: Hub, tmp_path: Path) -> None:
    model = resolve("org/small@v1", tmp_path)
    assert model.revision == OLDER
    fetched = [path for path in hub.asked if "/resolve/" in path]
    assert fetched and all(f"/resolve/{OLDER}/" in path for path in fetched)
    assert not [path for path in fetched for name in hub.extra if path.endswith(name)]
    assert not list(model.folder.glob("*.gguf"))


@pytest.mark.parametrize(
    ("name", "commit"),
    [
        ("org/small@refs/pr/7", OLDER),
        ("https://huggingface.co/org/small", COMMIT),
        ("https://huggingface.co/org/small/tree/v1", OLDER),
        ("hf://org/small@v1", OLDER),
        ("old", COMMIT),
    ],
)
def test_ids_as_people_write_them(hub: Hub, tmp_path: Path, name: str, commit: str) -> None:
    assert resolve(name, tmp_path).revision == commit
    assert find_tokenizer(name, tmp_path).parent.name == commit


@pytest.mark.parametrize("name", [f"org/small@{COMMIT}", "org/small", "org/small@v1", "org/small@refs/pr/7"])
@pytest.mark.parametrize("switch", [True, False], ids=["HF_HUB_OFFLINE", "unreachable"])
def test_what_was_fetched_before_needs_no_network(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, switch: bool
) -> None:
    """A branch is what it was when it was fetched, and its commit is recorded."""
    before = resolve(name, tmp_path)
    if switch:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    at("http://127.0.0.1:9", monkeypatch)
    assert resolve(name, tmp_path) == before
    with pytest.raises(HarnessError, match="is not in this machine's cache"):
        resolve("org/small@../../blobs/x", tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("org/gated", "accept the terms at https://huggingface.co/org/gated and set HF_TOKEN"),
        ("org/absent", "neither a local folder nor a model on the hub"),
        ("org/small@v9", "no revision 'v9' on the hub"),
        ("org/broken", "status 418"),
        ("org/page", "does not answer as a hub does (a proxy's page?); check HF_ENDPOINT"),
        ("org/list", "does not answer as a hub does"),
        ("org/away", "the hub does not name its commit"),
        ("org/sm--all", "neither a model that is made here, an existing local folder nor a hub id"),
        ("nothing", "nothing: neither a local folder nor a model on the hub"),
    ],
)
def test_each_failure_is_one_line(hub: Hub, tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(HarnessError) as caught:
        resolve(name, tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value) and TOKEN not in str(caught.value)


def test_no_network(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(HarnessError, match="cannot be reached"):
        resolve("org/small", tmp_path)


def test_through_the_environment(server: Hub, tmp_path: Path) -> None:
    """The same through HF_ENDPOINT and HF_HOME, in a process of its own; nothing shows the token."""
    environment = os.environ | {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path), "HF_TOKEN": TOKEN}
    code = "from pathlib import Path; from harness.model.resolve import resolve; print(resolve('org/small', Path('.')))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert COMMIT in run.stdout and TOKEN not in run.stdout + run.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9", "a SOCKS proxy needs the package socksio"),
        ("HTTP_PROXY", "http://[::1", "cannot use the proxy of HTTPS_PROXY or ALL_PROXY"),
        ("ALL_PROXY", "gopher://x", "cannot use the proxy of HTTPS_PROXY or ALL_PROXY"),
        ("HF_TOKEN", "hf_é", "HF_TOKEN has characters that no header can carry"),
    ],
)
def test_an_environment_that_the_client_cannot_use_is_one_line(
    name: str, value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    huggingface_hub.close_session()  # it reads the environment when it is made
    try:
        with pytest.raises(HarnessError, match=said) as refused:
            find_tokenizer("organisation/name", tmp_path)
    finally:
        huggingface_hub.close_session()
    assert "é" not in str(refused.value)
