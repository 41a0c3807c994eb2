"""The pieces in which an answer came: tokens that arrived together are one."""

from __future__ import annotations

from collections.abc import Sequence

from harness.driver.spool import Read
from harness.records.request import Chunk

# An answer of which all arrived within this share of the time to its first token, and faster for each token than this,
# was held back and sent in one go; the times within it are those of the network. No engine is near 20,000 tokens/s.
AT_ONCE_SHARE, AT_ONCE_NS = 0.05, 50_000


def pieces(
    counted: Sequence[tuple[int, int]],
    reads: Sequence[Read],
    arrivals: Sequence[int | None],
    start_ns: int,
    sent_ns: int | None,
) -> list[Chunk]:
    """The chunks of one answer, in ns since `start_ns`. `counted`: (read, tokens) in the order of the reads;
    `arrivals`: of each read, None if not known."""
    chunks: list[Chunk] = []
    last_ns = None
    for at, tokens in counted:
        read_ns = reads[at].read_ns
        arrival_ns = arrivals[at] or read_ns
        # A packet that took several reads arrived once: as several chunks it would add ITLs of 0.
        if arrival_ns == last_ns:
            tokens += chunks.pop().tokens
        chunks.append(Chunk(arrival_ns - start_ns, read_ns - start_ns, tokens))
        last_ns = arrival_ns
    if len(chunks) > 1 and sent_ns is not None and _at_once(chunks, sent_ns - start_ns):
        # Without this line TPOT would be the time between two packets of a proxy that held the answer back. As with a
        # read of several packets, the time is that of the last.
        return [chunks[-1]._replace(tokens=sum(chunk.tokens for chunk in chunks))]
    return chunks


def _at_once(chunks: Sequence[Chunk], sent_ns: int) -> bool:
    first = chunks[0]
    span_ns = chunks[-1].arrival_ns - first.arrival_ns
    if span_ns >= AT_ONCE_SHARE * (first.arrival_ns - sent_ns):
        return False
    return span_ns < AT_ONCE_NS * sum(chunk.tokens for chunk in chunks[1:])
