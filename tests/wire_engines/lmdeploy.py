"""LMDeploy 0.18.0: `/generate`. From lmdeploy/serve/openai/endpoints/generate.py, errors.py and protocol.py; held
against the server itself by tests/test_lmdeploy_server.py."""

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
    prometheus,
    sse,
)

MODEL = {
    "id": "bench",
    "object": "model",
    "created": 1795736733,
    "owned_by": "lmdeploy",
    "root": "bench",
    "parent": None,
    "permission": [
        {
            "id": "modelperm-x9kxSQghgMPCjAZb2bHaUY",
            "object": "model_permission",
            "created": 1795736733,
            **dict.fromkeys(("allow_create_engine", "allow_fine_tuning", "is_blocking"), False),
            **dict.fromkeys(("allow_sampling", "allow_logprobs", "allow_search_indices", "allow_view"), True),
            "organization": "*",
            "group": None,
        }
    ],
}


def refusal(message: str, kind: str = "invalid_request_error", code: int = 400) -> tuple[int, Any]:
    return code, {"message": message, "type": kind, "code": code, "param": None, "object": "error"}


class LmDeploy(WireDialect):
    routes = ("/generate",)
    tells_cached = False
    head_first = True
    quirks = ("events without ids", "broken character at the end")

    def read(self, route: str, body: dict[str, Any], plan: Plan, texts: Texts) -> Asked:
        prompt, given = body.get("prompt"), body.get("input_ids")
        if (prompt is None) == (given is None):
            raise Refused(*refusal("You must specify exactly one of prompt or input_ids"))
        ids = tuple(texts.tokenizer.encode(prompt).ids) if isinstance(prompt, str) else ids_of(given)
        limit = body.get("max_tokens", 128)
        if ids is None or type(limit) is not int or limit < 1:
            raise Refused(*refusal(f"The max_tokens {limit!r} must be a positive integer."))
        # It always samples, at a temperature that it never takes to 0: one candidate is what makes it greedy.
        greedy = body.get("top_k") == 1
        return Asked(ids, limit, bool(body.get("stream")), greedy, bool(body.get("ignore_eos")), body)

    def events(self, answer: Answer) -> Iterator[Sent]:
        quirks = answer.plan.quirks
        told = 0
        for group in answer.groups:
            if "events without ids" in quirks:
                yield Sent(sse(said(answer, "", [], told, None)), 0, group[0])
            told = group[-1] + 1
            event = said(answer, answer.texts_of(group), [answer.ids[i] for i in group], told, None)
            yield Sent(sse(event), len(group), group[-1])
        end = answer.groups[-1][-1]
        rest = "�" if "broken character at the end" in quirks else ""
        yield Sent(
            sse(said(answer, rest, [], answer.last_count, answer.finish)), 0, end
        )  # the count again, without an id
        yield Sent(DONE, 0, end)

    def whole(self, answer: Answer) -> Any:
        return said(answer, "".join(answer.texts), list(answer.ids), len(answer.ids), answer.finish)

    def too_long(self, asked: Asked, plan: Plan) -> tuple[int, Any]:
        return refusal(
            f"Input length ({len(asked.prompt)}) must be smaller than the model context length ({plan.context_tokens})."
        )

    def overloaded(self) -> tuple[int, Any]:
        # It queues without a bound; this is what it says when its engine sleeps or has gone.
        return refusal("The inference engine is unavailable.", "server_error", 503)

    def broken(self, message: str) -> Sequence[bytes]:
        return sse({"error": refusal(message, "server_error", 500)[1]}), DONE

    def pages(self, plan: Plan, totals: Totals) -> dict[str, Page]:
        labels = 'engine="0",model_name="bench"'
        return {
            "/health": json_page({"status": "healthy", "message": "TurboMind engine is healthy."}),
            "/v1/models": json_page({"object": "list", "data": [MODEL]}),
            "/metrics": prometheus(
                {
                    "lmdeploy:num_requests_running": ("gauge", labels, 0),
                    "lmdeploy:gpu_cache_usage_perc": ("gauge", labels, 0),
                    "lmdeploy:prefix_cache_hit_rate": ("gauge", labels, 0),
                    "lmdeploy:prompt_tokens_total": ("counter", labels, totals.prompt_tokens),
                    "lmdeploy:generation_tokens_total": ("counter", labels, totals.output_tokens),
                    "lmdeploy:cached_tokens_total": ("counter", labels, totals.cached_tokens),
                    "lmdeploy:request_success_total": (
                        "counter",
                        'engine="0",finished_reason="ResponseType.FINISH",model_name="bench"',
                        totals.requests,
                    ),
                }
            ),
        }


def said(answer: Answer, text: str, ids: list[int], told: int, finish: str | None) -> dict[str, Any]:
    meta = {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": told,
        "finish_reason": {"type": finish} if finish else None,
        "output_token_logprobs": None,
        "input_token_logprobs": None,
        "output_top_logprobs": None,
        "input_top_logprobs": None,
        "routed_experts": None,
    }
    return {"text": text, "output_ids": ids, "meta_info": meta}


DIALECT = LmDeploy()
