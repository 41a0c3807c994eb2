"""LMDeploy's api_server with its TurboMind engine, through its native /generate route.

That route takes token ids, which its OpenAI-compatible one does not, and returns the ids of every event. An event may
have several tokens; the last has none and repeats the count. It samples unless `top_k` is 1: a temperature of 0 is
only close to greedy. Its cache size is a share of the free GPU memory, not a number of tokens. Needs an NVIDIA
GPU."""

from harness.adapter import Dialect, Engine, Native, Ran, Venv, generate_stream

ENGINE = Engine(
    name="lmdeploy",
    title="LMDeploy",
    color="#8b5cf6",
    version="0.18.0",
    weights="safetensors",
    dialect=Dialect(
        route="/generate",
        prompt_field="input_ids",
        length_field="max_tokens",
        exact_length={"ignore_eos": True},
        greedy={"top_k": 1, "temperature": 1.0, "top_p": 1.0},  # its own defaults: 50, 0.8, 0.8
        counting={},  # ids and counts are in every event
        streaming={"stream": True},
        parse=generate_stream,
    ),
    # Text and chat, without ids.
    openai=Dialect(
        route="/v1/completions",
        length_field="max_tokens",
        always={"model": "bench"},  # required
        exact_length={"ignore_eos": True},
        greedy={"top_k": 1, "temperature": 1.0, "top_p": 1.0},
        counting={},
        streaming={"stream": True, "stream_options": {"include_usage": True}},
    ),
    # No page shows its version or its settings; the version is taken from the image or the package.
    dtypes={"bfloat16": "bfloat16", "float16": "float16"},
    precision_flags={"--quant-policy": "kv"},
    prefix_cache=((), ("--enable-prefix-caching",)),
    trust_flags=("--trust-remote-code",),
    gpu_flags=("--tp", "{gpus}"),
    quantized=("awq", "gptq", "fp8", "mxfp4", "compressed-tensors"),
    containers=("cuda",),
    native_cuda=Native(
        install=Venv(("lmdeploy=={version}",)),
        command=(
            *("{program}", "-m", "lmdeploy", "serve", "api_server", "{model}", "--model-name", "bench"),
            *("--server-name", "127.0.0.1", "--server-port", "{port}"),
            *("--backend", "turbomind", "--dtype", "{dtype_flag}"),
            *("--session-len", "{context_tokens}", "--max-batch-size", "{concurrent_sequences}"),
            *("--max-prefill-token-num", "{batched_tokens}", "--cache-max-entry-count", "0.8"),
            *("--num-gpu-blocks", "{kv_blocks}"),  # only for the PyTorch engine (see its compose file)
            *("--generation-config", "lmdeploy", "--log-level", "WARNING"),
        ),
        program="{env}/bin/python",
        env={"HF_HUB_OFFLINE": "1", "UVICORN_LOG_LEVEL": "warning"},  # otherwise it logs a line for each request
    ),
    ready_timeout_s=900,
    series={
        "prompt_tokens": "lmdeploy:prompt_tokens_total",
        "cached_tokens": "lmdeploy:cached_tokens_total",
        "output_tokens": "lmdeploy:generation_tokens_total",
    },
    declared={
        "engine": "TurboMind, or PyTorch where TurboMind does not know the model; its log says so",
        "kv cache": "0.8 of the GPU memory left by the weights: TurboMind 0.18 refuses a number of blocks",
        "cuda graphs": "TurboMind has no switch for them",
        "version": "not shown by the running server",
    },
    ran=(
        Ran(
            "0.18.0", "a CPU: its server over a stand-in for its compiled engine, so nothing of its speed", "2026-11-26"
        ),
    ),
    never="its kernels; on a GPU; published images",
)
