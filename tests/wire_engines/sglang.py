"""SGLang 0.5.23: its native `/generate`. From sglang/srt/entrypoints/http_server.py,
managers/tokenizer_manager.py (how chunks are made of outputs, and merged), sampling/sampling_params.py,
managers/schedule_batch.py (how a stream ends) and sglang/api/v1/api_types.py (what is refused), read in the wheel;
events as it sent them on a CPU on 2026-11-26."""

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

# What is not among these is refused; of the request itself, unknown fields are ignored.
SAMPLING = (
    "max_new_tokens stop stop_token_ids stop_regex temperature top_p top_k min_p frequency_penalty presence_penalty "
    "repetition_penalty min_new_tokens n json_schema regex ebnf structural_tag ignore_eos skip_special_tokens "
    "spaces_between_special_tokens no_stop_trim stream_interval logit_bias sampling_seed custom_params beam_width "
    "watermark choice"
)


def refusal(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": 400, "retryable": False}}


class SGLang(WireDialect):
    routes = ("/generate",)
    overlong = "refused"
    head_first = True
    misstarts = ("cumulative",)  # without --incremental-streaming-output: events repeat all that went before

    def read(self, route: str, body: dict[str, Any], plan: Plan, texts: Texts) -> Asked:
        sampling = body.get("sampling_params") or {}
        if unknown := sorted(set(sampling) - {*SAMPLING.split()}):
            raise Refused(400, {"error": f"unknown field `{unknown[0]}`, expected one of `max_new_tokens`, ..."})
        text, given = body.get("text"), body.get("input_ids")
        ids = tuple(texts.tokenizer.encode(text).ids) if isinstance(text, str) else ids_of(given)
        stream = bool(body.get("stream"))
        if ids is None or (text is None) == (given is None):
            raise Refused(200 if stream else 400, refusal("Either text, input_ids or input_embeds should be provided."))
        limit = sampling.get("max_new_tokens", 128)
        greedy = sampling.get("temperature", 1.0) == 0 or sampling.get("top_k") == 1
        runs_on = bool(sampling.get("ignore_eos")) or sampling.get("min_new_tokens", 0) >= limit
        return Asked(ids, limit, stream, greedy, runs_on, body)

    def events(self, answer: Answer) -> Iterator[Sent]:
        whole = "cumulative" in answer.plan.quirks
        for at, group in enumerate(answer.groups):
            last = at == len(answer.groups) - 1
            shown = range(group[-1] + 1) if whole else group
            event = self.said(answer, shown, group[-1] + 1, answer.finish if last else None)
            yield Sent(sse(event), len(group), group[-1])
        yield Sent(DONE, 0, answer.groups[-1][-1])

    def said(self, answer: Answer, shown: range, told: int, finish: str | None) -> dict[str, Any]:
        reason = {"length": {"type": "length", "length": told}, "stop": {"type": "stop", "matched": 1}}
        meta: dict[str, Any] = {
            "id": "45a7a3f8d4ab4b7f8f7f8d1b2a3c4d5e",
            "finish_reason": reason[finish] if finish else None,
            "prompt_tokens": answer.prompt_tokens,
            "weight_version": "default",
            "num_retractions": 0,
            "storage_prefetch_wait": 0.0,
            "storage_staging_wait": 0.0,
            "forward_entry_time": 1795724578.2270095,
            "prefill_finished_time": 1795724578.2638881,
            "queue_time": 0.0002,
            "reasoning_tokens": 0,
            "completion_tokens": answer.last_count if finish else told,
            "cached_tokens": answer.cached_tokens,
            "cached_tokens_details": None,
            "dp_rank": None,
        }
        if finish or told == len(shown):  # in the first event and in the last
            meta["response_sent_to_client_ts"] = 1795724578.2801127
        if finish:
            meta |= {
                "weight_versions": [{"version": "default", "start": 0, "end": told}],
                "e2e_latency": 0.1,
                "request_received_ts": 1795724578.2243512,
                "first_token_latency": 0.05,
                "api_server_dispatch_finish_ts": 1795724578.2263827,
                "request_finished_ts": 1795724578.5908465,
                "decode_throughput": 73.8,
            }
        return {"text": answer.texts_of(shown), "output_ids": [answer.ids[i] for i in shown], "meta_info": meta}

    def whole(self, answer: Answer) -> Any:
        found = self.said(answer, range(len(answer.ids)), len(answer.ids), answer.finish)
        if answer.asked.fields.get("return_logprob"):
            most = int(answer.asked.fields.get("top_logprobs_num", 0))
            steps = likely(answer, most)
            found["meta_info"]["output_top_logprobs"] = [[[value, token, None] for token, value in s] for s in steps]
        return found

    def too_long(self, asked: Asked, plan: Plan) -> tuple[int, Any]:
        prompt, context = len(asked.prompt), plan.context_tokens
        if prompt >= context:
            message = f"The input ({prompt} tokens) is longer than the model's context length ({context} tokens)."
        else:
            message = (
                f"Requested token count exceeds the model's maximum context length of {context} tokens. You requested "
                f"a total of {prompt + asked.output_tokens} tokens."
            )
        return 200 if asked.stream else 400, refusal(message)

    def overloaded(self) -> tuple[int, Any]:
        return 200, aborted("The request queue is full.", 503)

    def broken(self, message: str) -> Sequence[bytes]:
        return sse(aborted(message, 500)), DONE

    def pages(self, plan: Plan, totals: Totals) -> dict[str, Page]:
        labels = 'model_name="bench",engine_type="unified",tp_rank="0",pp_rank="0",moe_ep_rank="0"'
        kind = f'{labels},is_streaming="True"'
        return {
            "/health": (200, {}, b""),
            "/ready": (200, {}, b""),
            "/model_info": json_page({"model_path": "/model", "served_model_name": "bench", "is_generation": True}),
            "/server_info": json_page(
                {
                    "model_path": "/model",
                    # A request can use all but the last 2 tokens of context and cache.
                    "context_length": plan.context_tokens + 2,
                    "chunked_prefill_size": plan.batched_tokens,
                    "max_prefill_tokens": 16384,
                    "max_total_num_tokens": plan.kv_tokens + 2,
                    "max_req_input_len": plan.context_tokens - 4,
                    "internal_states": [
                        {"effective_max_running_requests_per_dp": plan.concurrent_sequences, "world_size": 1}
                    ],
                    "version": plan.version,
                    "frontend": "python",
                }
            ),
            "/v1/models": json_page(
                {"object": "list", "data": [{"id": "bench", "root": "bench", "max_model_len": plan.context_tokens + 2}]}
            ),
            "/metrics": prometheus(
                {
                    "sglang:num_running_reqs": ("gauge", labels, 0),
                    "sglang:token_usage": ("gauge", labels, 0),
                    "sglang:cache_hit_rate": ("gauge", labels, 0),
                    "sglang:num_retracted_reqs": ("gauge", labels, 0),
                    "sglang:num_retracted_requests_total": ("counter", labels, 0),
                    "sglang:prompt_tokens_total": ("counter", kind, totals.prompt_tokens),
                    "sglang:generation_tokens_total": ("counter", kind, totals.output_tokens),
                    "sglang:cached_tokens_total": ("counter", f'{labels},cache_source="device"', totals.cached_tokens),
                    "sglang:num_requests_total": ("counter", kind, totals.requests),
                }
            ),
        }


def aborted(message: str, status: int) -> dict[str, Any]:
    """A request that the scheduler gives up: an event like any other, but for its reason."""
    reason = {"type": "abort", "message": message, "status_code": status, "err_type": None}
    meta = {"id": "45", "finish_reason": reason, "prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0}
    return {"text": "", "output_ids": [], "meta_info": meta}


DIALECT = SGLang()
