"""llama.cpp's server b11434: `/completion`. From tools/server/server-context.cpp, server-schema.cpp and a
recording."""

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
    ids_of,
    json_page,
    likely,
    prometheus,
    sse,
)

LENGTH_NAMES = ("n_predict", "max_tokens", "max_completion_tokens")
ENDS = {"length": "limit", "stop": "eos"}


def refusal(message: str, kind: str = "invalid_request_error", code: int = 400, **more: int) -> tuple[int, Any]:
    return code, {"error": {"code": code, "message": message, "type": kind, **more}}


def probable(token: int, value: float) -> dict[str, Any]:
    return {"id": token, "token": str(token), "bytes": [], "logprob": value}


class LlamaCpp(WireDialect):
    routes = ("/completion",)
    can_group = False
    commit = "1f2e3d4c"
    head = (
        b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=100\r\nContent-Type: text/event-stream\r\n"
        b"Server: llama.cpp\r\nTransfer-Encoding: chunked\r\nAccess-Control-Allow-Origin: \r\n\r\n"
    )
    head_first = True

    def read(self, route: str, body: dict[str, Any], plan: Plan, texts: Texts) -> Asked:
        prompt = body.get("prompt")
        ids = tuple(texts.tokenizer.encode(prompt).ids) if isinstance(prompt, str) else ids_of(prompt)
        if ids is None:
            raise Refused(*refusal('"prompt" must be a string, a list of tokens, or a list of those'))
        limit = next((body[name] for name in LENGTH_NAMES if name in body), -1)
        limit = plan.context_tokens if limit < 0 else limit  # endless but for the context
        greedy = body.get("temperature", 0.8) <= 0
        return Asked(ids, limit, bool(body.get("stream")), greedy, bool(body.get("ignore_eos")), body)

    def events(self, answer: Answer) -> Iterator[Sent]:
        told = 0
        for group in answer.groups:
            for i in group:
                if not answer.texts[i]:
                    continue  # nothing is said of a token that leaves a character incomplete
                event = {
                    "index": 0,
                    "content": answer.texts[i],
                    "tokens": self.ids(answer, range(i, i + 1)),
                    "stop": False,
                    "id_slot": -1,
                    "tokens_predicted": i + 1,
                    "tokens_evaluated": answer.prompt_tokens,
                }
                yield Sent(sse(event), i + 1 - told, group[-1])
                told = i + 1
        final = self.final(answer, "", [])
        yield Sent(sse(final), len(answer.ids) - told, answer.groups[-1][-1])

    def ids(self, answer: Answer, group: range) -> list[int]:
        return [answer.ids[i] for i in group] if answer.asked.fields.get("return_tokens") else []

    def final(self, answer: Answer, content: str, ids: list[int]) -> dict[str, Any]:
        predicted = len(answer.ids)
        asked = answer.asked
        everything = {
            "index": 0,
            "content": content,
            "tokens": ids,
            "id_slot": -1,
            "stop": True,
            "model": "bench",
            "tokens_predicted": answer.last_count,
            "tokens_evaluated": answer.prompt_tokens,
            "generation_settings": {"seed": 0, "temperature": 0.0},
            "prompt": " ".join(map(str, asked.prompt)),
            "has_new_line": False,
            "truncated": predicted < asked.output_tokens and answer.finish == "length",
            "stop_type": ENDS[answer.finish],
            "stopping_word": "",
            "tokens_cached": answer.prompt_tokens + predicted - 1,
            "timings": {
                "cache_n": answer.cached_tokens,
                "prompt_n": answer.prompt_tokens - answer.cached_tokens,
                "prompt_ms": 1.0,
                "prompt_per_token_ms": 0.25,
                "prompt_per_second": 4000.0,
                "predicted_n": predicted,
                "predicted_ms": 3.0,
                "predicted_per_token_ms": 1.0,
                "predicted_per_second": 1000.0,
            },
        }
        if wanted := asked.fields.get("response_fields"):
            return {name: everything[name] for name in wanted if name in everything}
        return everything

    def whole(self, answer: Answer) -> Any:
        found = self.final(answer, "".join(answer.texts), self.ids(answer, range(len(answer.ids))))
        if most := answer.asked.fields.get("n_probs"):
            found["completion_probabilities"] = [
                {**probable(*step[0]), "top_logprobs": [probable(*one) for one in step]}
                for step in likely(answer, most)
            ]
        return found

    def too_long(self, asked: Asked, plan: Plan) -> tuple[int, Any]:
        return refusal(
            f"request ({len(asked.prompt)} tokens) exceeds the available context size ({plan.context_tokens} tokens), "
            "try increasing it",
            "exceed_context_size_error",
            n_prompt_tokens=len(asked.prompt),
            n_ctx=plan.context_tokens,
        )

    def overloaded(self) -> tuple[int, Any]:
        # It queues without a bound; this is a shared pool of keys and values that is used up.
        return refusal("Context size has been exceeded.", "server_error", 500)

    def broken(self, message: str) -> Sequence[bytes]:
        return (sse(refusal(message, "server_error", 500)[1]),)  # and no word of an end

    def log(self, plan: Plan) -> list[str]:
        return [f"0.00.125.598 I cmn          init: llama threadpool init, n_threads = {plan.threads}"]

    def loading(self) -> Page:
        code, said = refusal("Loading model", "unavailable_error", 503)
        return json_page(said, code)

    def pages(self, plan: Plan, totals: Totals) -> dict[str, Page]:
        def counter(value: float) -> tuple[str, str, float]:
            return "counter", "", value

        return {
            "/health": json_page({"status": "ok"}),
            "/props": json_page(
                {
                    "default_generation_settings": {"n_ctx": plan.context_tokens, "params": {}},
                    "total_slots": plan.concurrent_sequences,
                    "model_path": "/models/model-bf16.gguf",
                    "build_info": f"{plan.version}-{self.commit}",
                }
            ),
            "/v1/models": json_page({"object": "list", "data": [{"id": "bench", "object": "model"}]}),
            "/metrics": prometheus(
                {
                    "llamacpp:prompt_tokens_total": counter(totals.prompt_tokens - totals.cached_tokens),
                    "llamacpp:prompt_tokens_cached_total": counter(totals.cached_tokens),
                    "llamacpp:prompt_seconds_total": counter(0.1),
                    "llamacpp:tokens_predicted_total": counter(totals.output_tokens),
                    "llamacpp:n_decode_total": counter(totals.output_tokens),
                    "llamacpp:n_tokens_max": counter(9),
                    "llamacpp:requests_processing": ("gauge", "", 0),
                    "llamacpp:requests_deferred": ("gauge", "", 0),
                }
            ),
        }


DIALECT = LlamaCpp()
