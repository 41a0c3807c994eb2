"""Hugging Face's `transformers serve`: its own models, batched continuously, behind OpenAI-compatible routes. It is
what Hugging Face maintains since TGI's development has ended.

It takes text, never token ids. One event brings the text of one token or of a few; only the last has the counts, and
there is no `[DONE]`. An answer goes on past the end of sequence where the request's own generation config names an end
that no tokenizer has. It has no page for its settings or its counters."""

from pathlib import Path

from harness.adapter import Dialect, Engine, Native, Venv

# uvicorn's log line for each request cannot be turned off by an option of the command.
QUIET = "import logging; logging.disable(logging.INFO); from transformers.cli.transformers import main; main()"

ENGINE = Engine(
    name="transformers",
    title="transformers serve",
    color="#8d6e63",
    version="5.24.0",
    weights="safetensors",
    dialect=Dialect(
        route="/v1/completions",
        prompt="text",
        length_field="max_tokens",
        exact_length={"generation_config": '{"eos_token_id": [2147483647]}'},
        greedy={"temperature": 0},
        counting={},  # the last event has the usage without being asked
        streaming={"stream": True},
    ),
    dtypes={"bfloat16": "bfloat16", "float16": "float16", "float32": "float32"},
    precision_flags={"--quantization": "weights"},
    trust_flags=("--trust-remote-code",),
    native=Native(
        install=Venv(
            requirements=tuple(
                Path(__file__).with_name("transformers.packages.txt").read_text(encoding="utf-8").splitlines()
            ),
            constraints="cuda-bindings==13.5.0\ncuda-pathfinder==1.9.1\nnvidia-nvjitlink==13.5.37\n",
            hint="pip must reach a package index that has torch 2.13.0, the CPU build or the ordinary one.",
        ),
        command=(
            *("{program}", "-c", QUIET, "serve", "{model}", "--host", "127.0.0.1", "--port", "{port}"),
            *("--device", "cpu", "--dtype", "{dtype_flag}", "--default-seed", "0", "--log-level", "error"),
            # Its cache would take most of the memory by default.
            *("--continuous-batching", "--cb-block-size", "64", "--cb-num-blocks", "{kv_blocks}"),
            *("--cb-max-batch-tokens", "{batched_tokens}"),
        ),
        program="{env}/bin/python",
        env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "{threads}", "DO_NOT_TRACK": "1"},
    ),
    ready_timeout_s=300,
    declared={
        "version": "it does not show it; taken from the package that was installed",
        "prompt": "sent as text and tokenised again by the engine; the other engines get token ids",
        "prefix cache": "always on, for prompts that share whole blocks of 64 tokens",
        "context tokens": "the model's own; no option lowers it",
        "concurrent sequences": "limited only by the room in the KV cache",
        "kv cache": "paged, shared by all sequences",
    },
    declared_on={"cpu": {"attention": "PyTorch's own, without the kernels that it uses on a GPU"}},
)
