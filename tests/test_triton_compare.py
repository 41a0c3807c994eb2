"""A whole comparison with a real tritonserver in it: text prompts for all, requests over gRPC, one page of results."""

import json
import sysconfig
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests import triton_server
from tests.compare_parts import ROOT, harness, with_engines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
FILE = """
name = "triton"
rounds = 1
[workload]
input_tokens = 24
output_tokens = 12
[[workload.load]]
concurrency = 2
requests = 8
[[workload.load]]
rate = 20
requests = 20
"""
ENGINE = """
from dataclasses import replace
from engines.triton import ENGINE as TRITON
from harness.adapter import Native
ENGINE = replace(
    TRITON,
    name="toytriton",
    title="Triton, no engine behind it",
    color="#123456",
    health="/v2/models/tensorrt_llm/ready",  # PyTriton brings its models when the server is up already
    containers=(),
    native=Native(
        install=None,
        command=({python!r}, {server!r}, "{{port}}", "{{grpc_port}}", {folder!r}, "0"),
        env={{"LD_LIBRARY_PATH": {libraries!r}}},
    ),
)
"""


def test_triton_is_compared_like_any_other(tritonclient_grpc: object, tmp_path: Path) -> None:
    python = triton_server.interpreter()
    env = with_engines(tmp_path)
    with tempfile.TemporaryDirectory(prefix="triton-") as short:
        source = ENGINE.format(
            python=str(python),
            server=str(ROOT / "tests" / "triton_server.py"),
            folder=short,
            libraries=str(sysconfig.get_config_var("LIBDIR")),
        )
        (tmp_path / "engines" / "toytriton.py").write_text(source)
        (tmp_path / "triton.toml").write_text(FILE)
        file, out = tmp_path / "triton.toml", tmp_path / "r"
        done = harness("compare", file, "--engines", "toytriton,fake", "--results", out, env=env)
    assert done.returncode in (0, 1), done.stderr + done.stdout
    comparison = json.loads((tmp_path / "r" / "comparison.json").read_text())
    assert comparison["skipped"] == {}
    for point in ("c2", "r20"):
        run = tmp_path / "r" / "runs" / "toytriton" / point / "round-1"
        rows = pq.read_table(run / "requests.parquet").to_pydict()
        assert set(rows["status"]) == {"ok"} and set(rows["output_tokens"]) == {12} and set(rows["sent_tokens"]) == {24}
        assert set(rows["count_source"]) == {"events"} and set(rows["stamped_reads"]) == {0}
        waits = [a - b for a, b in zip(rows["first_token_s"], rows["sent_s"], strict=True)]
        assert 0.02 < min(waits) < 0.1  # a busy machine makes some late, not all
        manifest = json.loads((run / "manifest.json").read_text())
        assert manifest["client"]["kernel_stamped_fraction"] == 0
        theirs = run.parents[2] / "fake" / point / "round-1" / "manifest.json"
        assert json.loads(theirs.read_text())["schedule"] == manifest["schedule"]
    (cell,) = (c for c in comparison["cells"] if (c["candidate"], c["load"]) == ("toytriton", "c2"))
    lag = next(check for check in cell["checks"] if check["code"] == "CLIENT_LAG")
    assert lag["verdict"] != "ok"  # what its times are worth is said
