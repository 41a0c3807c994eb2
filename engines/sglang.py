"""SGLang through its native /generate route with token-id prompts.

By default each event contains the whole answer so far, so that the size of a stream of n tokens grows with n squared;
with `--incremental-streaming-output` it contains only the new text and ids, several tokens under load. Counts, and how
much of the prompt was cached, are in the `meta_info` of every event. If its cache runs out, it retracts a running
request and computes it again later. Its compose file needs an NVIDIA GPU.

On a CPU it starts without its compiled kernels, which the package index has for CUDA only: its scheduler, its server
and PyTorch's own kernels run, so that everything but its speed can be measured."""

from pathlib import Path

from harness.adapter import Dialect, Engine, Native, Ran, Reading, Venv, generate_stream, generated_steps

OF_CPU = Path(__file__).with_name("sglang_cpu")
STANDINS = ("cpu_standins.pth", "cpu_standins.py", "sgl_kernel/__init__.py")
RESERVED = 2  # it keeps the last tokens of context and cache free
FLAGS = (
    *("--served-model-name", "bench", "--host", "127.0.0.1", "--port", "{port}", "--dtype", "{dtype_flag}"),
    # RESERVED tokens more than asked, as in its compose file.
    *("--context-length", "{context_and_2}", "--max-total-tokens", "{kv_and_2}"),
    *("--max-running-requests", "{concurrent_sequences}", "--chunked-prefill-size", "{batched_tokens}"),
    *("--max-prefill-tokens", "{batched_tokens}"),
    *("--sampling-defaults", "openai", "--random-seed", "0", "--stream-interval", "1"),
    *("--incremental-streaming-output", "--enable-metrics", "--log-level-http", "warning"),
)
ENV = {
    "HF_HUB_OFFLINE": "1",
    "SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "false",
    "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "true",
}

ENGINE = Engine(
    name="sglang",
    title="SGLang",
    color="#d6336c",
    version="0.5.23",
    weights="safetensors",
    dialect=Dialect(
        route="/generate",
        prompt_field="input_ids",
        length_field="sampling_params.max_new_tokens",
        exact_length={"sampling_params.ignore_eos": True},
        greedy={"sampling_params.temperature": 0},  # which it turns into top_k 1
        counting={},  # ids and counts are in every event
        streaming={"stream": True},
        parse=generate_stream,
        likely={"return_logprob": True, "top_logprobs_num": 5},
        read_likely=generated_steps,
    ),
    # Text and chat. Its usage comes at the end only, so the tokens of each event are estimated.
    openai=Dialect(
        route="/v1/completions",
        length_field="max_tokens",
        exact_length={"ignore_eos": True},
        greedy={"temperature": 0},
        counting={},
        streaming={"stream": True, "stream_options": {"include_usage": True}},
    ),
    version_reading=Reading("/server_info", ("version",)),
    facts={
        "context_tokens": Reading("/v1/models", ("data", 0, "max_model_len"), RESERVED),
        "kv_tokens": Reading("/server_info", ("max_total_num_tokens",), RESERVED),
        "batched_tokens": Reading("/server_info", ("chunked_prefill_size",)),
        "concurrent_sequences": Reading(
            "/server_info", ("internal_states", 0, "effective_max_running_requests_per_dp")
        ),
    },
    dtypes={"bfloat16": "bfloat16", "float16": "float16", "float32": "float32"},
    precision_flags={"--quantization": "weights", "--kv-cache-dtype": "kv"},
    prefix_cache=(("--disable-radix-cache",), ()),
    trust_flags=("--trust-remote-code",),
    gpu_flags=("--tp-size", "{gpus}"),
    quantized=("fp8", "awq", "gptq", "compressed-tensors", "mxfp4", "modelopt", "bitsandbytes"),
    containers=("cuda",),
    native=Native(
        install=Venv(
            requirements=tuple((OF_CPU / "packages.txt").read_text(encoding="utf-8").splitlines()),
            constraints="cuda-bindings==13.5.0\ncuda-pathfinder==1.9.1\nnvidia-nvjitlink==13.5.37\n",
            no_deps=("sglang=={version}",),  # the rest of what it requires is for GPUs
            hint="pip must reach a package index that has torch 2.13.0, the CPU build or the ordinary one.",
            files=tuple((name, (OF_CPU / name).read_text(encoding="utf-8")) for name in STANDINS),
        ),
        command=(
            *("{program}", "-m", "sglang.launch_server", "--model-path", "{model}", "--device", "cpu"),
            *("--attention-backend", "torch_native", "--sampling-backend", "pytorch", "--tp-size", "1", *FLAGS),
        ),
        program="{env}/bin/python",
        env={"SGLANG_USE_CPU_ENGINE": "1", "OMP_NUM_THREADS": "{threads}", **ENV},
    ),
    native_cuda=Native(
        install=Venv(("sglang=={version}",)),
        command=(
            *("{program}", "-m", "sglang.launch_server", "--model-path", "{model}", *FLAGS),
            *("--cuda-graph-max-bs-decode", "{concurrent_sequences}"),
        ),
        program="{env}/bin/python",
        env=ENV,
    ),
    ready_timeout_s=900,
    series={
        "prompt_tokens": "sglang:prompt_tokens_total",
        "cached_tokens": "sglang:cached_tokens_total",
        "output_tokens": "sglang:generation_tokens_total",
        "preemptions": "sglang:num_retracted_requests_total",
    },
    gauges={
        "running": "sglang:num_running_reqs",
        "waiting": "sglang:num_queue_reqs",
        "kv_used": "sglang:token_usage",
    },
    declared={
        "kv cache": "paged, shared by all sequences",
        "context": "2 tokens more than asked: the last 2 of its context hold no answer",
        "log": "one line a prefilled batch, from its scheduler; a level without them hides its settings too",
        "batched tokens": "of prefill only; decoding sequences are not mixed into a prefill",
    },
    no_speed_on={"cpu": "it runs on PyTorch's kernels in place of its own, which the package index has for CUDA only"},
    ran=(
        Ran("0.5.23", "a CPU: process, without its own kernels, so nothing of its speed", "2026-11-26"),
        Ran("0.5.13", "an NVIDIA H200: process", "2026-11-26"),
    ),
    never="0.5.23 on a GPU; published images",
)
