"""The text of a few answers, to be read by people. Counts and times never depend on it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.decode.body import Body, Malformed, body_of
from harness.decode.events import Events
from harness.driver.spool import Read


def text_of(reads: Sequence[Read]) -> str:
    """The text that the events of a response carry, in whichever shape of those that engines use; what cannot be read
    is left out."""
    return "".join(map(said, _payloads(reads)))


def _payloads(reads: Sequence[Read]) -> Iterator[bytes]:
    events = Events()
    try:
        head, pieces = body_of(reads)
        if head is None or head.status != 200:
            return
        body, at = Body(head), 0
        for data, at in pieces:
            yield from (payload for payload, *_ in events.feed(body.feed(data), at))
        yield from (payload for payload, *_ in events.close(at))
    except Malformed:
        return


def said(payload: bytes) -> str:
    """The new text of one event: a completion's, a chat's (what a model reasons first counts), or that of an
    engine's own route."""
    try:
        event = json.loads(payload.decode(errors="replace"), strict=False)
    except (ValueError, RecursionError):  # [DONE] is none
        return ""
    if not isinstance(event, Mapping):
        return ""
    choices = event.get("choices")
    if isinstance(choices, list):
        choice = _mapping(choices[0]) if choices else {}
        delta = _mapping(choice.get("delta")) or _mapping(choice.get("message"))  # of a whole answer
        return _text(choice, "text") or _text(delta, "content") or _text(delta, "reasoning_content", "reasoning")
    return _text(_mapping(event.get("token")), "text") or _text(event, "content", "text", "generated_text")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(of: Mapping[str, Any], *names: str) -> str:
    return next((found for name in names if isinstance(found := of.get(name), str) and found), "")
