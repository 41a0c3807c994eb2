"""`transformers serve` 5.24.0: `/v1/completions`. From a recording and transformers/cli/serving/completion.py."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from harness.model.tokenizer import Texts
from tests.wire_engines.dialect import Answer, Asked, Page, Plan, Refused, Sent, Totals, WireDialect, json_page, sse

KNOWN = {"model", "prompt", "max_tokens", "stream", "temperature", "top_p", "seed", "stop", "generation_config"}
KNOWN |= {"stream_options", "n", "user", "suffix", "frequency_penalty", "presence_penalty"}


def refusal(message: str, status: int = 422) -> tuple[int, Any]:
    return status, {"detail": message}


class Transformers(WireDialect):
    routes = ("/v1/completions",)
    tells_cached = tells_ids = False
    can_group = False
    overlong = "clamped"
    head = (
        b"HTTP/1.1 200 OK\r\ndate: Thu, 26 Nov 2026 20:06:11 GMT\r\nserver: uvicorn\r\n"
        b"content-type: text/event-stream; charset=utf-8\r\nx-request-id: 522f524d-8c21-43c4-acf3-7819a5f2dd92\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )

    def read(self, route: str, body: dict[str, Any], plan: Plan, texts: Texts) -> Asked:
        if unknown := set(body) - KNOWN:
            raise Refused(*refusal(f"Unexpected fields in the request: {unknown}"))
        if body.get("model", "/model") != "/model":
            raise Refused(*refusal(f"Server is pinned to '/model'; requested '{body['model']}'.", 400))
        prompt = body.get("prompt")
        if not isinstance(prompt, str):
            raise Refused(*refusal("prompt must be a string.", 400))
        ids = tuple(texts.tokenizer.encode(prompt).ids)
        own = json.loads(body.get("generation_config") or "{}")
        runs_on = min(own.get("eos_token_id") or [0]) > max(texts.vocabulary)
        greedy = body.get("temperature", 1.0) == 0
        return Asked(ids, body.get("max_tokens", 1024), bool(body.get("stream")), greedy, runs_on, body)

    def events(self, answer: Answer) -> Iterator[Sent]:
        for group in answer.groups:
            for i in group:
                if text := answer.texts[i]:  # an incomplete character has no event
                    yield Sent(sse(envelope({"index": 0, "text": text})), 1, group[-1])
        last = envelope({"finish_reason": answer.finish, "index": 0, "text": ""})
        yield Sent(sse(last | {"usage": usage(answer, answer.last_count)}), 0, answer.groups[-1][-1])

    def whole(self, answer: Answer) -> Any:
        choice = {"finish_reason": answer.finish, "index": 0, "text": "".join(answer.texts)}
        return envelope(choice) | {"usage": usage(answer, len(answer.ids))}

    def too_long(self, asked: Asked, plan: Plan) -> tuple[int, Any]:
        return refusal(f"The prompt of {len(asked.prompt)} tokens is longer than the cache.", 400)

    def overloaded(self) -> tuple[int, Any]:
        return refusal("The request queue is full.", 503)

    def broken(self, message: str) -> Sequence[bytes]:
        return (sse({"error": message}),)

    def pages(self, plan: Plan, totals: Totals) -> dict[str, Page]:
        listed = {"owned_by": "local", "id": "/model", "object": "model", "created": 0, "status": {"value": "loaded"}}
        return {
            "/health": json_page({"status": "ok"}),
            "/v1/models": json_page({"object": "list", "data": [listed]}),
        }


def envelope(choice: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "522f524d-8c21-43c4-acf3-7819a5f2dd92",
        "choices": [choice],
        "created": 1795723572,
        "model": "/model",
        "object": "text_completion",
    }


def usage(answer: Answer, count: int) -> dict[str, int]:
    prompt = answer.prompt_tokens
    return {"completion_tokens": count, "prompt_tokens": prompt, "total_tokens": prompt + count}


DIALECT = Transformers()
