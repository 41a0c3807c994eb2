"""What users name as an engine and is none, and engines that cannot be installed: one line each, the others go on."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

import engines
from harness.launch.install import MARK
from tests.compare_parts import SMALL, harness

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
KNOWN = engines.load()
# Answers every page with HTML, as a login page or another server would.
IMPOSTOR = """\
#!{python}
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Page).serve_forever()
"""
# Lists of packages, where there is no index; what is left of them is no environment.
LISTS = ("sglang", "transformers")
NO_INDEX = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
PROGRAMS = {  # name -> (engine, key, file, why it is left out)
    "true": ("llamacpp", "program", "/bin/true", "exited with status 0 while starting: it printed nothing. Log: "),
    "dies": ("llamacpp", "program", "#!/bin/sh\necho loading\necho 'error: no room' >&2\nexit 7\n", "error: no room"),
    "impostor": ("llamacpp", "program", IMPOSTOR, "does not show its version at /props (it is no JSON: <html>)"),
    "garbage": ("llamacpp", "program", "\x7fELF", "Exec format error"),
    "interpreter": ("llamacpp", "program", sys.executable, "nknown option"),
    "empty-python": ("vllm", "python", sys.executable, "No module named 'vllm'"),
    "other-python": ("xllamacpp", "python", sys.executable, "No module named 'xllamacpp'"),
    "other-engine": ("sglang", "python", IMPOSTOR, "does not show its version at /server_info"),
}


def test_each_is_one_line_and_the_others_go_on(tmp_path: Path) -> None:
    file, folder, cache = tmp_path / "programs.toml", tmp_path / "r", tmp_path / "cache"
    tables = [f'[[candidate]]\nengine = "{name}"\n' for name in ("fake", *LISTS)]
    for name, (engine, key, text, _) in PROGRAMS.items():
        program = Path(text)
        if not text.startswith("/"):
            program = tmp_path / name
            program.write_text(text.replace("{python}", sys.executable))
            program.chmod(0o755)
        tables.append(f'[[candidate]]\nname = "{name}"\nengine = "{engine}"\n{key} = "{program}"\n')
    file.write_text(SMALL.replace("rounds = 2", "rounds = 1") + "".join(tables))
    env = {"HARNESS_CACHE": str(cache), **NO_INDEX}
    done = harness("compare", file, "--launch", "process", "--results", folder, env=env)
    assert done.returncode == 1 and "Traceback" not in done.stderr + done.stdout, done.stderr
    comparison = json.loads((folder / "comparison.json").read_text())
    skipped = comparison["skipped"]
    assert skipped.keys() == {*PROGRAMS, *LISTS} and {cell["candidate"] for cell in comparison["cells"]} == {"fake"}
    assert {name: why for name, (*_, why) in PROGRAMS.items() if why not in skipped[name]} == {}, skipped
    assert not any("\n" in why for why in skipped.values())
    for name in LISTS:
        install = KNOWN[name].native.install
        assert install is not None and "ERROR: No matching distribution found for " in skipped[name]
        assert install.hint in skipped[name] and list(cache.glob(f"engines/{name}-*"))
    assert not list(cache.glob(f"engines/*/{MARK}"))
