"""SGLang through its native /generate route with token-id prompts.

By default each event contains the whole answer so far, so that the size of a stream of n tokens grows with n squared;
with `--incremental-streaming-output` it contains only the new text and ids, several tokens under load. Counts, and how
much of the prompt was cached, are in the `meta_info` of every event. If its cache runs out, it retracts a running
request and computes it again later. Its compose file needs an NVIDIA GPU."""

from harness.adapter import Dialect, Engine, LogLine, Native, Reading, Venv, generate_stream, generated_steps

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
    version_reading=Reading("/server_info", ("version",)),
    facts={
        "context_tokens": Reading("/v1/models", ("data", 0, "max_model_len")),
        "kv_tokens": LogLine(r"max_total_num_tokens=(\d+), chunked_prefill_size="),
        "batched_tokens": LogLine(r"max_total_num_tokens=\d+, chunked_prefill_size=(\d+)"),
        "concurrent_sequences": LogLine(r"max_running_requests=(\d+), context_len="),
    },
    dtypes={"bfloat16": "bfloat16", "float16": "float16", "float32": "float32"},
    precision_flags={"--quantization": "weights", "--kv-cache-dtype": "kv"},
    prefix_cache=(("--disable-radix-cache",), ()),
    trust_flags=("--trust-remote-code",),
    gpu_flags=("--tp-size", "{gpus}"),
    quantized=("fp8", "awq", "gptq", "compressed-tensors", "mxfp4", "modelopt", "bitsandbytes"),
    containers=("cuda",),
    native_cuda=Native(
        install=Venv(("sglang=={version}",)),
        command=(
            *("{program}", "-m", "sglang.launch_server", "--model-path", "{model}", "--served-model-name", "bench"),
            *("--host", "127.0.0.1", "--port", "{port}", "--dtype", "{dtype_flag}"),
            # 2 tokens more than asked, as in its compose file: it keeps the last 2 tokens of context and cache free.
            *("--context-length", "{context_and_2}", "--max-total-tokens", "{kv_and_2}"),
            *("--max-running-requests", "{concurrent_sequences}", "--chunked-prefill-size", "{batched_tokens}"),
            *("--max-prefill-tokens", "{batched_tokens}", "--cuda-graph-max-bs-decode", "{concurrent_sequences}"),
            *("--sampling-defaults", "openai", "--random-seed", "0", "--stream-interval", "1"),
            *("--incremental-streaming-output", "--enable-metrics", "--log-level-http", "warning"),
        ),
        program="{env}/bin/python",
        env={
            "HF_HUB_OFFLINE": "1",
            "SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "false",
            "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "true",
        },
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
        "batched tokens": "of prefill only; decoding sequences are not mixed into a prefill",
    },
)
