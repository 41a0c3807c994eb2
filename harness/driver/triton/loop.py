"""Sends a schedule's requests over gRPC streams and keeps what comes back, while the clock runs.

Each request in flight has its own connection and bidirectional stream, opened before the clock starts. A response is
stored as a time stamp and the raw message; it is parsed afterwards (harness.decode.triton). Threads of tritonclient
receive the responses; everything else happens in the thread that runs the loop."""

from __future__ import annotations

import contextlib
import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from harness.driver.address import Address
from harness.driver.turns import Ending, Pace, Turns
from harness.workload.schedule import Request, Schedule

ASK_S = 10.0  # timeout for a connection, and for each query before the clock starts
_SHOWN = 300  # characters of a server's reason
_HELPERS = 32  # threads that open and close connections
_FINAL = "triton_final_response"
_CHANNEL = (
    ("grpc.use_local_subchannel_pool", 1),  # otherwise all clients in a process share one connection
    ("grpc.enable_http_proxy", 0),  # the time that a proxy takes would count as the engine's
    ("grpc.enable_retries", 0),  # a request that is sent twice would count once
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
_mono = time.monotonic_ns


def new_client(address: Address) -> Any:
    """An InferenceServerClient with its own connection."""
    from tritonclient.grpc import InferenceServerClient

    return InferenceServerClient(address.authority, ssl=address.tls, channel_args=_CHANNEL)


def said(problem: Any) -> str:
    """The reason of an InferenceServerException in one line, as `UNAVAILABLE: Socket closed`."""
    status = (problem.status() or "").removeprefix("StatusCode.")
    # A Python model sends its whole traceback; the last line says what went wrong.
    reason = (problem.message() or "").strip().rsplit("\n", 1)[-1].strip() or "no reason given"
    return f"{status}: {reason}"[:_SHOWN] if status else reason[:_SHOWN]


@dataclass(slots=True, eq=False)
class Call:
    """The raw facts of one request; monotonic nanoseconds. `responses`: the arrival of each, and the bytes of its
    ModelInferResponse. `fault` is None if the server marked a response as the last."""

    request: Request
    due_ns: int | None = None  # scheduled, or when what it waited for ended
    connect_ns: int | None = None  # duration
    sent_ns: int | None = None
    done_ns: int | None = None
    fault: str | None = None
    cancelled: bool = False
    responses: list[tuple[int, bytes]] = field(default_factory=list)
    lane: Lane | None = None
    over: bool = False


class Lane:
    """A connection with one stream, which carries one request at a time. `ended` is called, by a thread of the stream,
    with a request, the time at which it ended, and why it failed (None if it did not)."""

    def __init__(self, address: Address, ended: Callable[[Call, int, str | None], None]) -> None:
        self.address, self.ended = address, ended
        self.client: Any = None
        self.call: Call | None = None
        self.connect_ns = 0
        self.broken = False  # its stream has ended

    def open(self, until_ns: int) -> str | None:
        """Connects, with one query, and starts the stream. Returns why that failed, else None."""
        from tritonclient.utils import InferenceServerException

        began = _mono()
        self.client = new_client(self.address)
        try:
            self.client.is_server_live(client_timeout=max(0.001, (until_ns - began) / 1e9))
            self.connect_ns = _mono() - began
            self.client.start_stream(self._arrived)
        except InferenceServerException as problem:
            return f"connection failed: {said(problem)}"
        except RuntimeError as problem:  # a stream takes three threads
            return f"connection failed: {problem}"
        return None

    def send(self, call: Call, model: str, inputs: Sequence[Any]) -> None:
        """Sends a request. Raises InferenceServerException if the stream has ended meanwhile."""
        self.call, call.lane, call.connect_ns = call, self, self.connect_ns
        call.sent_ns = _mono()
        # Asks for the empty last response that some models send: without it their end would not be noticed.
        self.client.async_stream_infer(
            model, inputs, request_id=str(call.request.index), enable_empty_final_response=True
        )

    def _arrived(self, result: Any, error: Any) -> None:
        now = _mono()
        call = self.call
        if error is not None:
            self.broken = True
        elif call is not None:
            response = result.get_response()
            call.responses.append((now, response.SerializeToString()))  # takes a tenth of the message object's memory
            if _FINAL not in response.parameters or not response.parameters[_FINAL].bool_param:
                return
        if call is not None:
            self.call = None
            self.ended(call, now, None if error is None else said(error))

    def close(self) -> None:
        """Cancels the stream, which tells the server to stop, and closes the connection."""
        self.call = None
        if self.client is None:
            return
        stream = self.client._stream
        self.client.stop_stream(cancel_requests=True)
        if stream is not None:
            # The thread of tritonclient (2.73) that feeds a cancelled stream would wait forever for another request:
            # without this line each run would leave behind as many threads as it had streams.
            stream._request_queue.put(None)
        self.client.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is replayed: the schedule, and for each request's index the inputs to `model`. `unreachable`: why no request
    can be sent."""

    address: Address
    model: str
    schedule: Schedule
    inputs: Mapping[int, Sequence[Any]]
    deadline_s: float
    unreachable: str | None = None


class Loop:
    """Replays one schedule over gRPC."""

    def __init__(self, work: Work) -> None:
        self.address, self.model, self.schedule, self.inputs = work.address, work.model, work.schedule, work.inputs
        self.deadline_s, self.unreachable = work.deadline_s, work.unreachable
        self.calls: list[Call] = []
        self.pace = Pace(self.schedule.connections)
        ending = Ending(self.schedule.duration_s, self.schedule.enough)
        self.turns = Turns(self.schedule.requests, self.schedule.slots, self.schedule.ramp_s, self.pace, ending)
        self.inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()  # calls that other threads queue for this one
        self.lanes: set[Lane] = set()
        self.idle: list[Lane] = []
        self.limits: list[tuple[int, int, bool, Call]] = []  # when, which, whether its user cancels it
        self.helpers = ThreadPoolExecutor(_HELPERS)

    def connect(self) -> None:
        """Opens one lane for each request that can be in flight, before the clock starts.

        If none opens, no request is tried: each would only wait for the same error."""
        if self.unreachable:
            return
        until_ns = self._open_until()
        lanes = [self._new_lane() for _ in range(self.schedule.connections)]
        problems = list(self.helpers.map(lambda lane: lane.open(until_ns), lanes))
        self.idle = [lane for lane, problem in zip(lanes, problems, strict=True) if problem is None]
        if lanes and not self.idle:
            self.unreachable = problems[0]

    def _open_until(self) -> int:
        return _mono() + int(min(ASK_S, self.deadline_s) * 1e9)

    def _new_lane(self) -> Lane:
        lane = Lane(self.address, lambda call, at_ns, fault: self.inbox.put(partial(self._end, call, fault, at_ns)))
        self.lanes.add(lane)
        return lane

    def run(self, start_ns: int) -> None:
        """From the first request to the last response."""
        turns = self.turns
        turns.start(start_ns)
        while True:
            now, until = _mono(), turns.until_ns
            if until is not None and now >= until:
                turns.stop()
            while (due := turns.due_ns(now)) is not None and due <= now:
                request, own_ns = turns.take(now)
                now = _mono()
                self.pace.left(now, 0)
                self._begin(request, own_ns)
                now = _mono()
            if not turns.busy and not turns.waiting:
                return
            wakes = (due, until if turns.waiting else None, self.limits[0][0] if self.limits else None)
            self._listen(min(at for at in wakes if at is not None))
            self._expire(_mono())

    def _begin(self, request: Request, due_ns: int | None) -> None:
        call = Call(request, due_ns)
        self.calls.append(call)
        if self.unreachable:
            self._end(call, self.unreachable)
            return
        now = _mono()
        heapq.heappush(self.limits, (now + int(self.deadline_s * 1e9), request.index, False, call))
        if request.cancel_after_s is not None:
            heapq.heappush(self.limits, (now + int(request.cancel_after_s * 1e9), request.index, True, call))
        while self.idle:
            lane = self.idle.pop()
            if not lane.broken:
                self._send(lane, call)
                return
            self._drop(lane)  # the server ended it between two requests
        self.helpers.submit(self._open_for, call, self._new_lane())

    def _open_for(self, call: Call, lane: Lane) -> None:
        """Opens a lane for a request that found none idle; runs in a helper thread, because connecting takes time."""
        problem = lane.open(self._open_until())
        self.inbox.put(partial(self._end, call, problem) if problem else partial(self._take_up, call, lane))

    def _take_up(self, call: Call, lane: Lane) -> None:
        if call.over:  # cancelled before it could be sent
            self.idle.append(lane)
        else:
            self._send(lane, call)

    def _send(self, lane: Lane, call: Call) -> None:
        from tritonclient.utils import InferenceServerException

        try:
            lane.send(call, self.model, self.inputs[call.request.index])
        except InferenceServerException as problem:
            self._end(call, f"send failed: {said(problem)}")

    def _listen(self, until_ns: int) -> None:
        """Runs the calls that other threads have queued; waits for the first one until `until_ns` at the latest."""
        with contextlib.suppress(Empty):
            self.inbox.get(timeout=max(0.0, (until_ns - _mono()) / 1e9))()
            while True:
                self.inbox.get_nowait()()

    def _end(self, call: Call, fault: str | None, at_ns: int | None = None) -> None:
        if call.over:
            return
        call.over, call.fault = True, fault
        call.done_ns = _mono() if at_ns is None else at_ns
        self.turns.ended(call.request, call.done_ns)
        lane = call.lane
        if lane is None:
            return
        if fault is None:
            self.idle.append(lane)
        else:  # late responses to this request would be taken for the next one's
            self._drop(lane)

    def _drop(self, lane: Lane) -> None:
        lane.call = None
        self.lanes.discard(lane)
        self.helpers.submit(lane.close)

    def _expire(self, now: int) -> None:
        """Ends requests that timed out or are cancelled."""
        while self.limits and (self.limits[0][0] <= now or self.limits[0][3].over):
            _, _, given_up, call = heapq.heappop(self.limits)
            if not call.over:
                call.cancelled = given_up
                self._end(call, "cancelled by its user" if given_up else f"no end after {self.deadline_s:g} s")

    def give_up(self, why: str) -> None:
        """Ends the requests in flight; nothing more is sent."""
        for call in self.calls:
            self._end(call, why)

    def close(self) -> None:
        """Closes every connection and ends the threads."""
        self.helpers.shutdown()
        with ThreadPoolExecutor(_HELPERS) as closers:
            closers.map(Lane.close, self.lanes)
