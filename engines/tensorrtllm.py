"""TensorRT-LLM by `trtllm-serve` and its OpenAI-compatible completions route with token-id prompts.

Its PyTorch engine loads a Hugging Face checkpoint directly: nothing is built beforehand. It reserves for every
sequence the key-value cache of its longest possible answer and admits none that has no room, so it never preempts.
A request with a field that it does not know is refused, so only the fields of its own schema are sent; while it
streams it tells counts but no ids, and without streaming ids in place of text. Needs an NVIDIA GPU."""

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
        # Both: which of them alone is greedy has changed between releases. With neither it samples at 1.0.
        greedy={"temperature": 0, "top_k": 1},
        counting={},
        # The running usage is the only count that a stream brings while it still makes text, as the others do.
        streaming={"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        answering={"detokenize": False},
    ),
    version_reading=Reading("/version", ("version",)),
    # No page tells its settings. It sizes the cache twice, first for a trial: the last line is the one that holds.
    facts={
        "context_tokens": LogLine(r"max_seq_len=(\d+), max_num_requests="),
        "concurrent_sequences": LogLine(r"max_num_requests=(\d+), max_num_tokens="),
        "batched_tokens": LogLine(r"max_num_requests=\d+, max_num_tokens=(\d+)"),
        "kv_tokens": LogLine(r"for max tokens in paged KV cache \((\d+)\)"),
    },
    dtypes={"bfloat16": "bfloat16", "float16": "float16"},
    prefix_cache=(("false",), ("true",)),
    gpu_flags=("--tp_size", "{gpus}"),
    quantized=("fp8", "nvfp4", "modelopt", "awq", "gptq", "mxfp4"),
    containers=("cuda",),
    ready_timeout_s=1200,
    # /metrics is JSON that each reading empties, and no page counts tokens.
    metrics="/prometheus/metrics",
    declared={
        "kv cache": "paged; a sequence is admitted only with room for its longest answer, so none is preempted",
        "output tokens": "counted by its usage only, ids are not in the stream",
        "cuda graphs": "batches padded to the next captured size",
        "start": "tunes kernels before it is ready; never in a measured window",
    },
)
