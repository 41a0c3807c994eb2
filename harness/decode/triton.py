"""Decodes the gRPC responses of one request into its record. Runs after the clock has stopped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.adapter import TritonModel
from harness.adapter import count as counted
from harness.decode.stream import shares
from harness.driver.clock import EARLY, is_early
from harness.driver.triton.loop import Call
from harness.records.request import ERROR_SHOWN, Chunk, RequestRecord
from harness.visible import visible


def record_of(call: Call, model: TritonModel, start_ns: int) -> RequestRecord:
    """The record of one request. Never raises for what a server sent: that is a failed record with a reason."""
    request, fault = call.request, call.fault
    responses = _Responses()
    try:
        for at_ns, response in call.responses:
            responses.take(at_ns - start_ns, response, model)
    except Exception as problem:  # protobuf and tritonclient raise many kinds for bytes that are no response
        fault = fault or f"not a response of this model: {visible(str(problem))}"
    tokens, source = count(responses.heard)
    if call.responses and is_early(call.responses[0][0], call.sent_ns):
        fault, tokens = EARLY, []  # no answer to this request
    elif fault is None and request.output_tokens and not tokens:
        fault = "the stream ended without any output"
    chunks = tuple(Chunk(at, at, new) for at, new in tokens)

    def seconds(at_ns: int | None) -> float | None:
        return None if at_ns is None else (at_ns - start_ns) / 1e9

    return RequestRecord(
        index=request.index,
        scheduled_s=request.scheduled_s,
        due_s=seconds(call.due_ns),
        sent_s=seconds(call.sent_ns),
        first_token_s=chunks[0].arrival_ns / 1e9 if chunks else None,
        last_token_s=chunks[-1].arrival_ns / 1e9 if chunks else None,
        done_s=seconds(call.done_ns),
        prompt_tokens=responses.prompt_tokens,
        output_tokens=sum(chunk.tokens for chunk in chunks),
        finish_reason=None if responses.finish_reason is None else visible(responses.finish_reason),
        status="cancelled" if call.cancelled else "failed" if fault else "ok",
        error=None if fault is None else visible(fault, ERROR_SHOWN),
        http_status=None,
        uploaded_s=None,
        connect_s=None if call.connect_ns is None else call.connect_ns / 1e9,
        sent_tokens=len(request.prompt_ids),
        asked_tokens=request.output_tokens,
        reported_tokens=responses.total or (None if tokens else responses.total),  # 0 beside text is no count
        first_event_tokens=chunks[0].tokens if chunks else None,
        cached_tokens=None,
        count_source=source,
        reads=len(call.responses),
        stamped_reads=0,
        chunks=chunks,
    )


class _Responses:
    """Tokens and counts of one request, from its responses. `heard`, for each response: its time, whether it had text,
    and the tokens so far if it reported them."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bool, int | None]] = []
        self.text_bytes = 0
        self.total: int | None = None
        self.prompt_tokens: int | None = None
        self.finish_reason: str | None = None

    def take(self, at_ns: int, response: bytes, model: TritonModel) -> None:
        """Reads one response. Raises an error of any kind if it is none, or has a tensor of the wrong type."""
        from tritonclient.grpc import InferResult
        from tritonclient.grpc.service_pb2 import ModelInferResponse

        result = InferResult(ModelInferResponse.FromString(response))
        size = len(_first(result, model.text) or b"")
        grew = size > (self.text_bytes if model.cumulative else 0)
        self.text_bytes = max(self.text_bytes, size)
        number = _count(_first(result, model.output_count))
        if number is not None:
            self.total = counted(number + (self.total or 0 if model.counts == "new" else 0))
        self.heard.append((at_ns, grew, None if number is None else self.total))
        prompt_tokens, reason = _first(result, model.prompt_count), _first(result, model.finish_reason)
        if prompt_tokens is not None:
            self.prompt_tokens = _count(prompt_tokens)
        if reason and reason != b"None":  # what a Python model sends while there is none
            self.finish_reason = reason.decode(errors="replace")


def _count(number: Any) -> int | None:
    """A count of any numeric tensor; None if it cannot be one."""
    return None if number is None else counted(number.item() if hasattr(number, "item") else number)


def _first(result: Any, name: str | None) -> Any:
    """The first element of an output; None if the response or the model has none."""
    tensor = None if name is None else result.as_numpy(name)
    return None if tensor is None or not tensor.size else tensor.flat[0]


def count(heard: Iterable[tuple[int, bool, int | None]]) -> tuple[list[tuple[int, int]], str]:
    """The tokens that arrived at each time, and how they were counted (RequestRecord.count_source).

    `heard`: (time, whether the response had text, tokens so far or None) of each response. A count that covers several
    responses with text is spread evenly over them; responses that no count covers are one token each."""
    arrived: list[tuple[int, int]] = []
    uncounted: list[int] = []
    total, source = 0, "none"
    for at, text, so_far in heard:
        if text:
            uncounted.append(at)
        if so_far is not None and so_far > total:
            spread = uncounted or [at]
            source = "running usage" if spread == [at] and source != "final usage" else "final usage"
            arrived += shares(so_far - total, spread)
            total, uncounted = so_far, []
    if uncounted:
        source = "events"
        arrived += shares(len(uncounted), uncounted)
    return [(at, new) for at, new in arrived if new], source
