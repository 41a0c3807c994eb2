"""Reads the head of an HTTP/1.x response: status, fields, and where its body ends (RFC 9112).

The driver and the decoder both use this reader, so they agree on where a response ends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.visible import visible

HEAD_LIMIT_BYTES = 1 << 18  # no server sends longer heads; without a limit an endless one would fill the memory
_END = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/(1)\.([0-9])[ \t]+([1-9][0-9]{2})(?:[ \t]|$)", re.IGNORECASE)
_PLAIN = ("", "identity")  # codings that change nothing


@dataclass(frozen=True, slots=True)
class Head:
    """`status` is None if these bytes are no HTTP/1.x response. `fields`: lower-case names, values of one name joined
    by a comma. `length`: bytes of the body, None if it ends otherwise; `until_close`: it ends with the connection.
    `codings`: what the body is compressed with. `problem`: why the body's end is not known."""

    status: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False
    length: int | None = None
    until_close: bool = False
    reusable: bool = False  # the connection may carry another request afterwards
    codings: tuple[str, ...] = ()
    problem: str | None = None


class HeadReader:
    """Finds the head in bytes that may be split anywhere. Interim responses (100 Continue, 103 Early Hints) before it
    are passed over."""

    __slots__ = ("head", "pending")

    def __init__(self) -> None:
        self.head: Head | None = None
        self.pending = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Returns what comes after the head; `head` is None until it is complete."""
        seen = max(0, len(self.pending) - 3)
        self.pending += data
        while self.head is None:
            end = _END.search(self.pending, seen)
            if end is None:
                if self._hopeless():
                    self.head = Head()
                break
            head = read_head(bytes(self.pending[: end.start()]))
            if head.status is None:
                self.head = head
                break  # what it was is in `pending`
            del self.pending[: end.end()]
            seen = 0
            if head.status >= 200 or head.status == 101:  # 101 is final: nothing of HTTP follows it
                self.head = head
                rest, self.pending = bytes(self.pending), bytearray()
                return rest
        return b""

    def _hopeless(self) -> bool:
        """Whether no more bytes can make this a head: another protocol, or too long."""
        if len(self.pending) > HEAD_LIMIT_BYTES:
            return True
        return not b"HTTP/1.".startswith(bytes(self.pending[:7]).upper())


def read_head(data: bytes) -> Head:
    """The head in `data`, without the blank line after it."""
    lines = data.split(b"\n")
    found = _STATUS_LINE.match(lines[0].rstrip(b"\r"))
    if found is None:
        return Head()
    status, old, fields = int(found[3]), found[2] == b"0", _fields(lines[1:])
    transfer, encoding = _list(fields, "transfer-encoding"), _list(fields, "content-encoding")
    chunked = bool(transfer) and transfer[-1] == "chunked"
    compressed = [one for one in transfer if one != "chunked"]
    length, problem = None, None
    bare = status in (101, 204, 304)  # these have no body, whatever the fields say
    if bare:
        length, chunked = 0, False
    elif not chunked and not compressed:  # with a transfer coding, Content-Length does not count
        length, problem = _length(fields)
    asked = _list(fields, "connection")
    kept = "close" not in asked and (not old or "keep-alive" in asked)
    until_close = not chunked and length is None and problem is None
    return Head(
        status=status,
        fields=fields,
        chunked=chunked,
        length=length,
        until_close=until_close,
        reusable=kept and not until_close and problem is None and status != 101,
        codings=tuple(encoding + compressed),
        problem=problem,
    )


def _fields(lines: list[bytes]) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in lines:
        if line[:1] in (b" ", b"\t"):  # a folded line continues the field before it
            if name:
                fields[name] = f"{fields[name]} {line.strip().decode(errors='replace')}".strip()
            continue
        before, colon, after = line.partition(b":")
        name = before.strip().decode("latin-1").lower() if colon else ""
        if name:
            value = after.strip().decode(errors="replace")
            fields[name] = f"{fields[name]},{value}" if name in fields else value
    return fields


def _list(fields: Mapping[str, str], name: str) -> list[str]:
    """The words of a field that holds a list, without their parameters."""
    words = fields.get(name, "").lower().split(",")
    return [word for one in words if (word := one.partition(";")[0].strip()) not in _PLAIN]


def _length(fields: Mapping[str, str]) -> tuple[int | None, str | None]:
    """Bytes by Content-Length, None without one; and what is wrong with it."""
    if "content-length" not in fields:
        return None, None
    said = {one.strip() for one in fields["content-length"].split(",")}
    text = ", ".join(sorted(visible(one, 40) for one in said))
    if len(said) > 1:
        return None, f"several values of Content-Length: {text}"
    digits = said.pop()
    # isdigit alone takes other digits too, such as ²; 18 of them fit into 64 bits.
    if not (digits.isascii() and digits.isdigit()) or len(digits.lstrip("0")) > 18:
        return None, f"no valid Content-Length: {text!r}"
    return int(digits.lstrip("0") or "0"), None
