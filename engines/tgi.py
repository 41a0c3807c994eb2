"""Hugging Face Text Generation Inference through its native /generate_stream route. Its development has ended; this is
its last version, kept as a baseline.

It takes text, never token ids, and tokenises it again; and no request can make it continue after an end-of-sequence
token. So the compose file serves the same weights with a `generation_config.json` whose end of sequence is an id that
no tokenizer has. One event is one token; the last event has the counts, and there is no `[DONE]`."""

import msgspec

from harness.adapter import Dialect, Engine, Event, LogLine, Ran, Reading, Workload

FINISH = {"length": "length", "eos_token": "stop", "stop_sequence": "stop"}
LONGEST = 1024  # output tokens; the router's DEFAULT_GENERATION_LENGTH, router/src/validation.rs


class Token(msgspec.Struct):
    id: int
    text: str = ""


class Details(msgspec.Struct):
    finish_reason: str | None = None
    generated_tokens: int | None = None
    input_length: int | None = None


class Sent(msgspec.Struct):
    token: Token | None = None
    details: Details | None = None
    error: str | None = None


read_event = msgspec.json.Decoder(Sent).decode


def parse(data: bytes) -> Event:
    """Parses one event of the stream. `index` is ignored: it also counts tokens that the router does not send."""
    sent = read_event(data)
    if sent.error is not None or sent.token is None:  # an overloaded or refused request is an event under HTTP 200
        return Event(error=sent.error or "an event without a token")
    ids, content, details = (sent.token.id,), bool(sent.token.text), sent.details
    if details is None:
        return Event(1, None, content, ids)
    finish = FINISH.get(details.finish_reason or "")
    return Event(1, None, content, ids, finish, details.input_length, details.generated_tokens, end=True)


def cannot(workload: Workload) -> str | None:
    """Refuses longer outputs: the router generates them in pieces, and queues the prompt and all text again after
    each."""
    longest = workload.most_output_tokens
    if longest > LONGEST:
        return f"its router splits outputs of more than {LONGEST} tokens; this workload asks for {longest}"
    return None


ENGINE = Engine(
    name="tgi",
    title="TGI",
    color="#f5b301",
    version="3.3.7",
    weights="safetensors",
    dialect=Dialect(
        route="/generate_stream",  # streams without being asked to
        prompt_field="inputs",
        prompt="text",
        length_field="parameters.max_new_tokens",
        exact_length={},  # the compose file does it
        greedy={"parameters.do_sample": False},  # any of temperature, top_k, top_p would turn sampling on
        counting={"parameters.details": True},
        streaming={},
        parse=parse,
    ),
    # Chat; it turns a temperature of 0 into greedy.
    openai=Dialect(
        route="/v1/completions",
        prompt="text",
        length_field="max_tokens",
        exact_length={},
        greedy={"temperature": 0},
        counting={},
        streaming={"stream": True, "stream_options": {"include_usage": True}},
    ),
    version_reading=Reading("/info", ("version",)),
    shows_version=r"3\.3\.6-dev0",  # of 3.3.7, and of 3.3.6 as well
    commit=(Reading("/info", ("sha",)), "dfb3fbe"),  # null where it was built without being told
    facts={
        "context_tokens": Reading("/info", ("max_total_tokens",)),
        "kv_tokens": LogLine(r"Setting max batch total tokens to (\d+)"),
    },
    dtypes={"bfloat16": "bfloat16", "float16": "float16"},
    precision_flags={"--quantize": "weights", "--kv-cache-dtype": "kv"},
    prefix_cache=(("0",), ("1",)),
    trust_flags=("--trust-remote-code",),
    gpu_flags=("--num-shard", "{gpus}"),
    quantized=("awq", "gptq", "fp8", "compressed-tensors", "marlin", "bitsandbytes"),
    containers=("cuda", "cpu"),
    ready_timeout_s=900,
    series={
        "prompt_tokens": "tgi_request_input_length_sum",
        "output_tokens": "tgi_request_generated_tokens_sum",
        "steps": "tgi_batch_inference_count_total",  # the page has no "_total"; the parser adds it
    },
    gauges={"running": "tgi_batch_current_size", "waiting": "tgi_queue_size"},
    declared={
        "prompt": "sent as text and tokenised again by the engine; the other engines get token ids",
        "end of sequence": "an unreachable id in a derived generation_config.json, because no request can ignore it",
        "kv cache": "sized by the engine, 0.9 of the GPU's memory less weights, or 0.95 of a CPU's free memory; it "
        "ignores a number of tokens",
        "concurrent sequences": "limited only by the room in the KV cache",
    },
    declared_on={
        "cpu": {"threads": "bound to the first cores of a NUMA node"},
        "cuda": {
            "cuda graphs": "for batches of 1, 2, 4 and then every 8 to 64, 16 to 128, 32 to 256; larger ones run "
            "eagerly",
        },
    },
    declared_logged={
        # Its router, of a model whose own code does not report how large a cache fits: that without flash attention.
        r"Model does not support automatic max batch total tokens": {
            "end of sequence": "not held off: without flash attention this model's code does not read the list of ids, "
            "so that answers may end early",
            "kv cache": "as many tokens as asked",
        },
    },
    cannot=cannot,
    no_natural_ends="its compose file serves the model with an end of sequence that no tokenizer has",
    ran=(
        Ran("3.3.7", "a CPU: router, launcher and Python server with the fallback model code, by hand", "2026-11-26"),
    ),
    never="its kernels; on a GPU; published images",
)
