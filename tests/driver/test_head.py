"""Heads of responses as servers and proxies really write them, and where the body of each ends."""

import pytest

from harness.driver.framing import Framing
from harness.driver.head import Head, HeadReader


def head_of(data: bytes, step: int = 1 << 20) -> tuple[Head | None, bytes]:
    """The head and what came after it, read in pieces of `step` bytes."""
    reader, rest = HeadReader(), b""
    for at in range(0, len(data), step):
        rest += reader.feed(data[at : at + step]) if reader.head is None else data[at : at + step]
    return reader.head, rest


KEPT, CLOSED = True, False
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("step", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize(
    ("data", "status", "chunked", "length", "reusable"),
    [
        (OK + b"Transfer-Encoding:chunked\r\n\r\n", 200, True, None, KEPT),
        (OK + b"TRANSFER-ENCODING \t:\t Chunked \r\n\r\n", 200, True, None, KEPT),
        (OK + b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\n", 200, False, 3, KEPT),
        (OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 200, True, None, KEPT),
        (OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 200, True, None, KEPT),
        (OK + b"content-length:003\r\n\r\n", 200, False, 3, KEPT),
        (OK + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n", 200, False, 3, KEPT),
        (OK + b"Content-Length:\r\n 3\r\n\r\n", 200, False, 3, KEPT),  # folded
        (OK + b"X: a\r\n\tb: Content-Length: 9\r\nContent-Length: 3\r\n\r\n", 200, False, 3, KEPT),
        (OK + b"Connection: Keep-Alive, Close\r\nContent-Length: 3\r\n\r\n", 200, False, 3, CLOSED),
        (OK + b"\r\n", 200, False, None, CLOSED),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", 200, False, 3, CLOSED),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\n", 200, False, 3, KEPT),
        (b"http/1.1 200\r\nContent-Length: 3\r\n\r\n", 200, False, 3, KEPT),  # no reason
        (b"HTTP/1.1 200 \nContent-Length: 3\n\n", 200, False, 3, KEPT),
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 204, False, 0, KEPT),
        (
            b"HTTP/1.0 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK + b"\r\n",
            200,
            False,
            None,
            CLOSED,
        ),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 101, False, 0, CLOSED),
    ],
)
def test_heads(data: bytes, status: int, chunked: bool, length: int | None, reusable: bool, step: int) -> None:
    head, rest = head_of(data + b"abc", step)
    assert head is not None and head.problem is None and rest == b"abc"
    assert (head.status, head.chunked, head.length, head.reusable) == (status, chunked, length, reusable)


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        (b"Content-Length: 3\r\nContent-Length: 4", "several values of Content-Length: 3, 4"),
        (b"Content-Length: +3", "no valid Content-Length: '+3'"),
        (b"Content-Length: 0x3", "no valid Content-Length: '0x3'"),
        ("Content-Length: ²".encode(), "no valid Content-Length: '²'"),
        (b"Content-Length: 1" + b"0" * 5000, "no valid Content-Length"),
        (b"Content-Length: -1", "no valid Content-Length: '-1'"),
    ],
)
def test_a_length_that_is_none_is_named(field: bytes, problem: str) -> None:
    head, _ = head_of(OK + field + b"\r\n\r\n")
    assert head is not None and head.problem is not None and problem in head.problem
    framing = Framing()
    assert framing.ends(b"", OK + field + b"\r\n\r\n") and not framing.reusable


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 " + b"2" * 5000 + b" OK\r\n\r\n",
        b"HTTP/1.1 40000 OK\r\n\r\n",
        "HTTP/1.1 ²00 OK\r\n\r\n".encode(),
        b"HTTP/1.1 -20 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\x00\x00\x12\x04",
        b"HTTP/1.1 200 OK\r\n" + b"x" * (1 << 20),
    ],
)
def test_what_is_no_response_ends_at_once(data: bytes) -> None:
    head, _ = head_of(data)
    assert head == Head()
    framing = Framing()
    assert framing.ends(b"", data) and not framing.reusable


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "excess"),
    [
        ([CHUNKED, b"1\r\na\r\n", b"0\r\n\r\n"], False),
        ([CHUNKED, b"1\r\na\r\n0\r\nX-Sum: 1\r\nServer-Timing: a;dur=1\r\n\r\n"], False),  # not announced
        ([CHUNKED, b"1\r\na\r\n0\r\nX-Su", b"m: 1\r\n\r\n"], False),
        ([CHUNKED, b"1\r\na\r\n000;ext=1\r\n\r\n"], False),
        ([CHUNKED, b"1\r\na\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"], True),
        ([CHUNKED, b"1\r\na\r\n0\r\n\r\n\r\n"], True),
        ([CHUNKED, b"1\r\na\r\n0\r\n\r\n0\r\n\r\n"], True),
        ([CHUNKED, b"1\r\na\r\n0\r\nX: 1\r\n\r\nmore"], True),
        ([CHUNKED.replace(b"\r\n\r\n", b"\r\nTrailer: X\r\n\r\n"), b"1\r\na\r\n0\r\n", b"X", b": 1\r\n\r\nmore"], True),
        ([OK + b"Content-Length: 3\r\n\r\n", b"ab", b"c"], False),
        ([OK + b"Content-Length: 3\r\n\r\n", b"ab", b"cd"], True),
        ([b"HTTP/1.1 204 No\r\n\r\n"], False),
    ],
)
def test_where_a_response_ends_and_whether_more_came(pieces: list[bytes], excess: bool) -> None:
    framing, before = Framing(), b""
    for piece in pieces[:-1]:
        assert not framing.ends(before, piece)
        before = piece
    assert framing.ends(before, pieces[-1])
    assert framing.excess == excess


@pytest.mark.parametrize(
    ("field", "codings"),
    [
        (b"Content-Encoding: gzip", ("gzip",)),
        (b"Content-Encoding: identity", ()),
        (b"content-encoding:br,zstd", ("br", "zstd")),
        (b"Transfer-Encoding: gzip, chunked", ("gzip",)),
    ],
)
def test_what_a_body_is_compressed_with(field: bytes, codings: tuple[str, ...]) -> None:
    head, _ = head_of(OK + field + b"\r\n\r\n")
    assert head is not None and head.codings == codings
