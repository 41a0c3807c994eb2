"""Where requests go, resolved before the clock starts."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from harness.errors import HarnessError


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

    @property
    def authority(self) -> str:
        """Host and port, as in a URL and a Host header."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    @property
    def loopback(self) -> bool:
        """Whether client and server share this machine."""
        return self.sockaddr is not None and ipaddress.ip_address(str(self.sockaddr[0]).split("%")[0]).is_loopback


def local(port: int) -> Address:
    """A server on this machine's IPv4 loopback."""
    return Address("127.0.0.1", port, sockaddr=("127.0.0.1", port))


def check_url(url: str, key: str) -> SplitResult:
    """The parts of an http or https URL. `key`: the flag or key that has it. Raises HarnessError."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
    except ValueError as problem:  # an IPv6 address without its closing bracket, for example
        raise HarnessError(f"{key} {url}: {problem}.") from None
    if "@" in parts.netloc or parts.query or parts.fragment:  # first: the other messages show the URL
        where = "OPENAI_API_KEY" if key.startswith("--") else "the environment variable that key_env names"
        raise HarnessError(f"{key}: user, query and fragment are not used; put an API key into {where}.")
    try:
        _ = parts.port
    except ValueError:
        raise HarnessError(f"{key} {url}: the port must be a number from 0 to 65535.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise HarnessError(f"{key} {url}: give http://HOST:PORT or https://HOST[:PORT], with or without a path.")
    return parts


def resolve_url(url: str, key: str = "--url", ca_file: str = "") -> Address:
    """The address of an http or https URL, with its name resolved. `key`: the flag or key that has the URL.

    Raises HarnessError for anything else. A name that does not resolve is not an error here: it is recorded as the
    failure of every request, like a refused connection."""
    parts = check_url(url, key)
    assert parts.hostname is not None
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    path = parts.path.rstrip("/")
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        reason = f"{parts.hostname} does not resolve: {getattr(problem, 'strerror', None) or problem}"
        return Address(parts.hostname, port, tls, path, problem=reason, ca_file=ca_file)
    family, _, _, _, sockaddr = _first_that_answers(found)
    return Address(parts.hostname, port, tls, path, int(family), tuple(sockaddr), ca_file=ca_file)


def _first_that_answers(found: list[Any]) -> Any:
    """The first address that accepts a connection: localhost can be ::1 or 127.0.0.1, and a server may use one."""
    for candidate in found:
        with socket.socket(candidate[0], socket.SOCK_STREAM) as sock:
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
