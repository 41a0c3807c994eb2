"""The null server's log of what it really did, kept until it is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from harness.nullengine.answer import Answer
from harness.nullengine.wire import page

TRUTH_TOKENS = 4_000_000  # kept at most, 8 bytes each; the oldest streams are dropped if nobody reads the log
_PER_STREAM = 64  # memory of a stream's entry, in tokens


class TruthLog:
    """An entry for each stream that has ended since the log was last read."""

    def __init__(self) -> None:
        self.entries: deque[dict[str, Any]] = deque()
        self.tokens = self.dropped = 0

    def add(self, answer: Answer, cut: bool) -> None:
        """`cut`: the client closed the connection first."""
        entry = {"key": answer.key, "arrived_ns": answer.arrived_ns, "write_ns": answer.write_ns}
        self.entries.append({**entry, "cut": True} if cut else entry)
        self.tokens += len(answer.write_ns) + _PER_STREAM
        answer.connection = None
        while self.tokens > TRUTH_TOKENS:
            oldest = self.entries.popleft()["write_ns"]
            self.tokens -= len(oldest) + _PER_STREAM
            self.dropped += 1

    def tell(self) -> bytes:
        """A page with all entries, which are then removed."""
        lines = [msgspec.json.encode({**entry, "write_ns": list(entry["write_ns"])}) for entry in self._drained()]
        dropped, self.dropped, self.tokens = self.dropped, 0, 0
        return page(b"".join(x + b"\n" for x in lines), "200 OK", "application/x-ndjson", f"X-Dropped: {dropped}\r\n")

    def _drained(self) -> Iterator[dict[str, Any]]:
        while self.entries:
            yield self.entries.popleft()
