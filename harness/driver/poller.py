"""Waits for sockets, to the microsecond: epoll and a timer on Linux, the selectors module elsewhere."""

from __future__ import annotations

import ctypes
import os
import select
import selectors
import sys
import time

READ, WRITE = 1, 4  # EPOLLIN, EPOLLOUT; the fallback translates
# EPOLLET: report a socket only when more has arrived. Otherwise the kernel checks every socket twice, the second time
# to find it empty. With it, one must read until a read returns less than asked. EPOLLRDHUP: marks the event of data
# that is followed by the end of the connection, because no second event will come.
EDGE = 1 << 31 | 1 << 13
GONE = 1 << 13 | 1 << 4  # EPOLLRDHUP, EPOLLHUP: nothing will come after the data that is there
_TFD = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE = 1  # TFD_TIMER_ABSTIME
_CLOCK_MONOTONIC = 1


class _Itimerspec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


class Poller:
    """Level-triggered. `wait(until_ns)` returns [(descriptor, mask)] as soon as there is one, and at the
    latest when the monotonic clock reaches `until_ns` (None: no limit); it may return early and empty."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        # epoll's timeout is in milliseconds: without this timer every scheduled request would be up to 1 ms late.
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD)
        if self._timer < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._armed_ns: int | None = None
        self._epoll.register(self._timer, READ)
        self.register, self.modify, self.unregister = self._epoll.register, self._epoll.modify, self._epoll.unregister
        self._poll = self._epoll.poll

    def wait(self, until_ns: int | None) -> list[tuple[int, int]]:
        # Setting the timer is a system call; leaving it at an earlier time costs at most one needless wake-up.
        if until_ns is not None and (self._armed_ns is None or until_ns < self._armed_ns):
            self._arm(until_ns)
        events = self._poll()
        if self._armed_ns is not None and time.monotonic_ns() >= self._armed_ns:
            events = [event for event in events if event[0] != self._timer]
            self._libc.timerfd_settime(self._timer, 0, ctypes.byref(_Itimerspec()), None)  # no longer readable
            self._armed_ns = None
        return events

    def _arm(self, at_ns: int) -> None:
        at_ns = max(1, at_ns)
        setting = _Itimerspec(0, 0, at_ns // 1_000_000_000, at_ns % 1_000_000_000)
        self._libc.timerfd_settime(self._timer, _ABSOLUTE, ctypes.byref(setting), None)
        self._armed_ns = at_ns

    def close(self) -> None:
        os.close(self._timer)
        self._epoll.close()


class PortablePoller:
    """The same without epoll: kqueue on macOS. Wakes up with the operating system's own granularity."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, mask: int) -> None:
        self._selector.register(fd, _to_selectors(mask))

    def modify(self, fd: int, mask: int) -> None:
        self._selector.modify(fd, _to_selectors(mask))

    def unregister(self, fd: int) -> None:
        self._selector.unregister(fd)

    def wait(self, until_ns: int | None) -> list[tuple[int, int]]:
        timeout = None if until_ns is None else max(0.0, (until_ns - time.monotonic_ns()) / 1e9)
        found = self._selector.select(timeout)
        return [
            (key.fd, (READ if mask & selectors.EVENT_READ else 0) | (WRITE if mask & selectors.EVENT_WRITE else 0))
            for key, mask in found
        ]

    def close(self) -> None:
        self._selector.close()


def _to_selectors(mask: int) -> int:
    return (selectors.EVENT_READ if mask & READ else 0) | (selectors.EVENT_WRITE if mask & WRITE else 0)


def new_poller() -> Poller | PortablePoller:
    """The best poller for this system."""
    return Poller() if sys.platform == "linux" else PortablePoller()
