"""Any server with the OpenAI completions or chat API, attached to by its URL.

Only fields of that API are sent, so nothing forces the output length: use `--field ignore_eos=true` if the server has
that field, or the engine file of its own engine."""

from harness.adapter import Dialect, Engine, Ran

ENGINE = Engine(
    name="openai",
    title="OpenAI-compatible server",
    color="#4b5563",
    version="unknown",
    weights="safetensors",
    dialect=Dialect(
        route="/v1/completions",
        length_field="max_tokens",
        exact_length={},
        greedy={"temperature": 0},
        counting={},
        streaming={"stream": True, "stream_options": {"include_usage": True}},
    ),
    ran=(Ran("b11434 of llama.cpp", "a CPU: completions and chat of a server started by hand", "2026-11-26"),),
)
