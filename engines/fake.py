"""The null engine: emits tokens on a schedule. Measuring it measures the client, not an engine."""

from harness import __version__
from harness.adapter import Dialect, Engine, Native, Reading

ENGINE = Engine(
    name="fake",
    title="null server",
    color="#7f7f7f",
    version=__version__,
    weights="safetensors",
    null=True,
    dialect=Dialect(
        route="/v1/completions",
        length_field="max_tokens",
        exact_length={"ignore_eos": True},
        greedy={"temperature": 0},
        counting={"return_token_ids": True},
        streaming={"stream": True},
    ),
    health="/health",
    version_reading=Reading("/version", ("version",)),
    facts={"context_tokens": Reading("/v1/models", ("data", 0, "max_model_len"))},
    dtypes={"bfloat16": "", "float16": "", "float32": ""},
    series={"requests": "null:requests_total", "output_tokens": "null:tokens_total"},
    gauges={"running": "null:running"},
    native=Native(
        install=None,
        command=(
            *("{python}", "-m", "harness.nullengine.server", "--port", "{port}"),
            *("--context", "{context_tokens}", "--ttft", "0.010", "--interval", "0.001"),
        ),
    ),
    ready_timeout_s=10,
)
