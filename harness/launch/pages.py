"""Reads pages of a server (health, version, metrics, models, answers) while the clock does not run.

A page has a deadline for the whole exchange and a limit for its size: a timeout for each read alone would let a server
that sends one byte a second stop a comparison for ever, and an endless page would fill the memory."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import httpcore

from harness.driver.address import Address, not_through_proxy, tls_context
from harness.driver.refusal import refusal
from harness.driver.tls import reason
from harness.redact import Secret
from harness.visible import visible

DEADLINE_S = 10.0
MOST_BYTES = 16 << 20  # the metrics page of a large deployment has one
_SLICE = 1 << 14


class NoPage(Exception):
    """Why a page could not be read, in one line."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a server answered: its status, its header (names in lower case) and its body."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """The media type, in lower case."""
        return self.fields.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def text(self) -> str:
        """The body as text; what is no UTF-8 is replaced."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body as JSON. Raises NoPage if it is none, or nested too deeply."""
        try:
            return json.loads(self.text)  # some engines write NaN, which stricter readers refuse
        except RecursionError:
            raise NoPage("its JSON is nested too deeply") from None
        except ValueError:
            what = f" but {visible(self.kind, 40)}" if self.kind and "json" not in self.kind else ""
            shown = "" if self.kind == "text/plain" else f": {visible(self.text, 80) or 'empty'}"
            raise NoPage(f"it is no JSON{what}{shown}") from None


class Pages:
    """One server's pages, over one connection that is kept: a new one for each poll would take a fifth of a core from
    an engine that is starting. Proxies in the environment are not used. `key`: the API key."""

    def __init__(
        self,
        address: Address,
        key: str | None = None,
        deadline_s: float = DEADLINE_S,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.secret = Secret(key)
        self.address, self.deadline_s, self.most_bytes = address, deadline_s, most_bytes
        self.headers = [
            ("Host", address.host_field),
            ("Accept", "*/*"),
            ("Accept-Encoding", "identity"),  # a packed page could be far larger than the limit
            *([("Authorization", f"Bearer {key}")] if key else []),
        ]
        self.backend = _Backend(address)
        self.pool = httpcore.ConnectionPool(
            ssl_context=tls_context(address.ca_file) if address.tls else None,
            max_connections=1,
            network_backend=self.backend,
        )

    def __enter__(self) -> Pages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.close()

    def get(self, path: str) -> Page:
        """The page, whatever its status. Raises NoPage if there is none within the deadline and the limit."""
        return self._ask("GET", path, b"")

    def post(self, path: str, body: bytes) -> Page:
        """The answer to a request with a JSON body, whatever its status. Raises NoPage like `get`."""
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: bytes) -> Page:
        address = self.address
        if address.sockaddr is None:
            raise NoPage(address.problem or "its name does not resolve")
        self.backend.until = time.monotonic() + self.deadline_s
        scheme = b"https" if address.tls else b"http"
        url = httpcore.URL(scheme=scheme, host=address.host, port=address.port, target=address.target(path))
        headers = [*self.headers]
        if method == "POST":
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        try:
            with self.pool.stream(method, url, headers=headers, content=body) as response:
                fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                if fields.get("content-encoding", "identity").lower() not in ("", "identity"):
                    raise NoPage(f"it is packed ({visible(fields['content-encoding'], 40)}), and was not asked to be")
                return self._page(response.status, fields, self._body(response.iter_stream()))
        except httpcore.TimeoutException:
            raise NoPage(f"it was not complete within {self.deadline_s:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as problem:
            raise NoPage(self._why(problem)) from None

    def _page(self, status: int, fields: dict[str, str], body: bytes) -> Page:
        """The page without the API key, should the server have echoed it. A page of metrics is left as it is: it is
        read for numbers only, once a second."""
        page = Page(status, {name: self.secret.hide(value) for name, value in fields.items()}, body)
        if status == 200 and page.kind == "text/plain":
            return page
        return replace(page, body=self.secret.pattern.sub(b"***", body))

    def _body(self, pieces: Iterable[bytes]) -> bytes:
        whole = bytearray()
        for piece in pieces:
            whole += piece
            if len(whole) > self.most_bytes:
                raise NoPage(f"it is larger than {self.most_bytes >> 20 or 1} MiB")
        return bytes(whole)

    def _why(self, problem: Exception) -> str:
        cause = problem.__cause__ or problem.__context__
        if isinstance(cause, OSError):  # httpcore's own message has Python's names and numbers
            why = ("TLS: " if isinstance(cause, ssl.SSLError) else "") + reason(cause).lower()
        else:
            why = visible(str(problem)) or "the connection was closed"
        return why + (not_through_proxy(self.address) if isinstance(problem, httpcore.ConnectError) else "")


def success(page: Page) -> Page:
    """The page itself. Raises NoPage if its status is not 200, with what the server says and what to do."""
    if page.status != 200:
        raise NoPage(refusal(page.status, page.fields, page.body))
    return page


class _Backend(httpcore.NetworkBackend):
    """Connects to the address that the measured requests go to, and gives each step what is left until `until`."""

    def __init__(self, address: Address) -> None:
        self.address, self.until = address, 0.0
        self.inner = httpcore.SyncBackend()

    def left(self) -> float:
        rest = self.until - time.monotonic()
        if rest <= 0:
            raise httpcore.ReadTimeout("the deadline has passed")
        return rest

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        assert self.address.sockaddr is not None
        there = str(self.address.sockaddr[0])
        return _Stream(self.inner.connect_tcp(there, port, self.left(), local_address, socket_options), self.left)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, left: Callable[[], float]) -> None:
        self.inner, self.left = inner, left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.inner.read(max_bytes, self.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for at in range(0, len(buffer), _SLICE):
            self.inner.write(buffer[at : at + _SLICE], self.left())

    def close(self) -> None:
        self.inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self.inner.start_tls(ssl_context, server_hostname, self.left()), self.left)

    def get_extra_info(self, info: str) -> Any:
        return self.inner.get_extra_info(info)
