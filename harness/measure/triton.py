"""Replays a schedule over gRPC against a decoupled model of Triton Inference Server.

What is sent when is as in harness.measure.driver; so is what a record means. Each request in flight has a
connection and a bidirectional stream of its own, opened before the clock, and all inputs are encoded by then.
While the clock runs a response is a time stamp and the message as it came; tokens are derived afterwards.

The time stamps are those of user space, taken when tritonclient hands a response over: gRPC reads the socket
itself and keeps the kernel's stamps to itself. A record says so by `stamped_reads` 0."""

from __future__ import annotations

import contextlib
import gc
import heapq
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from harness.adapter import Tensor, TritonDialect, TritonModel
from harness.errors import CannotStart
from harness.measure.endpoint import Endpoint
from harness.measure.recording import Measured
from harness.records import Chunk, RequestRecord
from harness.schedule import Request, Schedule

_ASK_S = 10.0  # for a connection, and for each question before the clock
_SHOWN = 300  # characters of a server's reason
_HELPERS = 32  # threads that open and close connections beside the clock
_FINAL = "triton_final_response"
_CHANNEL = (
    ("grpc.use_local_subchannel_pool", 1),  # else all clients of a process share one connection
    ("grpc.enable_http_proxy", 0),  # what a proxy of the environment costs would be the engine's
    ("grpc.enable_retries", 0),  # a request that was sent twice would count once
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
_mono = time.monotonic_ns


class InterruptedReplay(KeyboardInterrupt):
    """Ctrl-C while the clock ran; `measured` is what had come back by then."""

    def __init__(self, measured: Measured) -> None:
        super().__init__()
        self.measured = measured


def replay_triton(
    endpoint: Endpoint,
    dialect: TritonDialect,
    schedule: Schedule,
    deadline_s: float,
    text: Callable[[Sequence[int]], str],
) -> Measured:
    """Sends every request as the schedule says; `text` writes a prompt's ids out. A request that has not ended
    `deadline_s` after it was sent is cut off, which tells the server to stop.

    Raises CannotStart where tritonclient is not installed, InterruptedReplay at Ctrl-C, and nothing for what
    a server does wrong: those are failed records."""
    _library()
    problem, served = endpoint.problem, None
    if problem is None:
        try:
            served = _served(endpoint, dialect)
        except CannotStart as refusal:
            problem = str(refusal)
    model = served.model if served else dialect.models[0]
    inputs = {r.index: served.inputs(r, text(r.prompt_ids)) for r in schedule.requests} if served else {}
    stopped = False
    with contextlib.closing(_Loop(endpoint, model.name, schedule, inputs, deadline_s, problem)) as loop:
        loop.connect()
        # A collection pause of milliseconds would be read as the engine's latency.
        gc.collect()
        gc.disable()
        try:
            cpu, start_ns = time.process_time(), _mono()
            try:
                loop.run(start_ns)
            except KeyboardInterrupt:
                stopped = True
                loop.give_up("interrupted")
            cpu_s, wall_s = time.process_time() - cpu, (_mono() - start_ns) / 1e9
        finally:
            gc.enable()
    records = (record_of(call, model, start_ns) for call in loop.calls)
    measured = Measured(records, start_ns, wall_s, {"cpu_s": cpu_s, "workers": 1, "clock_steps": 0})
    if stopped:
        raise InterruptedReplay(measured)
    return measured


def ready_model(endpoint: Endpoint, dialect: TritonDialect) -> TritonModel:
    """The first of the dialect's models that the server has ready and that streams. Raises CannotStart."""
    return _served(endpoint, dialect).model


def server_version(endpoint: Endpoint) -> str:
    """What the server calls its version. Raises CannotStart where it does not answer."""
    with _asking(endpoint) as client:
        return str(client.get_server_metadata(client_timeout=_ASK_S).version)


# -- before the clock ------------------------------------------------------------------------------------


def _library() -> Any:
    try:
        import tritonclient.grpc
    except ImportError:
        raise CannotStart(
            "needs tritonclient, which is not installed: pip install 'inference-engine-comparison[triton]'"
        ) from None
    return tritonclient.grpc


def _client(endpoint: Endpoint) -> Any:
    return _library().InferenceServerClient(endpoint.authority, ssl=endpoint.tls, channel_args=_CHANNEL)


@contextlib.contextmanager
def _asking(endpoint: Endpoint) -> Iterator[Any]:
    """A client for a few questions. Raises CannotStart where one is not answered."""
    from tritonclient.utils import InferenceServerException

    if endpoint.problem:
        raise CannotStart(endpoint.problem)
    client = _client(endpoint)
    try:
        yield client
    except InferenceServerException as problem:
        raise CannotStart(f"does not answer gRPC at {endpoint.authority}: {_said(problem)}") from None
    finally:
        client.close()


@dataclass(frozen=True, slots=True)
class _Served:
    """A model as this server has it: data type and shape of each input, -1 where the request decides."""

    model: TritonModel
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]

    def inputs(self, request: Request, prompt: str) -> list[Any]:
        """What a request sends besides the model's name, encoded."""
        model = self.model
        tensors = [Tensor(model.prompt, "BYTES", prompt.encode()), *model.constants]
        for name in (model.length, model.least):
            if name is not None:
                tensors.append(Tensor(name, self.tensors.get(name, ("INT32", ()))[0], request.output_tokens))
        return [self._encoded(tensor) for tensor in tensors]

    def _encoded(self, tensor: Tensor) -> Any:
        from tritonclient.utils import triton_to_np_dtype

        _, shape = self.tensors.get(tensor.name, ("", (1,)))
        one = [max(1, size) for size in shape]  # a batch of one, one string
        encoded = _library().InferInput(tensor.name, one, tensor.datatype)
        return encoded.set_data_from_numpy(np.full(one, tensor.value, dtype=triton_to_np_dtype(tensor.datatype)))


def _served(endpoint: Endpoint, dialect: TritonDialect) -> _Served:
    once = None
    with _asking(endpoint) as client:
        for model in dialect.models:
            if not client.is_model_ready(model.name, client_timeout=_ASK_S):
                continue
            config = client.get_model_config(model.name, client_timeout=_ASK_S).config
            if not config.model_transaction_policy.decoupled:
                once = once or model.name
                continue
            inputs = client.get_model_metadata(model.name, client_timeout=_ASK_S).inputs
            return _Served(model, {i.name: (i.datatype, tuple(i.shape)) for i in inputs})
    if once:
        raise CannotStart(
            f"has model {once} not decoupled, so that it cannot stream: set `decoupled: True` in its model.yaml "
            "(`model_transaction_policy { decoupled: True }` in a config.pbtxt) and start it again"
        )
    raise CannotStart(f"has none of its models ready: {', '.join(model.name for model in dialect.models)}")


def _said(problem: Any) -> str:
    """The reason of an InferenceServerException in one line, as `UNAVAILABLE: Socket closed`."""
    status = (problem.status() or "").removeprefix("StatusCode.")
    lines = (problem.message() or "no reason given").split("\n")
    # A model in Python sends its whole traceback, which ends with what went wrong.
    reason = next(line for line in reversed(lines) if line.strip() or line is lines[0]).strip()
    return f"{status}: {reason}"[:_SHOWN] if status else reason[:_SHOWN]


# -- while the clock runs --------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Call:
    """The raw facts of one request; monotonic nanoseconds. `responses`: when each came, and tritonclient's
    InferResult. `fault` is null when the server said that a response was the last."""

    request: Request
    connect_ns: int | None = None  # duration
    sent_ns: int | None = None
    done_ns: int | None = None
    fault: str | None = None
    cancelled: bool = False
    responses: list[tuple[int, Any]] = field(default_factory=list)
    lane: _Lane | None = None
    over: bool = False  # the loop is through with it


class _Lane:
    """A connection with one stream, which carries one request at a time; `told` hears of the end of each."""

    def __init__(self, endpoint: Endpoint, told: Callable[[Call], None]) -> None:
        self.endpoint, self.told = endpoint, told
        self.client: Any = None
        self.call: Call | None = None
        self.connect_ns = 0
        self.broken = False

    def open(self, limit_s: float) -> None:
        """Connects, with one question and its answer, and starts the stream. Raises ConnectionError."""
        from tritonclient.utils import InferenceServerException

        began = _mono()
        self.client = _client(self.endpoint)
        try:
            self.client.is_server_live(client_timeout=limit_s)
            self.connect_ns = _mono() - began
            self.client.start_stream(self._arrived)
        except InferenceServerException as problem:
            self.close()
            raise ConnectionError(f"connection failed: {_said(problem)}") from None

    def send(self, call: Call, model: str, inputs: Sequence[Any]) -> None:
        """Raises InferenceServerException where the stream has ended meanwhile."""
        self.call, call.lane, call.connect_ns = call, self, self.connect_ns
        call.sent_ns = _mono()
        # Without the empty last response of a model that sends one, its end would never be known.
        self.client.async_stream_infer(
            model, inputs, request_id=str(call.request.index), enable_empty_final_response=True
        )

    def _arrived(self, result: Any, error: Any) -> None:
        """Called by the stream's own thread, for each response."""
        now = _mono()
        call = self.call
        if error is not None:
            # It may still send what belongs to the request that failed, and the next one would be taken to have
            # ended: the stream is not used again.
            self.broken = True
            if call is not None:
                call.fault = _said(error)
        elif call is not None:
            call.responses.append((now, result))
            parameters = result.get_response().parameters
            if _FINAL not in parameters or not parameters[_FINAL].bool_param:
                return
        if call is not None:
            self.call, call.done_ns = None, now
            self.told(call)

    def close(self) -> None:
        """Ends the stream at once, which tells the server to stop what it does for it, and the connection."""
        self.call = None
        stream = self.client._stream
        self.client.stop_stream(cancel_requests=True)
        if stream is not None:
            # tritonclient (2.73) leaves the thread that feeds a cancelled stream waiting for its next request for
            # ever: a thread for every request that was in flight, after every run.
            stream._request_queue.put(None)
        self.client.close()


class Turns:
    """Whose turn it is: slots, the ramp over which they open, scheduled times, static batches."""

    def __init__(self, schedule: Schedule, start_ns: int) -> None:
        self.waiting = deque(schedule.requests)
        self.busy = 0
        self.start_ns = start_ns
        self.slots = len(schedule.requests) if schedule.slots is None else schedule.slots
        self.ramp_ns = int(schedule.ramp_s * 1e9)
        self.batch_left = Counter(request.batch for request in schedule.requests)

    def due_ns(self, now: int) -> int | None:
        """When the next request may be sent; null: not before another has ended, or none is left."""
        if not self.waiting or self.busy >= self.slots:
            return None
        request = self.waiting[0]
        if request.batch != min(self.batch_left):
            return None
        due = self.start_ns + int((request.scheduled_s or 0.0) * 1e9)
        if self.busy and now < self.start_ns + self.ramp_ns:
            opened = 1 + (now - self.start_ns) * self.slots // self.ramp_ns
            if self.busy >= opened:
                due = max(due, self.start_ns + opened * self.ramp_ns // self.slots + 1)
        return due

    def take(self) -> Request:
        self.busy += 1
        return self.waiting.popleft()

    def ended(self, request: Request) -> None:
        self.busy -= 1
        self.batch_left[request.batch] -= 1
        if not self.batch_left[request.batch]:
            del self.batch_left[request.batch]


class _Loop:
    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        schedule: Schedule,
        inputs: Mapping[int, Sequence[Any]],
        deadline_s: float,
        unreachable: str | None,
    ) -> None:
        self.endpoint, self.model, self.schedule, self.inputs = endpoint, model, schedule, inputs
        self.deadline_s, self.unreachable = deadline_s, unreachable
        self.calls: list[Call] = []
        self.told: SimpleQueue[Call] = SimpleQueue()  # by other threads: its lane is open, or its request has ended
        self.lanes: set[_Lane] = set()
        self.idle: list[_Lane] = []
        self.limits: list[tuple[int, int, bool, Call]] = []  # when, which, whether its user gives it up
        self.helpers = ThreadPoolExecutor(_HELPERS)

    def connect(self) -> None:
        """One lane for each request that can be in flight, all open before the clock.

        Where the first cannot be had, no request is tried: each would only wait as long for the same reason."""
        if self.unreachable:
            return
        lanes = [_Lane(self.endpoint, self.told.put) for _ in range(self.schedule.connections)]
        try:
            for lane in lanes[:1]:
                lane.open(self._limit_s)
        except ConnectionError as problem:
            self.unreachable = str(problem)
            return
        with contextlib.suppress(ConnectionError):  # what is missing is opened when it is wanted
            for lane, _ in zip(lanes, self.helpers.map(self._opened, lanes), strict=True):
                self._keep(lane)

    @property
    def _limit_s(self) -> float:
        return min(_ASK_S, self.deadline_s)

    def _opened(self, lane: _Lane) -> None:
        if lane.client is None:
            lane.open(self._limit_s)

    def _keep(self, lane: _Lane) -> None:
        self.lanes.add(lane)
        self.idle.append(lane)

    def run(self, start_ns: int) -> None:
        """From the first request to the last response."""
        turns = self.turns = Turns(self.schedule, start_ns)
        until = None if self.schedule.duration_s is None else start_ns + int(self.schedule.duration_s * 1e9)
        while True:
            now = _mono()
            if until is not None and now >= until:
                turns.waiting.clear()
            while (due := turns.due_ns(now)) is not None and due <= now:
                self._begin(turns.take())
                now = _mono()
            if not turns.busy and not turns.waiting:
                return
            wakes = [due, until if turns.waiting else None, self.limits[0][0] if self.limits else None]
            self._listen(min(at for at in wakes if at is not None))
            self._expire(_mono())

    def _begin(self, request: Request) -> None:
        call = Call(request)
        self.calls.append(call)
        now = _mono()
        heapq.heappush(self.limits, (now + int(self.deadline_s * 1e9), request.index, False, call))
        if request.cancel_after_s is not None:
            heapq.heappush(self.limits, (now + int(request.cancel_after_s * 1e9), request.index, True, call))
        if self.unreachable:
            self._end(call, self.unreachable)
            return
        while self.idle:
            lane = self.idle.pop()
            if not lane.broken:
                self._send(lane, call)
                return
            self._drop(lane)
        self.helpers.submit(self._open_for, call)

    def _open_for(self, call: Call) -> None:
        """A lane for a request that found none; in a thread of its own, for connecting takes its time."""
        lane = _Lane(self.endpoint, self.told.put)
        try:
            lane.open(self._limit_s)
            call.lane = lane
        except ConnectionError as problem:
            call.fault = str(problem)
        self.told.put(call)

    def _send(self, lane: _Lane, call: Call) -> None:
        from tritonclient.utils import InferenceServerException

        try:
            lane.send(call, self.model, self.inputs[call.request.index])
        except InferenceServerException as problem:
            lane.broken = True
            self._end(call, f"send failed: {_said(problem)}")

    def _listen(self, until_ns: int) -> None:
        """Until something ends or a lane is open, `until_ns` at the latest; then whatever there is."""
        try:
            call = self.told.get(timeout=max(0.0, (until_ns - _mono()) / 1e9))
            while True:
                self._hear(call)
                call = self.told.get_nowait()
        except Empty:
            return

    def _hear(self, call: Call) -> None:
        opened = call.lane if call.sent_ns is None else None
        if opened is not None:
            self.lanes.add(opened)
        if call.over:
            if opened is not None:  # for a request that was given up meanwhile
                self.idle.append(opened)
        elif opened is not None:
            self._send(opened, call)
        else:
            self._end(call, call.fault)

    def _end(self, call: Call, fault: str | None) -> None:
        call.over, call.fault = True, fault
        if call.done_ns is None:
            call.done_ns = _mono()
        self.turns.ended(call.request)
        lane = call.lane
        if lane is None:
            return
        if fault is None and not lane.broken:
            self.idle.append(lane)
        else:
            self._drop(lane)

    def _drop(self, lane: _Lane) -> None:
        lane.call = None
        self.lanes.discard(lane)
        self.helpers.submit(lane.close)

    def _expire(self, now: int) -> None:
        """Ends what has had its time."""
        while self.limits and (self.limits[0][0] <= now or self.limits[0][3].over):
            _, _, given_up, call = heapq.heappop(self.limits)
            if not call.over:
                call.cancelled = given_up
                self._end(call, "given up by its user" if given_up else f"no end after {self.deadline_s:g} s")

    def give_up(self, why: str) -> None:
        """Ends what is in flight; nothing more is sent."""
        for call in self.calls:
            if not call.over:
                self._end(call, why)

    def close(self) -> None:
        """Every connection, and the threads."""
        self.helpers.shutdown()
        while not self.told.empty():  # opened for a request that was given up meanwhile
            if (lane := self.told.get().lane) is not None:
                self.lanes.add(lane)
        with ThreadPoolExecutor(_HELPERS) as helpers:
            for lane in self.lanes:
                helpers.submit(lane.close)


# -- after the clock -------------------------------------------------------------------------------------


def record_of(call: Call, model: TritonModel, start_ns: int) -> RequestRecord:
    """Never raises for what a server sent: that is a failed record with a reason."""
    request, fault = call.request, call.fault
    said = _Said()
    try:
        for at_ns, result in call.responses:
            said.take(at_ns - start_ns, result, model)
    except (ValueError, TypeError) as problem:
        fault = fault or f"not a response of this model: {problem}"[:_SHOWN]
    tokens, source = count(said.heard)
    if fault is None and request.output_tokens and not tokens:
        fault = "the stream ended without any output"
    chunks = tuple(Chunk(at, at, new) for at, new in tokens)

    def seconds(at_ns: int | None) -> float | None:
        return None if at_ns is None else (at_ns - start_ns) / 1e9

    return RequestRecord(
        index=request.index,
        scheduled_s=request.scheduled_s,
        sent_s=seconds(call.sent_ns),
        first_token_s=chunks[0].arrival_ns / 1e9 if chunks else None,
        last_token_s=chunks[-1].arrival_ns / 1e9 if chunks else None,
        done_s=seconds(call.done_ns),
        prompt_tokens=said.prompt_tokens,
        output_tokens=sum(chunk.tokens for chunk in chunks),
        finish_reason=said.finish_reason,
        status="cancelled" if call.cancelled else "failed" if fault else "ok",
        error=fault,
        http_status=None,
        uploaded_s=None,
        connect_s=None if call.connect_ns is None else call.connect_ns / 1e9,
        sent_tokens=len(request.prompt_ids),
        asked_tokens=request.output_tokens,
        reported_tokens=said.total,
        first_event_tokens=chunks[0].tokens if chunks else None,
        cached_tokens=None,
        count_source=source,
        reads=len(call.responses),
        stamped_reads=0,
        chunks=chunks,
    )


class _Said:
    """What the responses of one request said. `heard`, for each: its time, whether it brought text, and the
    tokens so far where it told them."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bool, int | None]] = []
        self.text_bytes = 0
        self.total: int | None = None
        self.prompt_tokens: int | None = None
        self.finish_reason: str | None = None

    def take(self, at_ns: int, result: Any, model: TritonModel) -> None:
        """Raises ValueError or TypeError for a tensor that is not what the model's description says."""
        text = _first(result, model.text) or b""
        size = len(text)
        grew = size > (self.text_bytes if model.cumulative else 0)
        self.text_bytes = max(self.text_bytes, size)
        told = _first(result, model.output_count)
        if told is not None:
            self.total = int(told) + (self.total or 0 if model.counts == "new" else 0)
        self.heard.append((at_ns, grew, None if told is None else self.total))
        prompt_tokens, reason = _first(result, model.prompt_count), _first(result, model.finish_reason)
        if prompt_tokens is not None:
            self.prompt_tokens = int(prompt_tokens)
        if reason and reason != b"None":  # how a model in Python writes that there is none yet
            self.finish_reason = reason.decode(errors="replace")


def _first(result: Any, name: str | None) -> Any:
    """The first element of an output; null where the response or the model has none."""
    tensor = None if name is None else result.as_numpy(name)
    return None if tensor is None or not tensor.size else tensor.flat[0]


def count(heard: Iterable[tuple[int, bool, int | None]]) -> tuple[list[tuple[int, int]], str]:
    """The tokens that arrived at each time, in order, and what they were counted by (RequestRecord.count_source).

    `heard`: (time, whether the response brought text, tokens so far or null) of each response. A count that
    covers several responses with text is spread evenly over them, for want of anything better; what no count
    covers is one token a response."""
    arrived: list[tuple[int, int]] = []
    uncounted: list[int] = []
    total, source = 0, "none"
    for at, text, so_far in heard:
        if text:
            uncounted.append(at)
        if so_far is not None and so_far > total:
            times = uncounted or [at]
            source = "final usage" if times != [at] or source == "final usage" else "running usage"
            arrived += _shares(so_far - total, times)
            total, uncounted = so_far, []
    if uncounted:
        source = "events"
        arrived += _shares(len(uncounted), uncounted)
    return [(at, new) for at, new in arrived if new], source


def _shares(tokens: int, times: Sequence[int]) -> Iterator[tuple[int, int]]:
    n = len(times)
    return ((at, tokens * (i + 1) // n - tokens * i // n) for i, at in enumerate(times))
