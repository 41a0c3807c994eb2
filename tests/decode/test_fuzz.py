"""Whatever a server sends: decoding never raises, always ends, and what it makes can be stored and shown."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engines
from harness.adapter import Dialect, Parse
from harness.decode.body import Malformed, Unchunk
from harness.decode.exchange import decode_exchange
from harness.driver.framing import Framing
from harness.driver.spool import Exchange, Read
from harness.records.request import RequestRecord
from harness.records.run import write_records
from harness.redact import Secret
from harness.workload.schedule import Request
from tests.wire import END, HEAD, chunked

STREAMS = Path(__file__).parent.parent / "streams"
SPOKEN = [(e.name, e.dialect.parse) for e in engines.load().values() if isinstance(e.dialect, Dialect)]
SPOKEN = [(name, parse) for name, parse in SPOKEN if (STREAMS / f"{name}.sse").is_file()]
ROUNDS = 150  # of each engine's stream: a few seconds in all
KEY = "sk-0123456789abcdef"
DEEP = 100_000
HEADS = [
    HEAD,
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.0 200\nContent-Length: 900\n\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD,
    b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding:chunked\r\n\r\n",
]
TOKENS = [
    *(b"-90\r\n", b"+5\r\n", b"0x5\r\n", b"1_0\r\n", b" \r\n", b"f" * 10_000 + b"\r\n", b"5;a=b\r\n", b"0\r\n\r\n"),
    *(
        b"data: [DONE]\n\n",
        b"data:\n\n",
        b"data\r\r",
        b"event: error\ndata: no\n\n",
        b": x\n\n",
        b"\xef\xbb\xbf",
        b"\r",
    ),
    *(
        b"data: " + b"[" * DEEP + b"\n\n",
        b'data: {"error":' + b'{"a":' * DEEP + b"\n\n",
        b"data: NaN\n\n",
        b"data: 1\n\n",
    ),
    *(b'data: {"choices":[{"text":"\\ud800"}]}\n\n', b'data: {"choices":{}}\n\n', b'data: {"error":[[{"a":1}]]}\n\n'),
    *(b"\xff\xfe", b"\x1b]0;x\x07", b"\xe2\x80\xae", b"HTTP/1.1 200 OK\r\n\r\n", KEY.encode(), KEY.upper().encode()),
]
NUMBERS = [b"3000000000", b"-1", b"16.0", b"1.5", b"true", b"1" + b"0" * 5000, b"1e400", b"NaN", b'"7"', b"null", b"[]"]


def framed(body: bytes, rng: random.Random) -> bytes:
    """As chunks of any size."""
    pieces, at = [], 0
    while at < len(body):
        size = rng.choice([1, 3, 40, 200, 5000])
        pieces.append(chunked(body[at : at + size]))
        at += size
    return b"".join(pieces) + END


def spoilt(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randrange(4)):
        at, kind = rng.randrange(len(data)), rng.randrange(5)
        if kind == 0:
            data = data[:at] + rng.choice(TOKENS) + data[at:]
        elif kind == 1:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        elif kind == 2:
            data = data[:at] + data[at + rng.randrange(1, 200) :]
        elif kind == 3:
            data = data[:at] + data[max(0, at - 300) :]
        else:  # a number of the stream
            ends = [i for i in range(at, len(data) - 1) if data[i : i + 1] == b":" and data[i + 1 : i + 2].isdigit()][
                :1
            ]
            for i in ends:
                stop = i + 1
                while stop < len(data) and data[stop : stop + 1].isdigit():
                    stop += 1
                data = data[: i + 1] + rng.choice(NUMBERS) + data[stop:]
        if not data:
            return b"x"
    return data


def split(data: bytes, rng: random.Random) -> list[bytes]:
    cuts = sorted(rng.randrange(len(data)) for _ in range(rng.choice([0, 1, 5, 60])))
    bounds = [0, *cuts, len(data)]
    return [data[a:b] for a, b in zip(bounds, bounds[1:], strict=False) if b > a]


def decoded(pieces: list[bytes], parse: Parse, rng: random.Random) -> RequestRecord:
    sent_ns = rng.choice([0, 0, 0, 5_000_000])
    reads = [Read(0, (i + 1) * 1_000_000, 0, None, piece) for i, piece in enumerate(pieces)]
    exchange = Exchange(0, sent_ns=sent_ns, done_ns=len(reads) * 1_000_000, reads=reads)
    exchange.fault, exchange.cut = rng.choice(
        [(None, False), (None, False), ("connection closed in mid-response", True)]
    )
    return decode_exchange(exchange, Request(0, (1, 2, 3), 16), parse, 0, (), rng.random() < 0.5, Secret(KEY))


def records(name: str, parse: Parse) -> Iterator[RequestRecord]:
    rng = random.Random(name)
    body = (STREAMS / f"{name}.sse").read_bytes()
    for _ in range(ROUNDS):
        head = rng.choice([HEAD, HEAD, *HEADS])
        told = spoilt(body, rng)
        whole = head + (framed(told, rng) if b"chunked" in head else told)
        began = time.monotonic()
        yield decoded(split(spoilt(whole, rng) if rng.random() < 0.5 else whole, rng), parse, rng)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(("name", "parse"), SPOKEN, ids=[name for name, _ in SPOKEN])
def test_no_bytes_end_more_than_their_request(name: str, parse: Parse, tmp_path: Path) -> None:
    made = list(records(name, parse))
    write_records(tmp_path, iter(made))
    rows = pq.read_table(tmp_path / "requests.parquet").to_pylist()
    assert [row["output_tokens"] for row in rows] == [got.output_tokens for got in made]
    json.dumps(rows).encode()
    for got in made:
        assert got.status in ("ok", "failed") and (got.error is None) == (got.status == "ok")
        text = f"{got.error or ''}{got.finish_reason or ''}"
        assert text.isprintable() and len(text) < 1000
        assert KEY[:12] not in text.lower()
    assert {got.status for got in made} == {"ok", "failed"}


@settings(max_examples=200, deadline=None)
@given(
    parts=st.lists(
        st.one_of(st.sampled_from(TOKENS[:8]), st.binary(max_size=30), st.just(chunked(b"abc"))), max_size=12
    ),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
def test_unchunking_uses_up_what_it_is_given_and_makes_no_more(parts: list[bytes], cuts: list[int]) -> None:
    """A size below 0 once moved the reader back, for ever."""
    data = b"".join(parts)
    bounds = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    pieces = [data[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]

    def run(pieces: list[bytes]) -> tuple[bytes, bool]:
        unchunk, out = Unchunk(), b""
        try:
            for piece in pieces:
                out += unchunk.feed(piece)
                assert len(unchunk.pending) <= 4097
        except Malformed:
            return out, True
        return out, False

    (split_out, split_bad), (out, bad) = run(pieces), run([data] if data else [])
    assert len(out) <= len(data)
    assert split_bad == bad and (bad or split_out == out)
    framing, before = Framing(), b""
    for piece in [HEAD, *pieces]:
        if framing.ends(before, piece):
            break
        before = piece


@pytest.mark.parametrize("size", [b"-90", b"+5", b"0x5", b"1_0", b"", b" ", b"f" * 10_000, b"1 2", "²".encode()])
def test_a_chunk_size_is_hexadecimal_digits(size: bytes) -> None:
    with pytest.raises(Malformed, match="no chunk size"):
        Unchunk().feed(size + b"\r\nabcdef\r\n0\r\n\r\n")
    for good in (b"6", b"006", b"6 ", b"6;name=value", b"6 ; a"):
        assert Unchunk().feed(good + b"\r\nabcdef\r\n0\r\n\r\n") == b"abcdef"
