"""What a server's refusal says must be changed in the requests."""

from __future__ import annotations

import pytest

from harness.records.manifest import ProbeFacts
from harness.records.refused import advice

SENT = {"model": "m", "temperature": 0, "stream": True, "stream_options": {"include_usage": True}, "top_k": 1}
IDS = ProbeFacts(asked_for=SENT, length_field="max_tokens", prompt_as="ids")
TEXT = ProbeFacts(asked_for=SENT, length_field="max_tokens", prompt_as="chat")
COMPLETIONS, CHAT = "http://h/v1/completions", "http://h/v1/chat/completions"


@pytest.mark.parametrize(
    ("said", "flag"),
    [
        ("400: Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
         "instead.", "--length-field max_completion_tokens"),
        ("400: unknown field `max_tokens`, expected one of `model`, `max_new_tokens`", "--length-field max_new_tokens"),
        ("400: max_tokens: Extra inputs are not permitted", "--length-field NAME"),
        ('422: {"detail": [{"type": "missing", "loc": ["body", "max_new_tokens"], "msg": "Field required"}]}',
         "--length-field max_new_tokens"),
        ('422: {"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not '
         'permitted","input":{"include_usage":true}}]}', "--no-field stream_options "),
        ('422: {"detail": [{"type": "extra_forbidden", "loc": ["body", "top_k"]}, {"type": "extra_forbidden", "loc": '
         '["body", "stream_options", "include_usage"]}]}',
         "--no-field stream_options.include_usage --no-field top_k"),
        ("422: body.stream: Extra inputs are not permitted; body.top_k: Extra inputs are not permitted; it does not "
         "take a field of the request, or its value", "--no-field stream --no-field top_k "),
        ("422: body.max_new_tokens: Field required", "--length-field max_new_tokens"),
        ("400: Unrecognized request argument supplied: stream_options", "--no-field stream_options "),
        ("400: Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is "
         "supported.", "--no-field temperature "),
        ("400: Additional properties are not allowed ('top_k' was unexpected)", "--no-field top_k "),
        ("400: unknown field \"stream\"", "--no-field stream "),
        ("400: json: unknown field \"include_usage\"", "--no-field stream_options.include_usage "),
        ("400: Unknown parameter: 'model'.", "--no-field model "),
    ],
)  # fmt: skip
def test_the_refused_field_and_the_flag_are_named(said: str, flag: str) -> None:
    for asked in (IDS, TEXT):
        text = advice(f"HTTP {said}", asked, CHAT)
        assert flag in f"{text} " and "in a comparison file" in text and "--prompt" not in text
    assert advice(said[5:], TEXT) == advice(f"HTTP {said}", TEXT)  # in a stream that had begun
    assert advice(f"failed the probe request: HTTP {said}", TEXT) == advice(f"HTTP {said}", TEXT)


@pytest.mark.parametrize(
    "said",
    [
        "400: json: cannot unmarshal array into Go struct field CompletionRequest.prompt of type string",
        '422: {"detail": [{"type": "string_type", "loc": ["body", "prompt"], "msg": "should be a string"}]}',
        "400: Invalid request",
        "400: token ids are not supported",
        "500: TypeError: expected str instance, list found",
    ],
)
def test_a_server_that_may_take_no_token_ids(said: str) -> None:
    assert "--prompt text" in advice(f"HTTP {said}", IDS, COMPLETIONS)
    assert advice(f"HTTP {said}", TEXT, CHAT) == ""


@pytest.mark.parametrize(
    "said",
    [
        "HTTP 400: This model's maximum context length is 1024 tokens. However, you requested 2000 tokens.",
        "HTTP 400: max_tokens is too large: 50000",
        "HTTP 401: Incorrect API key",
        "HTTP 429: Rate limit reached for m",
        "HTTP 500: out of memory",
        "HTTP 404: The model `m` does not exist",
        "connection refused",
        "",
    ],
)
def test_other_errors_get_no_advice(said: str) -> None:
    assert advice(said, IDS, COMPLETIONS) == "" and advice(said, None) == ""


def test_a_missing_route_names_the_chats() -> None:
    own_words = "HTTP 404: page not found; check the URL's path and the model's name"
    assert advice(own_words, IDS, COMPLETIONS) == advice("HTTP 404: Not Found", IDS, COMPLETIONS)
    assert advice("HTTP 404: Not Found", IDS, COMPLETIONS).endswith(f"{CHAT}.")
    assert advice("HTTP 404: Not Found", TEXT, CHAT) == ""
