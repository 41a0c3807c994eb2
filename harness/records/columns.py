"""The columns of requests.parquet and chunks.parquet."""

from __future__ import annotations

import pyarrow as pa

from harness.records.ranges import MOST, MOST_COUNT, MOST_S
from harness.records.tables import Column

REQUEST_SCHEMA = pa.schema(
    [
        ("index", pa.int32()),
        ("scheduled_s", pa.float64()),
        ("sent_s", pa.float64()),
        ("first_token_s", pa.float64()),
        ("last_token_s", pa.float64()),
        ("done_s", pa.float64()),
        ("prompt_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
        ("finish_reason", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("http_status", pa.int16()),
        ("uploaded_s", pa.float64()),
        ("connect_s", pa.float64()),
        ("sent_tokens", pa.int32()),
        ("asked_tokens", pa.int32()),
        ("reported_tokens", pa.int32()),
        ("first_event_tokens", pa.int32()),
        ("cached_tokens", pa.int32()),
        ("due_s", pa.float64()),
        ("count_source", pa.string()),
        ("reads", pa.int32()),
        ("stamped_reads", pa.int32()),
        ("output_ids", pa.list_(pa.int32())),
        ("output_text", pa.string()),
    ]
)
CHUNK_SCHEMA = pa.schema(
    [("index", pa.int32()), ("arrival_ns", pa.int64()), ("read_ns", pa.int64()), ("tokens", pa.int32())]
)

_TIME, _COUNT = Column(-MOST_S, MOST_S), Column(0, MOST_COUNT)
_KNOWN_COUNT = Column(0, MOST_COUNT, known=True)
REQUEST_RULES = {
    **{field.name: _TIME for field in REQUEST_SCHEMA if field.type == pa.float64()},
    **{field.name: _COUNT for field in REQUEST_SCHEMA if field.type == pa.int32()},
    **dict.fromkeys(("index", "output_tokens", "sent_tokens", "asked_tokens", "status"), _KNOWN_COUNT),
}
CHUNK_RULES = {
    "index": _KNOWN_COUNT,
    "tokens": _KNOWN_COUNT,
    **dict.fromkeys(("arrival_ns", "read_ns"), Column(-MOST, MOST, known=True)),
}
STATUSES = ("ok", "failed", "cancelled")
