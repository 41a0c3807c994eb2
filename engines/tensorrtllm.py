"""TensorRT-LLM through `trtllm-serve` and its OpenAI-compatible completions route with token-id prompts.

Its PyTorch engine loads a Hugging Face checkpoint directly: nothing is built beforehand. It reserves the KV cache of
the longest possible answer for every sequence and admits a sequence only if there is room, so it never preempts. It
refuses requests with unknown fields, so only the fields of its own schema are sent. A stream has counts but no ids; an
answer without streaming has ids instead of text. Needs an NVIDIA GPU."""

from harness.adapter import Dialect, Engine, LogLine, Reading

ENGINE = Engine(
    name="tensorrtllm",
    title="TensorRT-LLM",
    color="#76b900",
    version="1.2.1",
    weights="safetensors",
    dialect=Dialect(
        route="/v1/completions",
        length_field="max_tokens",
        always={"model": "bench"},  # required, and not compared with what is served
        exact_length={"ignore_eos": True},
        # Both, because which of them alone is greedy differs between releases. With neither it samples at 1.0.
        greedy={"temperature": 0, "top_k": 1},
        counting={},
        # A stream has text, as with the other engines, so the running usage is its only count.
        streaming={"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        answering={"detokenize": False},
    ),
    version_reading=Reading("/version", ("version",)),
    # No page shows its settings. It sizes the cache twice, first as a trial: the last log line is the valid one.
    facts={
        "context_tokens": LogLine(r"max_seq_len=(\d+), max_num_requests="),
        "concurrent_sequences": LogLine(r"max_num_requests=(\d+), max_num_tokens="),
        "batched_tokens": LogLine(r"max_num_requests=\d+, max_num_tokens=(\d+)"),
        "kv_tokens": LogLine(r"for max tokens in paged KV cache \((\d+)\)"),
    },
    dtypes={"bfloat16": "bfloat16", "float16": "float16"},
    prefix_cache=(("false",), ("true",)),
    trust_flags=("--trust_remote_code",),
    gpu_flags=("--tp_size", "{gpus}"),
    quantized=("fp8", "nvfp4", "modelopt", "awq", "gptq", "mxfp4"),
    containers=("cuda",),
    ready_timeout_s=1200,
    # /metrics is JSON that is cleared by each read, and no page counts tokens.
    metrics="/prometheus/metrics",
    declared={
        "kv cache": "paged; a sequence is admitted only with room for its longest answer, so none is preempted",
        "output tokens": "counted by its usage only, ids are not in the stream",
        "cuda graphs": "batches padded to the next captured size",
        # tensorrt_llm/serve/openai_server.py starts uvicorn with log_level="info"; --log_level is for its own lines.
        "log": "one line a request in its access log, which no option turns off",
        "start": "tunes kernels before it is ready; never in a measured window",
    },
)
