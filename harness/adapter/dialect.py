"""How a request is said to an engine and how its answer is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from harness.adapter.events import Parse, openai_stream


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a request is said to this engine over HTTP and how its stream is read back.

    A dot in a field's name goes into an object: `parameters.seed` is `{"parameters": {"seed": ...}}`."""

    route: str
    length_field: str  # the field that takes the number of output tokens
    exact_length: Mapping[str, Any]  # fields that make the engine go on to that length, whatever it samples
    greedy: Mapping[str, Any]  # fields that make it take the most likely token
    counting: Mapping[str, Any]  # fields that make it report token ids and counts
    streaming: Mapping[str, Any]  # fields that make it stream
    prompt_field: str = "prompt"
    prompt: Literal["ids", "text"] = "ids"  # what that field takes
    always: Mapping[str, Any] = field(default_factory=dict)  # fields without which it refuses a request
    # Fields of a request that brings the ids of all its tokens, in place of `streaming`: a stream may hide some.
    answering: Mapping[str, Any] = field(default_factory=dict)
    parse: Parse = openai_stream

    def body(
        self, prompt: object, output_tokens: int, stream: bool = True, more: Mapping[str, Any] | None = None
    ) -> bytes:
        """The request's JSON: greedy, forced to `output_tokens`; `more` fields win over the dialect's own.
        `stream` false: the request for all ids."""
        flat = {self.prompt_field: prompt, self.length_field: output_tokens, **self.always, **self.exact_length}
        flat |= {**self.greedy, **self.counting, **(self.streaming if stream else self.answering), **(more or {})}
        return msgspec.json.encode(nested(flat))


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} as {"a": {"b": 1}}."""
    whole: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split(".")
        inner = whole
        for step in path:
            inner = inner.setdefault(step, {})
        inner[last] = value
    return whole


@dataclass(frozen=True, slots=True)
class Tensor:
    """A constant input of a Triton model. `datatype` as Triton calls it: BYTES, BOOL, INT32, UINT64, FP32."""

    name: str
    datatype: str
    value: Any


@dataclass(frozen=True, slots=True)
class TritonModel:
    """A decoupled text model of Triton Inference Server: the names of its tensors. None if it has none.

    Shapes are the server's to say: every input is one value, in as many dimensions as the model wants."""

    name: str
    prompt: str = "text_input"  # BYTES
    length: str = "max_tokens"  # an integer input: the most tokens that it may produce
    least: str | None = None  # an integer input: the fewest, which forces the length
    constants: Sequence[Tensor] = ()  # greedy, streaming, without the prompt in the output
    text: str = "text_output"  # BYTES
    cumulative: bool = False  # each response repeats all the text so far
    prompt_count: str | None = None  # output with the number of prompt tokens
    output_count: str | None = None  # output with a number of output tokens
    counts: Literal["new", "total"] = "total"  # of that response, or of all so far
    finish_reason: str | None = None  # BYTES


@dataclass(frozen=True, slots=True)
class TritonDialect:
    """Requests go to Triton over gRPC, one stream each, as text: to the first of `models` that it has ready."""

    models: Sequence[TritonModel]
    prompt: Literal["text"] = "text"
