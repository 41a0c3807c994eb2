"""TLS in memory: the driver reads the socket itself, so the kernel's time stamps stay with the bytes."""

from __future__ import annotations

import contextlib
import ssl


class Tls:
    """Encrypts and decrypts in memory; the driver moves the bytes. Raises ssl.SSLError for a bad peer.

    A TLS record's arrival is that of the read that completed it, stamped by the kernel like any other read."""

    __slots__ = ("incoming", "object", "outgoing")

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host)

    def handshake(self) -> bool:
        """One step; true when done. In both cases the content of `outgoing` must be sent."""
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def decrypt(self, data: bytes) -> bytes:
        """The plain bytes that `data` completes, possibly none. A TLS close is ignored: the socket's end follows."""
        self.incoming.write(data)
        plain = []
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while piece := self.object.read(1 << 16):
                plain.append(piece)
        return b"".join(plain)

    def encrypt(self, payload: bytes) -> bytes:
        """The records that carry `payload`."""
        self.object.write(payload)
        return self.outgoing.read()


def reason(problem: ssl.SSLError | OSError) -> str:
    """OpenSSL's message without its file names and codes."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"certificate: {problem.verify_message}"
    if isinstance(problem, ssl.SSLError):
        return str(problem.reason or problem).replace("_", " ").lower()
    return problem.strerror or str(problem)
