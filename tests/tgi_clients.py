"""Asks a TGI server with one of its two public clients and prints what the client made of the answers.

Run by the Python of an environment that has the client: `python tests/tgi_clients.py text_generation`. Standard input
has a JSON list of (address, prompt, tokens, whether to stream); standard output gets a list of answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

Question = tuple[str, str, int, bool]  # address, prompt, tokens, whether to stream


def with_huggingface_hub(url: str, prompt: str, tokens: int, stream: bool) -> Any:
    from huggingface_hub import InferenceClient

    with InferenceClient(url, timeout=20) as client:  # a stream ends with its client
        found = client.text_generation(prompt, details=True, stream=stream, max_new_tokens=tokens, do_sample=False)
        return [asdict(event) for event in found] if stream else asdict(found)


def with_text_generation(url: str, prompt: str, tokens: int, stream: bool) -> Any:
    from text_generation import Client

    client = Client(url, timeout=20)
    if stream:
        return [event.model_dump() for event in client.generate_stream(prompt, max_new_tokens=tokens)]
    return client.generate(prompt, max_new_tokens=tokens).model_dump()


CLIENTS: dict[str, Callable[[str, str, int, bool], Any]] = {
    "huggingface_hub": with_huggingface_hub,
    "text_generation": with_text_generation,
}


def answers(client: str, questions: Iterable[Sequence[Any]]) -> list[Any]:
    """What the client returns for each question, or the kind and the text of what it raises."""
    found = []
    for question in questions:
        try:
            found.append(CLIENTS[client](*question))
        except Exception as problem:
            found.append({"raised": type(problem).__name__, "message": str(problem)})
    return found


if __name__ == "__main__":
    # Plain JSON: finish reasons are enumerations there.
    print(json.dumps(answers(sys.argv[1], json.load(sys.stdin)), default=str))
