"""vLLM 0.32/0.33: `/v1/completions`. From vllm/entrypoints/openai/completion/serving.py and a recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from harness.model.tokenizer import Texts
from tests.wire_engines.dialect import (
    DONE,
    Answer,
    Asked,
    Page,
    Plan,
    Refused,
    Sent,
    Totals,
    WireDialect,
    ids_of,
    json_page,
    likely,
    prometheus,
    sse,
)


def refusal(message: str, kind: str = "BadRequestError", code: int = 400) -> tuple[int, Any]:
    return code, {"error": {"message": message, "type": kind, "param": None, "code": code}}


class Vllm(WireDialect):
    routes = ("/v1/completions",)
    head = (
        b"HTTP/1.1 200 OK\r\ndate: Sat, 21 Nov 2026 06:00:00 GMT\r\nserver: uvicorn\r\n"
        b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    # As before continuous_usage_stats; the fields that 0.33 added to every event, which are null unless asked for.
    quirks = ("usage only at the end", "fields of 0.33")

    def read(self, route: str, body: dict[str, Any], plan: Plan, texts: Texts) -> Asked:
        if body.get("model", "bench") != "bench":
            raise Refused(*refusal("The model does not exist.", "NotFoundError", 404))
        prompt = body.get("prompt")
        ids = tuple(texts.tokenizer.encode(prompt).ids) if isinstance(prompt, str) else ids_of(prompt)
        limit = body.get("max_tokens", 16)
        if ids is None or type(limit) is not int or limit < 1:
            raise Refused(*refusal("prompt and max_tokens must be given and of their types"))
        stream = body.get("stream", False)
        if body.get("stream_options") is not None and not stream:
            raise Refused(*refusal("Stream options can only be defined when `stream=True`."))
        if limit > plan.context_tokens:
            raise Refused(*refusal(f"max_tokens is too large: {limit}"))
        greedy = body.get("temperature", 1.0) == 0
        runs_on = bool(body.get("ignore_eos")) or body.get("min_tokens", 0) >= limit
        return Asked(ids, limit, stream, greedy, runs_on, body)

    def events(self, answer: Answer) -> Iterator[Sent]:
        fields, plan = answer.asked.fields, answer.plan
        options = fields.get("stream_options") or {}
        running = options.get("include_usage") and options.get("continuous_usage_stats")
        for at, group in enumerate(answer.groups):
            last = at == len(answer.groups) - 1
            choice: dict[str, Any] = {
                "index": 0,
                "text": answer.texts_of(group),
                "logprobs": None,
                "finish_reason": answer.finish if last else None,
                "stop_reason": None,
            }
            if fields.get("return_token_ids"):
                choice["prompt_token_ids"] = list(answer.asked.prompt) if at == 0 else None
                choice["token_ids"] = [answer.ids[i] for i in group]
            event = envelope([choice])
            if running:
                early = "usage only at the end" in plan.quirks
                event["usage"] = None if early else usage(answer, group[-1] + 1)
            if "fields of 0.33" in plan.quirks:
                choice["weight_versions"] = event["kv_transfer_params"] = None
            yield Sent(sse(event), len(group), group[-1])
        end = answer.groups[-1][-1]
        if options.get("include_usage"):
            details = {"prompt_tokens_details": {"cached_tokens": answer.cached_tokens}}
            final = envelope([]) | {"usage": usage(answer, answer.last_count) | details}
            yield Sent(sse(final | {"system_fingerprint": f"vllm-{plan.version}-4c4459b0"}), 0, end)
        yield Sent(DONE, 0, end)

    def whole(self, answer: Answer) -> Any:
        choice: dict[str, Any] = {
            "index": 0,
            "text": "".join(answer.texts),
            "logprobs": None,
            "finish_reason": answer.finish,
            "stop_reason": None,
            "token_ids": None,
            "prompt_logprobs": None,
            "prompt_token_ids": None,
        }
        if answer.asked.fields.get("return_token_ids"):
            choice |= {"token_ids": list(answer.ids), "prompt_token_ids": list(answer.asked.prompt)}
        if most := answer.asked.fields.get("logprobs"):
            named = "token_id:{}".format if answer.asked.fields.get("return_tokens_as_token_ids") else chr
            steps = [{named(token): value for token, value in step} for step in likely(answer, most)]
            first = [max(step.values()) for step in steps]
            choice["logprobs"] = {"tokens": list(map(str, answer.ids)), "token_logprobs": first, "top_logprobs": steps}
        return envelope([choice]) | {"usage": usage(answer, len(answer.ids))}

    def too_long(self, asked: Asked, plan: Plan) -> tuple[int, Any]:
        return refusal(
            f"This model's maximum context length is {plan.context_tokens} tokens. However, your request has "
            f"{len(asked.prompt)} input tokens. Please reduce the length of the input messages."
        )

    def overloaded(self) -> tuple[int, Any]:
        return refusal("The request queue is full.", "ServiceUnavailableError", 503)

    def broken(self, message: str) -> Sequence[bytes]:
        return sse(refusal(message, "InternalServerError", 500)[1]), DONE

    def log(self, plan: Plan) -> list[str]:
        return [
            f"(EngineCore pid=29708) INFO 11-21 00:41:22 [kv_cache_utils.py:2327] CPU KV cache size: "
            f"{plan.kv_tokens:,} tokens, Maximum concurrency for {plan.context_tokens:,} tokens per request: 16.00x"
        ]

    def pages(self, plan: Plan, totals: Totals) -> dict[str, Page]:
        labels = 'engine="0",model_name="bench"'

        def counter(value: float) -> tuple[str, str, float]:
            return "counter", labels, value

        return {
            "/health": (200, {}, b""),
            "/version": json_page({"version": plan.version}),
            "/v1/models": json_page(
                {"object": "list", "data": [{"id": "bench", "max_model_len": plan.context_tokens}]}
            ),
            "/metrics": prometheus(
                {
                    "vllm:num_requests_running": ("gauge", labels, 0),
                    "vllm:kv_cache_usage_perc": ("gauge", labels, 0.0),
                    "vllm:num_preemptions_total": counter(0),
                    "vllm:prefix_cache_queries_total": counter(totals.prompt_tokens),
                    "vllm:prefix_cache_hits_total": counter(totals.cached_tokens),
                    "vllm:prompt_tokens_total": counter(totals.prompt_tokens),
                    "vllm:prompt_tokens_cached_total": counter(totals.cached_tokens),
                    "vllm:generation_tokens_total": counter(totals.output_tokens),
                    "vllm:request_success_total": ("counter", f'{labels},finished_reason="length"', totals.requests),
                }
            ),
        }


def envelope(choices: list[Any]) -> dict[str, Any]:
    return {
        "id": "cmpl-8aa643192458f23d",
        "object": "text_completion",
        "created": 1795223004,
        "model": "bench",
        "choices": choices,
    }


def usage(answer: Answer, tokens: int) -> dict[str, Any]:
    prompt = answer.prompt_tokens
    return {"prompt_tokens": prompt, "total_tokens": prompt + tokens, "completion_tokens": tokens}


DIALECT = Vllm()
