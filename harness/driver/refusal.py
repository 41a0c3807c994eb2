"""Why a server did not do what it was asked, in one line: the status, what it says, and what to do next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from harness.driver.address import without_values
from harness.visible import visible

_READ = 1 << 20  # bytes of an error body that are read as JSON; a longer one is no message
# Keys under which servers and gateways put the reason, the most telling first.
_REASONS = ("message", "detail", "error", "errors", "msg", "error_description", "faultstring", "fault", "title")
_MOVED = (301, 302, 303, 307, 308)
# Status -> what to do.
_NEXT = {
    401: "check the API key",
    403: "check the API key, and what it may use",
    404: "check the URL's path and the model's name",
    405: "this path takes no POST: check the URL's path",
    407: "a proxy asks for a password: give the server's own URL",
    408: "it did not wait for the whole request",
    413: "the request is too large for the server or a gateway before it: shorter inputs, or a higher limit there",
    415: "it takes no JSON here: check the URL's path",
    421: "this server is not that host: check the URL",
    422: "it does not take a field of the request, or its value",
    429: "it allows fewer requests: a lower concurrency or rate",
    500: "see the server's log",
    502: "the server behind the gateway is not ready, or overloaded",
    503: "it is not ready, or overloaded",
    504: "the gateway waited for the server in vain",
}


def refusal(status: int, fields: Mapping[str, str], body: bytes) -> str:
    """One line for an answer that is no success, `HTTP 401: Incorrect API key; check the API key`. `fields`: the
    response's header, names in lower case. Nothing secret of a URL is shown."""
    said = message_in(body, fields.get("content-type", ""))
    if status in _MOVED:
        place = visible(without_values(fields.get("location", "")))
        return f"HTTP {status}: redirected to {place}; give that URL" if place else f"HTTP {status}: {said}"
    wait = visible(fields.get("retry-after", ""), 40)
    parts = (_NEXT.get(status, ""), f"it says to wait {wait}{' s' if wait.isdigit() else ''}" if wait else "")
    return "; ".join((f"HTTP {status}: {said}", *filter(None, parts)))


def message_in(body: bytes, kind: str = "") -> str:
    """The reason in an error body, in one line: the message of JSON in the shapes that servers and gateways use, the
    title of a page, or the text itself. `kind`: its Content-Type."""
    text = body[:_READ].decode(errors="replace").strip()
    if not text:
        return "empty body"
    if "html" in kind.lower() or text[:200].lower().startswith(("<!doctype html", "<html")):
        found = re.search(r"<title[^>]*>([^<]*)", text[:20_000], re.IGNORECASE)
        return f'text/html page titled "{visible(found[1])}"' if found and found[1].strip() else "text/html page"
    try:
        if reason := _reason(msgspec.json.decode(body[: _READ + 1].removeprefix(b"data:").strip())):
            return visible(reason)
    except (ValueError, RecursionError):  # no JSON, or nested without end
        pass
    return visible(text)


def _reason(found: Any, depth: int = 0) -> str:
    """The text in any of the usual shapes; empty if it has none of them."""
    if depth > 4:
        return ""
    if isinstance(found, str):
        return found
    if isinstance(found, list):
        return "; ".join(filter(None, (_reason(one, depth + 1) for one in found[:3])))
    if not isinstance(found, dict):
        return ""
    reason = next((text for key in _REASONS if (text := _reason(found.get(key), depth + 1))), "")
    place = found.get("loc")  # FastAPI: which field
    if reason and isinstance(place, list):
        return f"{'.'.join(str(part) for part in place[:5])}: {reason}"
    return reason
