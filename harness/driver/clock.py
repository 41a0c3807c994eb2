"""The kernel's arrival times (Linux, SO_TIMESTAMPING) on the monotonic clock."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time

CONTROL_BYTES = 64  # room for one SCM_TIMESTAMPING message of 48 bytes
_SO_TIMESTAMPING = 37  # linux/asm-generic/socket.h
# linux/net_tstamp.h; the last one: transmit time stamps come without a copy of the packet
_TX_SOFTWARE, _RX_SOFTWARE, _SOFTWARE, _OPT_TSONLY = 1 << 1, 1 << 3, 1 << 4, 1 << 11
_TOLERANCE_NS = 100_000  # arrivals are converted from another clock: less than this is no contradiction
EARLY = (
    "bytes arrived before the request was sent: they are left over from an earlier response, or were never asked for"
)
_MSG_ERRQUEUE = 0x2000
_STAMPED = [(socket.SOL_SOCKET, _SO_TIMESTAMPING, struct.pack("@I", _TX_SOFTWARE))]
_TIMESPEC = struct.Struct("@qq")
_mono, _real = time.monotonic_ns, time.time_ns


def stamp_arrivals(sock: socket.socket) -> None:
    """Asks the kernel to report, with each recvmsg, when it received the bytes. Linux only; otherwise does nothing."""
    if sys.platform == "linux":
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _RX_SOFTWARE | _SOFTWARE | _OPT_TSONLY)


def send_stamped(sock: socket.socket, data: bytes | memoryview) -> int:
    """`send`; the kernel records when the last byte leaves.

    The kernel buffers far more than the receiver has room for, so the time at which `send` returns says little about
    when a long prompt was on its way."""
    return sock.sendmsg([data], _STAMPED)


def departures(sock: socket.socket, lead_ns: int) -> list[int]:
    """The times (monotonic ns) recorded since the last call, one for each `send_stamped` whose bytes have left."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            _, control, _, _ = sock.recvmsg(1, 512, _MSG_ERRQUEUE)
            for level, kind, data in control:
                if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPING:
                    seconds, nanoseconds = _TIMESPEC.unpack_from(data)
                    found.append(seconds * 1_000_000_000 + nanoseconds - lead_ns)
    return found


def clock_lead() -> int:
    """Nanoseconds by which the realtime clock, used for the kernel's stamps, is ahead of the monotonic clock."""
    for _ in range(5):
        before, real, after = _mono(), _real(), _mono()
        if after - before < 20_000:  # not interrupted: the two clocks were read at the same time
            break
    return real - (before + after) // 2


def arrival(stamp: bytes | None, lead_ns: int, read_ns: int) -> int | None:
    """The kernel's time on the monotonic clock; None if there is none, or if it is after the read: then the realtime
    clock was stepped in between."""
    if stamp is None or len(stamp) < _TIMESPEC.size:
        return None
    seconds, nanoseconds = _TIMESPEC.unpack_from(stamp)
    at: int = seconds * 1_000_000_000 + nanoseconds - lead_ns
    return at if seconds and at <= read_ns else None


def is_early(arrival_ns: int | None, sent_ns: int | None) -> bool:
    """Whether bytes arrived before the request that they would answer was sent."""
    return arrival_ns is not None and sent_ns is not None and arrival_ns < sent_ns - _TOLERANCE_NS
