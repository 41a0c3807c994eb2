"""What the responses of a model on Triton mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from engines.triton import LEGACY, LLM_API
from harness.adapter import TritonModel
from harness.decode.triton import count, record_of
from harness.driver.triton.loop import Call
from harness.records.request import RequestRecord
from harness.workload.schedule import Request

MS = 1_000_000

TENSORS: dict[type, tuple[str, Callable[[Any], bytes]]] = {
    bytes: ("BYTES", lambda value: len(value).to_bytes(4, "little") + value),
    int: ("INT32", lambda value: value.to_bytes(4, "little")),
}


def response(**outputs: bytes | int) -> bytes:
    """A ModelInferResponse with one value in each output, as it would come over the wire."""
    from tritonclient.grpc.service_pb2 import ModelInferResponse

    message = ModelInferResponse(model_name="m")
    for name, value in outputs.items():
        datatype, encode = TENSORS[type(value)]
        message.outputs.add(name=name, datatype=datatype, shape=[1, 1])
        message.raw_output_contents.append(encode(value))
    whole: bytes = message.SerializeToString()
    return whole


def record(model: TritonModel, *responses: bytes, fault: str | None = None, cancelled: bool = False) -> RequestRecord:
    """Of responses that came 1 ms apart, the first 1 ms after the request was sent."""
    call = Call(Request(0, (1, 2, 3), 4), connect_ns=7, sent_ns=5 * MS, fault=fault, cancelled=cancelled)
    call.responses = [((6 + i) * MS, data) for i, data in enumerate(responses)]
    call.done_ns = (5 + len(responses)) * MS
    return record_of(call, model, 5 * MS)


@pytest.mark.usefixtures("tritonclient_grpc")
def test_due_times_count_from_the_start() -> None:
    call = Call(Request(0, (1,), 4, scheduled_s=0.25), due_ns=255 * MS, sent_ns=256 * MS, done_ns=256 * MS)
    assert (record_of(call, LLM_API, 5 * MS).scheduled_s, record_of(call, LLM_API, 5 * MS).due_s) == (0.25, 0.25)
    call = Call(Request(1, (1,), 4, after=(0,), think_s=0.5), due_ns=905 * MS)
    assert (record_of(call, LLM_API, 5 * MS).scheduled_s, record_of(call, LLM_API, 5 * MS).due_s) == (None, 0.9)
    assert record_of(Call(Request(2, (1,), 4)), LLM_API, 5 * MS).due_s is None


def arrivals(got: RequestRecord) -> list[tuple[int, int]]:
    return [(chunk.arrival_ns // MS, chunk.tokens) for chunk in got.chunks]


@pytest.mark.usefixtures("tritonclient_grpc")
def test_text_that_only_grows_is_one_token_each_time_it_does() -> None:
    texts = [b"a", b"ab", b"ab", b"abcd"]
    got = record(LLM_API, *(response(text_output=text, finish_reason=b"None") for text in texts), response())
    assert (arrivals(got), got.count_source) == ([(1, 1), (2, 1), (4, 1)], "events")
    assert (got.status, got.error, got.finish_reason, got.reported_tokens) == ("ok", None, None, None)
    assert (got.sent_s, got.first_token_s, got.last_token_s, got.done_s) == (0.0, 0.001, 0.004, 0.005)
    assert (got.sent_tokens, got.asked_tokens, got.first_event_tokens) == (3, 4, 1)


@pytest.mark.usefixtures("tritonclient_grpc")
def test_each_text_of_its_own_is_a_token_unless_it_is_empty() -> None:
    parts = [b"long", b"b", b"", b"c"]
    got = record(replace(LLM_API, cumulative=False), *(response(text_output=part) for part in parts))
    assert (arrivals(got), got.count_source) == ([(1, 1), (2, 1), (4, 1)], "events")


@pytest.mark.usefixtures("tritonclient_grpc")
def test_arrival_is_when_it_was_read_and_says_so() -> None:
    got = record(LLM_API, response(text_output=b"a"), response(text_output=b"ab"))
    assert all(chunk.arrival_ns == chunk.read_ns for chunk in got.chunks)
    assert (got.reads, got.stamped_reads, got.uploaded_s, got.http_status) == (2, 0, None, None)


@pytest.mark.usefixtures("tritonclient_grpc")
@pytest.mark.parametrize(
    ("counts", "numbers", "tokens", "source"),
    [
        ("new", (1, 2, 1), [(1, 1), (2, 2), (3, 1)], "running usage"),
        ("total", (1, 3, 4), [(1, 1), (2, 2), (3, 1)], "running usage"),
        ("total", (None, None, 4), [(1, 1), (2, 1), (3, 2)], "final usage"),
        ("total", (None, 2, 4), [(1, 1), (2, 1), (3, 2)], "final usage"),
        ("total", (None, None, None), [(1, 1), (2, 1), (3, 1)], "events"),
    ],
)
def test_the_servers_own_counts_hold(
    counts: Any, numbers: Sequence[int | None], tokens: list[tuple[int, int]], source: str
) -> None:
    model = replace(LEGACY, counts=counts)
    said_so = [{} if number is None else {"num_output_tokens": number} for number in numbers]
    got = record(model, *(response(text_output=b"x", num_input_tokens=3, **more) for more in said_so))
    assert (arrivals(got), got.count_source) == (tokens, source)
    assert (got.prompt_tokens, got.reported_tokens) == (3, 4 if numbers[-1] else None)


@pytest.mark.usefixtures("tritonclient_grpc")
def test_a_token_without_text_counts_where_the_server_counts_it() -> None:
    got = record(LEGACY, *(response(text_output=text, num_output_tokens=1) for text in (b"a", b"", b"b")))
    assert arrivals(got) == [(1, 1), (2, 1), (3, 1)]


def test_a_count_spread_over_responses_loses_no_token() -> None:
    tokens, source = count([(1, True, None), (2, True, None), (3, False, 5), (4, True, 6)])
    assert (tokens, source) == ([(1, 2), (2, 3), (4, 1)], "final usage")


@pytest.mark.usefixtures("tritonclient_grpc")
@pytest.mark.parametrize(
    ("sent", "fault", "cancelled", "status", "error"),
    [
        ([], None, False, "failed", "the stream ended without any output"),
        ([{"other": b"x"}], None, False, "failed", "the stream ended without any output"),
        ([{"text_output": 7}], None, False, "failed", "not a response of this model: "),
        ([{"text_output": b"a"}], "UNAVAILABLE: Socket closed", False, "failed", "UNAVAILABLE: Socket closed"),
        ([{"text_output": b"a"}], "cancelled by its user", True, "cancelled", "cancelled by its user"),
    ],
)
def test_what_goes_wrong_is_a_record_with_its_reason(
    sent: list[dict[str, Any]], fault: str | None, cancelled: bool, status: str, error: str
) -> None:
    got = record(LLM_API, *(response(**outputs) for outputs in sent), fault=fault, cancelled=cancelled)
    assert got.status == status
    assert got.error is not None and got.error.startswith(error)
    assert got.output_tokens == sum(outputs == {"text_output": b"a"} for outputs in sent)
