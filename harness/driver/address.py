"""Where requests go, resolved before the clock starts."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

from harness.errors import HarnessError
from harness.visible import visible

DEFAULT_PORTS = {False: 80, True: 443}  # by whether it is TLS
_HOST = re.compile(r"[A-Za-z0-9._~%:-]+")
_IN_PATH, _IN_QUERY = "/%:@!$&'()*+,;=~", "/?%:@!$&'()*+,;=~"  # stay as they are; others are percent-encoded
# The harness connects directly, as proxies would add their time to the server's.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@dataclass(frozen=True, slots=True)
class Address:
    """Where an HTTP server listens. `sockaddr` is None if its name does not resolve; `problem` says why."""

    host: str
    port: int
    tls: bool = False
    path: str = ""  # of the given URL, without a trailing slash
    family: int = int(socket.AF_INET)
    sockaddr: tuple[Any, ...] | None = None
    problem: str | None = None
    ca_file: str = ""  # CA certificates to trust, besides the system's
    query: str = ""  # of the given URL; part of every request

    @property
    def authority(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def host_field(self) -> str:
        """The Host header: without the scheme's default port (RFC 9110, 7.2), as gateways may compare it to the letter,
        and without an IPv6 zone, which means something on this machine only (RFC 6874)."""
        host = self.host.partition("%")[0]
        host = f"[{host}]" if ":" in host else host
        return host if self.port == DEFAULT_PORTS[self.tls] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Scheme, host and port, to be shown and stored."""
        return f"{'https' if self.tls else 'http'}://{self.host_field}"

    @property
    def loopback(self) -> bool:
        """Whether client and server share this machine. 0.0.0.0 and :: as a destination mean this machine."""
        if self.sockaddr is None:
            return False
        found = ipaddress.ip_address(str(self.sockaddr[0]).split("%")[0])
        found = getattr(found, "ipv4_mapped", None) or found
        return found.is_loopback or found.is_unspecified

    def target(self, route: str) -> str:
        """What a request line asks for: a route with the query of the given URL."""
        return f"{route}?{self.query}" if self.query else route

    def shown(self, route: str) -> str:
        """The URL of a route, to be shown and stored: of its query only the names, because a value may be a key."""
        return without_values(self.url + self.target(route))


def local(port: int) -> Address:
    """A server on this machine's IPv4 loopback."""
    return Address("127.0.0.1", port, sockaddr=("127.0.0.1", port))


def without_values(url: str) -> str:
    """A URL or a path without what may be secret: user and password, fragment, and the values of its query, except
    for one that is a version (`api-version=2024-10-21`)."""
    rest, _, query = url.partition("#")[0].partition("?")
    rest = re.sub(r"^([\w+.-]*:?//)?[^/]*@", r"\1", rest)
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    kept = "&".join(f"{n}{e}{v if 'version' in n.lower() or not v else '***'}" for n, e, v in pairs)
    return f"{rest}?{kept}" if kept else rest


def check_url(url: str, key: str) -> SplitResult:
    """The parts of an http or https URL. `key`: the flag or key that has it. Raises HarnessError, which never shows a
    user, a password or a query."""
    url = url.strip()
    shown = visible(without_values(re.sub(r"^([\w+.-]*:?//)?.*@", r"\1", url)))  # a password may have a / or a ?
    try:
        parts = urlsplit(url if "://" in url or re.match("https?:/", url) else f"http://{url}")
    except ValueError as problem:  # an IPv6 address without its closing bracket, for example
        raise HarnessError(f"{key} {shown}: {str(problem).partition(':')[0]}.") from None
    if "@" in parts.netloc:  # first: the other messages show the URL
        where = "OPENAI_API_KEY" if key.startswith("--") else "the environment variable that key_env names"
        raise HarnessError(f"{key}: a user or password in a URL is not used; put an API key into {where}.")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise HarnessError(f"{key} {shown}: the port must be a number from 1 to 65535.")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise HarnessError(f"{key} {shown}: give http://HOST:PORT or https://HOST[:PORT], with or without a path.")
    try:
        host_of(parts)
    except UnicodeError:
        raise HarnessError(f"{key} {shown}: {visible(parts.hostname)} is no host name.") from None
    return parts


def host_of(parts: SplitResult) -> str:
    """The host in ASCII, an international name as DNS has it (xn--...), an IPv6 zone after a single %. Raises
    UnicodeError for what cannot be one."""
    host = (parts.hostname or "").replace("%25", "%")
    if not host.isascii():
        host = host.encode("idna").decode()
    if not _HOST.fullmatch(host) or re.search(r"\][^:]", parts.netloc):
        raise UnicodeError(f"{host!r} is no host name")
    return host


def resolve_url(url: str, key: str = "--url", ca_file: str = "") -> Address:
    """The address of an http or https URL, with its name resolved. `key`: the flag or key that has the URL.

    Raises HarnessError for anything else. A name that does not resolve is not an error here: it is recorded as the
    failure of every request, like a refused connection."""
    parts = check_url(url, key)
    host, tls = host_of(parts), parts.scheme == "https"
    address = Address(
        host,
        parts.port or DEFAULT_PORTS[tls],
        tls,
        quote(parts.path, safe=_IN_PATH).rstrip("/"),
        ca_file=ca_file,
        query=quote(parts.query, safe=_IN_QUERY),
    )
    try:
        found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        reason = f"{host} does not resolve: {getattr(problem, 'strerror', None) or 'it is no host name'}"
        return replace(address, problem=reason + not_through_proxy(address))
    family, _, _, _, sockaddr = _first_that_answers(found)
    return replace(address, family=int(family), sockaddr=tuple(sockaddr))


def not_through_proxy(address: Address, environ: Mapping[str, str] = os.environ) -> str:
    """What to add where a server cannot be reached and a proxy is set, which other programs would use; else empty."""
    named = next((n for name in PROXIES for n in (name, name.lower()) if environ.get(n)), None)
    if named is None or address.loopback:
        return ""
    return f"; {named} is set, but requests go to the server directly and never through a proxy"


def _first_that_answers(found: list[Any]) -> Any:
    """The first address that accepts a connection: localhost can be ::1 or 127.0.0.1, and a server may use one."""
    for candidate in found:
        with contextlib.suppress(OSError), socket.socket(candidate[0], socket.SOCK_STREAM) as sock:  # no IPv6 here
            sock.settimeout(1.0)
            if len(found) == 1 or sock.connect_ex(candidate[4]) == 0:
                return candidate
    return found[0]


def tls_context(ca_file: str = "") -> ssl.SSLContext:
    """The system's trust store plus `ca_file`; SSL_CERT_FILE and SSL_CERT_DIR replace the store. Raises HarnessError if
    the file has no certificates."""
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as problem:
            raise HarnessError(f"ca_file {ca_file}: cannot be read as certificates ({problem}).") from None
    return context
