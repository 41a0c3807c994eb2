"""What a server says when it refuses, in one line."""

from __future__ import annotations

import json

import pytest

from harness.driver.refusal import message_in, refusal


@pytest.mark.parametrize(
    ("status", "fields", "body", "line"),
    [
        (
            307,
            {"location": "https://me:pw@llm.example/v1/completions?sig=s3cret#x"},
            b"",
            "HTTP 307: redirected to https://llm.example/v1/completions?sig=***; give that URL",
        ),
        (301, {"location": "/v1/"}, b"<html>", "HTTP 301: redirected to /v1/; give that URL"),
        (308, {}, b"moved", "HTTP 308: moved"),
        (401, {}, b'{"error": {"message": "bad key"}}', "HTTP 401: bad key; check the API key"),
        (404, {}, b'{"detail": "Not Found"}', "HTTP 404: Not Found; check the URL's path and the model's name"),
        (418, {}, b"", "HTTP 418: empty body"),
        (
            429,
            {"retry-after": "20"},
            b"slow",
            "HTTP 429: slow; it allows fewer requests: a lower concurrency or rate; it says to wait 20 s",
        ),
        (
            503,
            {"content-type": "text/html", "retry-after": "Fri, 1 Jan"},
            b"<html><head><TITLE lang=en>\n 503 Service\x1b[2J </TITLE>",
            'HTTP 503: text/html page titled "503 Service\\x1b[2J"; it is not ready, or overloaded; it says to wait '
            "Fri, 1 Jan",
        ),
    ],
)
def test_a_refusal_is_one_line_with_the_next_step(status: int, fields: dict[str, str], body: bytes, line: str) -> None:
    assert refusal(status, fields, body) == line


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"error": {"message": "a", "code": 1}}, "a"),
        ({"error": "a"}, "a"),
        ({"object": "error", "message": "a"}, "a"),
        ({"detail": [{"loc": ["body", "max_tokens"], "msg": "a"}, {"msg": "b"}]}, "body.max_tokens: a; b"),
        ({"errors": [{"message": "a"}]}, "a"),
        ([{"error": {"message": "a"}}], "a"),
        ({"fault": {"faultstring": "a"}}, "a"),
        ({"title": "t", "detail": "a"}, "a"),
        ("a", "a"),
        ({"error": {"message": ""}, "x": 1}, '{"error": {"message": ""}, "x": 1}'),
        ({"code": 7}, '{"code": 7}'),
        ([], "[]"),
    ],
)
def test_the_reason_is_found_in_the_usual_shapes(said: object, reason: str) -> None:
    assert message_in(json.dumps(said).encode()) == reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty body"),
        (b" \r\n", "empty body"),
        (b"\xff\xfe no text", "�� no text"),
        (b"a\nb\x1b[2Jc", "a b\\x1b[2Jc"),
        (b'{"error":' * 100_000, '{"error":' * 22 + '{"... (900000 characters)'),
        (b'{"error": ' + b"1" * 5000 + b"}", '{"error": ' + "1" * 190 + "... (5011 characters)"),
        (b"<!DOCTYPE html><p>Hello", "text/html page"),
        (b"<html><title> </title>", "text/html page"),
    ],
)
def test_any_body_is_one_line(body: bytes, reason: str) -> None:
    assert message_in(body) == reason
    assert len(message_in(b"x" * 10_000_000)) < 240
