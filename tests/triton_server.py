"""A real Triton Inference Server whose models emit tokens on a schedule and log when they did.

Two parts in one file: `serving`, for tests, starts this very file as a program of the environment that holds
PyTriton, whose wheel carries the tritonserver program and its Python back end. That part imports nothing of this
project.

A prompt is a JSON object that says what to do with it, see `plan`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

VERSION = "0.7.0"
START_S, STOP_S = 120.0, 20.0
LLM_API, LEGACY, WHOLE = "tensorrt_llm", "ensemble", "whole"


# -- the side of the tests -----------------------------------------------------------------------------------


def plan(name: str, **how: Any) -> str:
    """A prompt. `name` stands in the log beside what was done. `ttft_s`, then a token every `interval_s`;
    `stop_at` ends early, `fail_at` breaks there, both in tokens; `per_response` tokens at a time; `delta` true:
    each response has only what is new, else all so far; `counts`: "new", "running", "final"; `mute` true: tokens
    without text."""
    return json.dumps({"name": name, **how})


@dataclass(frozen=True, slots=True)
class Served:
    """The logged facts of one request: when the model had it, and when it let go of each response (monotonic
    ns). `cut`: it did not get to its end."""

    name: str
    arrived_ns: int
    yielded_ns: tuple[int, ...]
    cut: bool


@dataclass(frozen=True, slots=True)
class Server:
    pid: int
    http_port: int
    grpc_port: int
    folder: Path

    def log(self) -> dict[str, Served]:
        """What was done so far, by the name in the prompt."""
        lines = (self.folder / "requests.jsonl").read_text().splitlines()
        served = [Served(**{**json.loads(line), "yielded_ns": tuple(json.loads(line)["yielded_ns"])}) for line in lines]
        return {one.name: one for one in served}

    def output(self) -> str:
        """What tritonserver and PyTriton printed."""
        return (self.folder / "output.log").read_text(errors="replace")


def interpreter() -> Path:
    """Python of the environment that holds PyTriton, made now if need be. Raises CannotStart."""
    from harness.adapter import Venv
    from harness.launch.install import ensure_environment
    from harness.paths import cache_folder

    recipe = Venv((f"nvidia-pytriton=={VERSION}",))
    folder = ensure_environment(f"pytriton-{VERSION}", recipe, cache_folder(), lambda line: None)
    return folder / "bin" / "python"


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in held]


@contextlib.contextmanager
def serving(verbose: bool = False) -> Iterator[Server]:
    """A server on loopback, ready; nothing of it is left afterwards. `verbose`: its output tells of each step of
    each request, which takes its time. Raises CannotStart where it cannot be had, RuntimeError where it does not
    get ready."""
    python = interpreter()
    http_port, grpc_port = free_ports(2)
    # Its Python stub is linked against libpython by name alone: another one that the loader finds first breaks it.
    env = {**os.environ, "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))}
    with tempfile.TemporaryDirectory(prefix="triton-") as name:  # a short path: its sockets lie there
        folder = Path(name)
        command = [str(python), __file__, str(http_port), str(grpc_port), name, str(int(verbose))]
        with (folder / "output.log").open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=env)
        server = Server(process.pid, http_port, grpc_port, folder)
        try:
            _wait_ready(process, server)
            yield server
        finally:
            _end(process)


def _wait_ready(process: subprocess.Popen[bytes], server: Server) -> None:
    until = time.monotonic() + START_S
    while not (server.folder / "ready").exists():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"tritonserver did not get ready:\n{server.output()[-3000:]}")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Politely, so that it takes its shared memory with it, then surely."""
    import psutil

    tree: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        tree = psutil.Process(process.pid).children(recursive=True)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    _, alive = psutil.wait_procs(tree, timeout=2.0)
    for left in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    process.kill()
    process.wait()


# -- the side of the server ----------------------------------------------------------------------------------


def instructions(prompt: bytes) -> dict[str, Any]:
    """What `plan` wrote; of a prompt that is plain text, a brisk schedule."""
    try:
        asked: dict[str, Any] = json.loads(prompt)
        return asked
    except ValueError:
        return {"name": prompt.decode(), "ttft_s": 0.02, "interval_s": 0.005}


def note(log: TextIO, name: str, arrived_ns: int, yielded_ns: list[int], cut: bool) -> None:
    line = {"name": name, "arrived_ns": arrived_ns, "yielded_ns": yielded_ns, "cut": cut}
    log.write(json.dumps(line) + "\n")
    log.flush()


def text(data: str, batched: bool) -> Any:
    import numpy as np

    return np.array([[data.encode()]] if batched else [data.encode()], dtype=np.object_)


def number(value: int) -> Any:
    import numpy as np

    return np.array([[value]], dtype=np.int32)


async def tokens(log: TextIO, request: Any, length: int, batched: bool) -> AsyncIterator[list[dict[str, Any]]]:
    import asyncio

    arrived_ns = time.monotonic_ns()
    asked = instructions(request["text_input"].item())
    step = asked.get("per_response", 1)
    whole = min(length, asked.get("stop_at", length))
    yielded: list[int] = []
    done, due = 0, time.monotonic() + asked.get("ttft_s", 0.0)
    try:
        while done < whole:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if done >= asked.get("fail_at", length + 1):
                raise ValueError("the model broke down")
            new = min(step, whole - done)
            done += new
            answer = response(asked, new, done, done == whole, batched)
            yielded.append(time.monotonic_ns())
            yield [answer]
            due += asked.get("interval_s", 0.0)
        note(log, asked["name"], arrived_ns, yielded, False)
    except BaseException:
        note(log, asked["name"], arrived_ns, yielded, True)
        raise


def response(asked: dict[str, Any], new: int, done: int, last: bool, batched: bool) -> dict[str, Any]:
    """The legacy model alone is batched."""
    counts = asked.get("counts", "new")
    words = "" if asked.get("mute") else " x" * (new if asked.get("delta") else done)
    answer = {"text_output": text(words, batched)}
    if batched:
        answer["num_input_tokens"] = number(len(asked["name"]))
        if counts != "final" or last:
            answer["num_output_tokens"] = number(new if counts == "new" else done)
    else:
        answer["finish_reason"] = text("length" if last else "None", batched)
    return answer


def inputs(*rest: tuple[str, Any], shape: tuple[int, ...]) -> list[Any]:
    from pytriton.model_config import Tensor

    optional = [Tensor(name=name, dtype=kind, shape=(1,), optional=True) for name, kind in rest]
    return [Tensor(name="text_input", dtype=bytes, shape=shape), *optional]


def text_output() -> Any:
    from pytriton.model_config import Tensor

    return Tensor(name="text_output", dtype=bytes, shape=(-1,))


def bind_llm_api(triton: Any, log: TextIO) -> None:
    import numpy as np
    from pytriton.model_config import ModelConfig, Tensor

    async def llm_api(requests: Any) -> AsyncIterator[list[dict[str, Any]]]:
        (request,) = requests
        async for answer in tokens(log, request, int(request["sampling_param_max_tokens"].item()), False):
            yield answer

    triton.bind(
        LLM_API,
        llm_api,
        inputs(
            ("streaming", np.bool_),
            ("sampling_param_max_tokens", np.int32),
            ("sampling_param_temperature", np.float32),
            ("sampling_param_top_k", np.int32),
            ("sampling_param_exclude_input_from_output", np.bool_),
            ("return_finish_reason", np.bool_),
            shape=(-1,),
        ),
        [text_output(), Tensor(name="finish_reason", dtype=bytes, shape=(-1,))],
        config=ModelConfig(batching=False, decoupled=True),
    )


def bind_legacy(triton: Any, log: TextIO) -> None:
    import numpy as np
    from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor

    async def legacy(requests: Any) -> AsyncIterator[list[dict[str, Any]]]:
        (request,) = requests
        assert request["min_tokens"].item() == request["max_tokens"].item()
        async for answer in tokens(log, request, int(request["max_tokens"].item()), True):
            yield answer

    # One request at a time reaches the model: merged ones would have to answer in step.
    triton.bind(
        LEGACY,
        legacy,
        inputs(
            ("max_tokens", np.int32),
            ("min_tokens", np.int32),
            ("stream", np.bool_),
            ("top_k", np.int32),
            ("exclude_input_in_output", np.bool_),
            ("return_num_input_tokens", np.bool_),
            ("return_num_output_tokens", np.bool_),
            shape=(1,),
        ),
        [
            text_output(),
            Tensor(name="num_input_tokens", dtype=np.int32, shape=(1,)),
            Tensor(name="num_output_tokens", dtype=np.int32, shape=(1,)),
        ],
        config=ModelConfig(batching=True, max_batch_size=1, batcher=DynamicBatcher(), decoupled=True),
    )


def bind_whole(triton: Any) -> None:
    from pytriton.model_config import ModelConfig

    def whole(requests: Any) -> list[dict[str, Any]]:
        return [{"text_output": text("all at once", False)} for _ in requests]

    triton.bind(WHOLE, whole, inputs(shape=(-1,)), [text_output()], config=ModelConfig(batching=False))


def main(http_port: int, grpc_port: int, folder: Path, verbose: int) -> None:
    """Serves until it is told to stop."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else it would end without ending tritonserver
    from pytriton.triton import Triton, TritonConfig

    log = (folder / "requests.jsonl").open("w")
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=http_port,
        grpc_address="127.0.0.1",
        grpc_port=grpc_port,
        allow_metrics=False,
        exit_timeout_secs=5,
        log_verbose=verbose,
    )
    with Triton(config=config, workspace=folder / "workspace") as triton:
        bind_llm_api(triton, log)
        bind_legacy(triton, log)
        bind_whole(triton)
        triton.run()
        (folder / "ready").touch()
        triton.serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
