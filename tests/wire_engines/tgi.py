"""Text Generation Inference 3.3.7: `/generate_stream`. Written from the bytes that the real router and server sent on a
CPU on 2026-11-26; what was not asked of them there is from router/src/server.rs, validation.rs and lib.rs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from harness.model.tokenizer import Texts
from tests.wire_engines.dialect import (
    Answer,
    Asked,
    Page,
    Plan,
    Refused,
    Sent,
    Totals,
    WireDialect,
    dumps,
    json_page,
    prometheus,
    sse,
)

SAMPLING = ("temperature", "top_k", "top_p", "typical_p")  # any of them given turns sampling on
ENDS = {"length": "length", "stop": "eos_token"}


def refusal(message: str, kind: str) -> dict[str, str]:
    return {"error": message, "error_type": kind}


class Tgi(WireDialect):
    routes = ("/generate_stream", "/generate", "/")
    tells_cached = False
    greedy_by_default = True  # once a request has parameters at all
    can_group = False
    overlong = "refused"
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
        b"x-compute-type: gpu+optimized\r\nx-compute-characters: 10\r\nx-accel-buffering: no\r\n"
        b"vary: origin, access-control-request-method, access-control-request-headers\r\n"
        b"access-control-allow-origin: *\r\ntransfer-encoding: chunked\r\n"
        b"date: Thu, 26 Nov 2026 11:50:28 GMT\r\n\r\n"
    )
    head_first = True
    chunk_size = b"%X"  # in capital letters
    ends_with_last = True
    missing = (404, {}, b"")

    def read(self, route: str, body: dict[str, Any], plan: Plan, texts: Texts) -> Asked:
        prompt = body.get("inputs")
        if not isinstance(prompt, str):  # its JSON reader refuses, in plain text
            found = "sequence" if isinstance(prompt, list) else "map"
            raise Refused(
                422,
                "Failed to deserialize the JSON body into the target type: inputs: invalid type: "
                f"{found}, expected a string at line 1 column 11",
            )
        given = body.get("parameters")
        parameters = {"do_sample": True} if given is None else given
        sampled = parameters.get("do_sample") or any(parameters.get(name) is not None for name in SAMPLING)
        stream = route == "/generate_stream" or (route == "/" and bool(body.get("stream")))
        limit = parameters.get("max_new_tokens", 1024)
        for wrong, why in (
            (not prompt, "`inputs` cannot be empty"),
            ((parameters.get("temperature") or 1) <= 0, "`temperature` must be strictly positive"),
            (limit <= 0, "`max_new_tokens` must be strictly positive"),
        ):
            if wrong:
                message = f"Input validation error: {why}"
                raise Refused(200 if stream else 422, refusal(message, "validation"))
        ids = tuple(texts.tokenizer.encode(prompt).ids)
        # It goes on past the end only when it was started with an end that is never generated: not a matter
        # of the request.
        return Asked(ids, limit, stream, not sampled, True, parameters | {"route": route})

    def events(self, answer: Answer) -> Iterator[Sent]:
        for group in answer.groups:
            for i in group:
                last = i == len(answer.ids) - 1
                event = {
                    "index": i + 1,
                    "token": self.token(answer, i),
                    "generated_text": "".join(answer.texts) if last else None,
                    "details": self.details(answer) if last and answer.asked.fields.get("details") else None,
                }
                yield Sent(sse(event, self.data), 1, group[-1])

    def token(self, answer: Answer, at: int) -> dict[str, Any]:
        ended = answer.finish == "stop" and at == len(answer.ids) - 1
        return {"id": answer.ids[at], "text": answer.texts[at], "logprob": 0.0, "special": ended}

    def details(self, answer: Answer) -> dict[str, Any]:
        return {
            "finish_reason": ENDS[answer.finish],
            "generated_tokens": answer.last_count,
            "seed": answer.asked.fields.get("seed"),
            "input_length": answer.prompt_tokens,
        }

    def whole(self, answer: Answer) -> Any:
        said: dict[str, Any] = {"generated_text": "".join(answer.texts)}
        if answer.asked.fields.get("details"):
            tokens = [self.token(answer, i) for i in range(len(answer.ids))]
            details = {k: v for k, v in self.details(answer).items() if k != "input_length"}
            said["details"] = details | {"prefill": [], "tokens": tokens}
        return [said] if answer.asked.fields["route"] == "/" else said

    def too_long(self, asked: Asked, plan: Plan) -> tuple[int, Any]:
        return 200 if asked.stream else 422, refusal(
            f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {plan.context_tokens}. Given: "
            f"{len(asked.prompt)} `inputs` tokens and {asked.output_tokens} `max_new_tokens`",
            "validation",
        )

    def overloaded(self) -> tuple[int, Any]:
        return 200, refusal("Model is overloaded", "overloaded")

    def not_json(self) -> Page:
        why = b"Failed to parse the request body as JSON: key must be a string at line 1 column 2"
        return 400, {"content-type": "text/plain; charset=utf-8"}, why

    def broken(self, message: str) -> Sequence[bytes]:
        return (self.data + dumps(refusal(f"Request failed during generation: {message}", "generation")) + b"\n\n",)

    def log(self, plan: Plan) -> list[str]:
        message = f"Setting max batch total tokens to {plan.kv_tokens}"
        return [dumps({"level": "INFO", "message": message, "target": "text_generation_router_v3"}).decode()]

    def pages(self, plan: Plan, totals: Totals) -> dict[str, Page]:
        info = {
            "model_id": "/model",
            "model_sha": None,
            "model_pipeline_tag": None,
            "max_concurrent_requests": 4096,
            "max_best_of": 2,
            "max_stop_sequences": 4,
            "max_input_tokens": plan.context_tokens - 1,
            "max_total_tokens": plan.context_tokens,
            "validation_workers": 2,
            "max_client_batch_size": 4,
            "router": "text-generation-router",
            "version": plan.version,
            "sha": None,
            "docker_label": None,
        }
        return {
            "/health": (200, {}, b""),
            "/info": json_page(info),
            "/v1/models": json_page({"object": "list", "data": [{"id": "/model", "object": "model"}]}),
            # Nothing at all before the first request.
            "/metrics": (200, {"content-type": "text/plain; charset=utf-8"}, b"")
            if not totals.requests
            else prometheus(
                {
                    "tgi_batch_current_size": ("gauge", "", 0),
                    "tgi_queue_size": ("gauge", "", 0),
                    "tgi_request_count": ("counter", "", totals.requests),
                    "tgi_request_success": ("counter", "", totals.requests),
                    "tgi_batch_inference_count": ("counter", 'method="decode"', totals.output_tokens),
                    "tgi_request_input_length_sum": ("histogram", "", totals.prompt_tokens),
                    "tgi_request_generated_tokens_sum": ("histogram", "", totals.output_tokens),
                }
            ),
        }


DIALECT = Tgi()
