"""Replays a schedule over gRPC against a decoupled model of Triton Inference Server.

Requests are sent at the same times as by harness.driver.loop, and records mean the same, with two exceptions. Time
stamps are taken in user space, when tritonclient hands over a response: gRPC reads the socket itself and does not
pass on the kernel's arrival time (`stamped_reads` is 0). And a request counts as sent when tritonclient gets it: its
way through gRPC's threads, half a millisecond on an idle machine, is part of TTFT.

A stream takes three threads, a token about 0.3 ms of CPU time: one process can drive about 250 streams on 2 cores,
and there is only one. The client's CPU seconds are in the manifest."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.adapter import Tensor, TritonDialect, TritonModel
from harness.decode.replay import InterruptedReplay, Measured
from harness.decode.triton import record_of
from harness.driver.address import Address
from harness.driver.triton.loop import ASK_S, Loop, Work, new_client, said
from harness.errors import CannotStart
from harness.records.manifest import ClientFacts
from harness.workload.schedule import Schedule

INSTALL = ".venv/bin/pip install '.[triton]'"


def replay_triton(
    address: Address,
    dialect: TritonDialect,
    schedule: Schedule,
    deadline_s: float,
    text: Callable[[Sequence[int]], str],
) -> Measured:
    """Sends every request according to the schedule; `text` turns a prompt's ids into text. A request that has not
    ended `deadline_s` after the send is aborted, which tells the server to stop.

    Raises CannotStart if tritonclient is not installed, and InterruptedReplay at Ctrl-C; a server's errors are failed
    records."""
    _require_library()
    model, inputs, unreachable = dialect.models[0], {}, None
    try:
        found = served_model(address, dialect)
        model = found.model
        inputs = {r.index: found.inputs(text(r.prompt_ids), r.output_tokens) for r in schedule.requests}
    except CannotStart as problem:
        unreachable = str(problem)
    stopped = False
    work = Work(
        address=address,
        model=model.name,
        schedule=schedule,
        inputs=inputs,
        deadline_s=deadline_s,
        unreachable=unreachable,
    )
    with contextlib.closing(Loop(work)) as loop:
        loop.connect()
        # A garbage collection of some milliseconds would count as the engine's latency.
        gc.collect()
        gc.disable()
        try:
            cpu, start_ns = time.process_time(), time.monotonic_ns()
            try:
                loop.run(start_ns)
            except KeyboardInterrupt:
                stopped = True
                loop.give_up("interrupted")
            cpu_s, wall_s = time.process_time() - cpu, (time.monotonic_ns() - start_ns) / 1e9
        finally:
            gc.enable()
    measured = Measured(
        records=(record_of(call, model, start_ns) for call in loop.calls),
        start_ns=start_ns,
        duration_s=wall_s,
        client=ClientFacts(cpu_s=cpu_s),
    )
    if stopped:
        raise InterruptedReplay(measured)
    return measured


def _require_library() -> None:
    try:
        import tritonclient.grpc  # noqa: F401  (only whether it is there)
    except ImportError:
        raise CannotStart(f"needs tritonclient, which is not installed: {INSTALL}") from None


@contextlib.contextmanager
def _asking(address: Address) -> Iterator[Any]:
    """A client for a few queries. Raises CannotStart if one is not answered."""
    from tritonclient.utils import InferenceServerException

    if address.problem:
        raise CannotStart(address.problem)
    client = new_client(address)
    try:
        yield client
    except InferenceServerException as problem:
        raise CannotStart(f"does not answer gRPC at {address.authority}: {said(problem)}") from None
    finally:
        client.close()


@dataclass(frozen=True, slots=True)
class Served:
    """A model as this server has it: data type and shape of each input; -1 means any size."""

    model: TritonModel
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]

    def inputs(self, prompt: str, output_tokens: int) -> list[Any]:
        """The encoded inputs of one request."""
        model = self.model
        tensors = [Tensor(model.prompt, "BYTES", prompt.encode()), *model.constants]
        for name in (model.length, model.least):
            if name is not None:
                datatype, _ = self.tensors.get(name, ("INT32", ()))
                tensors.append(Tensor(name, datatype, output_tokens))
        return [self._encoded(tensor) for tensor in tensors]

    def _encoded(self, tensor: Tensor) -> Any:
        from tritonclient.grpc import InferInput
        from tritonclient.utils import triton_to_np_dtype

        _, shape = self.tensors.get(tensor.name, ("", (1,)))
        one = [max(1, size) for size in shape]  # one value, with or without a batch dimension
        value = np.full(one, tensor.value, dtype=triton_to_np_dtype(tensor.datatype))
        return InferInput(tensor.name, one, tensor.datatype).set_data_from_numpy(value)


def served_model(address: Address, dialect: TritonDialect) -> Served:
    """The first of the dialect's models that the server has ready and that streams. Raises CannotStart."""
    _require_library()
    whole = []  # models that answer once
    with _asking(address) as client:
        for model in dialect.models:
            if not client.is_model_ready(model.name, client_timeout=ASK_S):
                continue
            config = client.get_model_config(model.name, client_timeout=ASK_S).config
            if config.model_transaction_policy.decoupled:
                inputs = client.get_model_metadata(model.name, client_timeout=ASK_S).inputs
                return Served(model, {i.name: (i.datatype, tuple(i.shape)) for i in inputs})
            whole.append(model.name)
    if whole:
        raise CannotStart(
            f"cannot stream: its model {whole[0]} is not decoupled; set `decoupled: True` in its model.yaml (in a "
            "config.pbtxt `model_transaction_policy { decoupled: True }`) and start it again"
        )
    raise CannotStart(f"has none of these models ready: {', '.join(model.name for model in dialect.models)}")
