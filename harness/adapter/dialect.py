"""How requests are encoded and how answers are read."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from harness.adapter.events import Parse, openai_stream
from harness.adapter.likely import ReadSteps, no_steps


@dataclass(frozen=True, slots=True)
class Dialect:
    """How requests are encoded over HTTP and how the stream is read.

    A dot in a field's name means a nested object: `parameters.seed` is `{"parameters": {"seed": ...}}`."""

    route: str
    length_field: str  # the field that takes the number of output tokens
    exact_length: Mapping[str, Any]  # fields that make the engine generate exactly that many tokens
    greedy: Mapping[str, Any]  # fields that make it take the most likely token
    counting: Mapping[str, Any]  # fields that make it report token ids and counts
    streaming: Mapping[str, Any]  # fields that make it stream
    prompt_field: str = "prompt"
    prompt: Literal["ids", "text"] = "ids"  # what that field takes
    always: Mapping[str, Any] = field(default_factory=dict)  # fields that every request must have
    dropped: tuple[str, ...] = ()  # fields that are left out of every request, whoever asks for them
    # In place of `streaming`, for a request that returns the ids of all its tokens: a stream may leave some out.
    answering: Mapping[str, Any] = field(default_factory=dict)
    parse: Parse = openai_stream
    # Fields that make an answer without streaming name the most likely tokens of each step; and how they are read.
    likely: Mapping[str, Any] = field(default_factory=dict)
    read_likely: ReadSteps = no_steps

    def changed(self, length_field: str, drop: Sequence[str]) -> Dialect:
        """The dialect whose requests take the length in another field (empty: the same) and leave out `drop`."""
        return replace(self, length_field=length_field or self.length_field, dropped=(*self.dropped, *drop))

    def fields(self, stream: bool = True, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The fields of a request beside its prompt and its length; `more` override the dialect's own."""
        asked = {**self.always, **self.exact_length, **self.greedy, **self.counting}
        asked |= {**(self.streaming if stream else self.answering), **(more or {})}
        return without(nested(asked), self.dropped)

    def body(
        self, prompt: object, output_tokens: int, stream: bool = True, more: Mapping[str, Any] | None = None
    ) -> bytes:
        """The request's JSON: greedy, forced to `output_tokens`. With `stream` false, the request that returns all
        ids."""
        flat = {self.prompt_field: prompt, self.length_field: output_tokens, **self.fields(stream, more)}
        return msgspec.json.encode(without(nested(flat), self.dropped))


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} as {"a": {"b": 1}}. Objects of one name are merged, and the last of two values is taken."""
    whole: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split(".")
        inner = whole
        for step in path:
            if not isinstance(inner.get(step), dict):
                inner[step] = {}
            inner = inner[step]
        # A mapping is copied: the engine file's own would be changed for every request of the process.
        old = inner.get(last)
        merged = (
            {**(old if isinstance(old, dict) else {}), **copy.deepcopy(dict(value))}
            if isinstance(value, Mapping)
            else value
        )
        inner[last] = merged
    return whole


def without(whole: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A request's fields without these (a dot: of a nested object), and without an object that has nothing left."""
    for name in names:
        outer, _, rest = name.partition(".")
        if not rest:
            whole = {key: value for key, value in whole.items() if key != outer}
        elif isinstance(whole.get(outer), dict):
            left = without(whole[outer], [rest])
            whole = {**whole, outer: left} if left else without(whole, [outer])
    return whole


@dataclass(frozen=True, slots=True)
class Tensor:
    """A constant input of a Triton model. `datatype` as Triton calls it: BYTES, BOOL, INT32, UINT64, FP32."""

    name: str
    datatype: str
    value: Any


@dataclass(frozen=True, slots=True)
class TritonModel:
    """A decoupled text model of Triton Inference Server: the names of its tensors; None if it has no such tensor.

    Shapes are read from the server: every input is one value, in as many dimensions as the model takes."""

    name: str
    prompt: str = "text_input"  # BYTES
    length: str = "max_tokens"  # an integer input: the most tokens that it may produce
    least: str | None = None  # an integer input: the fewest, which forces the length
    constants: Sequence[Tensor] = ()  # greedy, streaming, without the prompt in the output
    text: str = "text_output"  # BYTES
    cumulative: bool = False  # each response repeats all the text so far
    prompt_count: str | None = None  # output with the number of prompt tokens
    output_count: str | None = None  # output with a number of output tokens
    counts: Literal["new", "total"] = "total"  # whether output_count is that response's, or the total so far
    finish_reason: str | None = None  # BYTES


@dataclass(frozen=True, slots=True)
class TritonDialect:
    """Requests go to Triton over gRPC as text, one stream each, to the first of `models` that is ready."""

    models: Sequence[TritonModel]
    prompt: Literal["text"] = "text"
