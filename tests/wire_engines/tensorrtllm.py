"""TensorRT-LLM's trtllm-serve 1.2.1: `/v1/completions`. From tensorrt_llm/serve/openai_protocol.py and
openai_server.py, and tensorrt_llm/sampling_params.py."""

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

# Everything else is a 400: its models are declared with extra="forbid".
SCHEMA = (
    "model prompt best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed stop stream "
    "stream_options temperature top_p user lora_request prompt_ignore_length use_beam_search top_k top_p_min min_p "
    "repetition_penalty length_penalty early_stopping stop_token_ids include_stop_str_in_output ignore_eos min_tokens "
    "skip_special_tokens spaces_between_special_tokens truncate_prompt_tokens return_context_logits detokenize "
    "add_special_tokens response_format disaggregated_params"
)


def refusal(message: str) -> tuple[int, Any]:
    return 400, {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}


class TensorRtLlm(WireDialect):
    routes = ("/v1/completions",)
    head_first = True
    quirks = ("done twice", "empty events", "space before the blank line")

    def read(self, route: str, body: dict[str, Any], plan: Plan, texts: Texts) -> Asked:
        if unknown := sorted(set(body) - {*SCHEMA.split()}):
            raise Refused(*refusal(f"[{{'type': 'extra_forbidden', 'loc': ('body', '{unknown[0]}')}}]"))
        if not isinstance(body.get("model"), str):
            raise Refused(*refusal("[{'type': 'missing', 'loc': ('body', 'model'), 'msg': 'Field required'}]"))
        prompt, limit = body.get("prompt"), body.get("max_tokens")
        ids = tuple(texts.tokenizer.encode(prompt).ids) if isinstance(prompt, str) else ids_of(prompt)
        if ids is None:
            raise Refused(*refusal("[{'type': 'list_type', 'loc': ('body', 'prompt')}]"))
        stream = body.get("stream") or False
        if body.get("stream_options") is not None and not stream:
            raise Refused(*refusal("Stream options can only be defined when `stream=True`."))
        # Until releases that take temperature 0 for greedy, only the other two were; both rules must be met.
        imply = body.get("temperature") == 0 or body.get("top_k") == 1 or body.get("top_p") == 0
        old = body.get("top_k") == 1 or body.get("top_p") == 0
        limit = plan.context_tokens - len(ids) if limit is None else limit
        return Asked(ids, limit, stream, imply and old, bool(body.get("ignore_eos")), body)

    def events(self, answer: Answer) -> Iterator[Sent]:
        options, quirks = answer.asked.fields.get("stream_options"), answer.plan.quirks
        with_usage = options is not None and options.get("include_usage", True)
        running = with_usage and bool((options or {}).get("continuous_usage_stats"))
        blank = b" \n\n" if "space before the blank line" in quirks else b"\n\n"
        told = 0
        for at, group in enumerate(answer.groups):
            last = at == len(answer.groups) - 1
            texts, ids = answer.texts_of(group), [answer.ids[i] for i in group]
            if "empty events" in quirks:
                # A delta without a token: ready before them, or behind a token held back.
                yield Sent(sse(self.event(answer, "", [], None, told, running), end=blank), 0, group[0])
            told += len(group)
            event = self.event(answer, texts, ids, answer.finish if last else None, told, running)
            yield Sent(sse(event, end=blank), len(group), group[-1])
        end = answer.groups[-1][-1]
        if with_usage:
            yield Sent(sse(envelope([]) | {"usage": usage(answer, answer.last_count)}), 0, end)
        for _ in range(2 if "done twice" in quirks else 1):
            yield Sent(DONE, 0, end)

    def event(
        self, answer: Answer, text: str, ids: list[int], finish: str | None, told: int, running: bool
    ) -> dict[str, Any]:
        return envelope([choice(answer, text, ids, finish)]) | {"usage": usage(answer, told) if running else None}

    def whole(self, answer: Answer) -> Any:
        made = choice(answer, "".join(answer.texts), list(answer.ids), answer.finish)
        return envelope([made | {"context_logits": None}]) | {"usage": usage(answer, len(answer.ids))}

    def too_long(self, asked: Asked, plan: Plan) -> tuple[int, Any]:
        left = plan.context_tokens - len(asked.prompt)
        return refusal(f"`default_max_tokens` ({left}) must be greater than 0")

    def overloaded(self) -> tuple[int, Any]:
        # It queues without a bound: what its users meet in its place is an executor that died.
        return refusal("Executor worker returned error")

    def broken(self, message: str) -> Sequence[bytes]:
        return sse({"error": {"message": message, "type": "server_error"}}), DONE, DONE

    def loading(self) -> Page:
        """Of builds newer than 1.2, which listen before they are ready."""
        error = {"message": "Server is starting", "type": "ServiceUnavailableError", "code": "starting"}
        return json_page({"error": error}, 503, {"x-trtllm-server-state": "starting", "retry-after": "1"})

    def log(self, plan: Plan) -> list[str]:
        """It sizes its cache for a trial first. As logged by builds of 2025-12."""
        kv = "[TensorRT-LLM][INFO] [MemUsageChange] Allocated 0.56 GiB for max tokens in paged KV cache ({})."
        sizes = (
            f"max_seq_len={plan.context_tokens}, max_num_requests={plan.concurrent_sequences}, "
            f"max_num_tokens={plan.batched_tokens}, max_batch_size={plan.concurrent_sequences}"
        )
        begun = "[12/20/2025-04:21:10] [TRT-LLM] [I]"
        return [kv.format(8224), f"{begun} {sizes}", kv.format(plan.kv_tokens), f"{begun} {sizes}"]

    def pages(self, plan: Plan, totals: Totals) -> dict[str, Page]:
        labels = 'model_name="bench",engine_type="undefined"'
        stats = {"iter": 1, "numActiveRequests": 0, "numQueuedRequests": 0}
        return {
            "/health": (200, {}, b""),
            "/version": json_page({"version": plan.version}),
            "/v1/models": json_page({"object": "list", "data": [{"id": "bench", "owned_by": "tensorrt_llm"}]}),
            "/metrics": json_page([stats]),  # not Prometheus
            "/prometheus/metrics": prometheus(
                {
                    "trtllm_request_success_total": (
                        "counter",
                        f'{labels},finished_reason="length"',
                        totals.requests,
                    ),
                    "trtllm_time_to_first_token_seconds_sum": ("histogram", labels, 0.1),
                    "trtllm_kv_cache_hit_rate": ("gauge", labels, 0),
                    "trtllm_kv_cache_utilization": ("gauge", labels, 0),
                    "trtllm_prompt_tokens_total": ("counter", labels, totals.prompt_tokens),
                    "trtllm_prompt_cached_tokens_total": ("counter", labels, totals.cached_tokens),
                    "trtllm_num_paused_requests": ("gauge", labels, 0),
                }
            ),
        }


def choice(answer: Answer, text: str, ids: list[int], finish: str | None) -> dict[str, Any]:
    plain = answer.asked.fields.get("detokenize") is False
    return {
        "index": 0,
        "text": "" if plain else text,
        "token_ids": ids if plain else None,
        "logprobs": None,
        "finish_reason": finish,
        "stop_reason": None,
        "disaggregated_params": None,
        "avg_decoded_tokens_per_iter": None,
    }


def envelope(choices: list[Any]) -> dict[str, Any]:
    return {"id": "cmpl-f1", "object": "text_completion", "created": 1795223004, "model": "bench", "choices": choices}


def usage(answer: Answer, tokens: int) -> dict[str, Any]:
    prompt = answer.prompt_tokens
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + tokens,
        "completion_tokens": tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
    }


DIALECT = TensorRtLlm()
