"""The command `lmdeploy` with a stand-in for TurboMind, its compiled engine, which needs a GPU.

LMDeploy's own arguments, HTTP server, request handling and tokenizer run as they are; only the tokens are made here.
Run by the Python of an environment that has LMDeploy (tests/lmdeploy_server.py). What it learned from the classes
that call it: lmdeploy/turbomind/turbomind.py of 0.18.0.

Answers: a greedy one (`top_k` 1) depends on the prompt alone. One token is no whole character. Some steps bring several
tokens. Unless told to ignore it, the end of sequence comes after ENDS_AFTER tokens. The file that
LMDEPLOY_STANDIN_LOG names gets a line of JSON for each request: what the engine was asked, and what it generated."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

STEP_S = 0.004
STEPS = (1, 1, 1, 2, 1, 3)  # tokens that each step brings, again and again
ENDS_AFTER = 3  # tokens
PART = 9  # which token of an answer is no whole character
PART_ID, WORDS = 157, (300, 8000)  # ids of the model `tiny`: a byte of a longer character; words
CACHE_BLOCK = 64  # tokens of a prompt that are kept together
RUNNING, FINISHED, CANCELLED = 0, 7, 8  # TurboMindInstance.errcode_map


class Tensor:
    """What TurboMind and its Python side exchange."""

    type = "int32"

    def __init__(self, values: Any) -> None:
        self.values = values

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.values.__dlpack_device__()


class Progress:
    """How far a request is: its status and the tokens of prompt and answer."""

    def __init__(self, tokens: int) -> None:
        self.now = SimpleNamespace(status=RUNNING, seq_len=tokens)

    def consume(self) -> SimpleNamespace:
        return self.now


class Generation:
    """One slot of the engine, which answers one request after another."""

    def __init__(self, engine: Any) -> None:
        self.config = engine.engine_config
        self.seen: set[tuple[int, ...]] = engine.seen
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()

    def forward(
        self, inputs: Any, media: Any, session: Any, asked: Any, stream: bool, metered: bool, tell: Callable[[], None]
    ) -> tuple[dict[str, Tensor], Progress, SimpleNamespace]:
        """Begins an answer; `tell` is called after each step."""
        import torch

        prompt = tuple(inputs["input_ids"].values.tolist())
        answer = self.answer(prompt, asked)
        whole = torch.tensor([*prompt, *answer], dtype=torch.int32)
        progress, now_us = Progress(len(prompt)), int(time.time() * 1e6)
        self.cancelled.clear()
        threading.Thread(target=self.run, args=(len(prompt), len(answer), progress, asked, tell), daemon=True).start()
        metrics = SimpleNamespace(enqueue_time=now_us, scheduled_time=now_us, cached_tokens=self.cached(prompt))
        return {"output_ids": Tensor(whole)}, progress, metrics

    def answer(self, prompt: tuple[int, ...], asked: Any) -> list[int]:
        draw = random.Random(repr(prompt) if asked.top_k == 1 else None)
        length = min(asked.max_new_tokens, self.config.session_len - len(prompt))
        ids = [PART_ID if at == PART else draw.randrange(*WORDS) for at in range(length)]
        stop_ids = getattr(asked, "stop_ids", None)
        if stop_ids and length > ENDS_AFTER:
            return [*ids[:ENDS_AFTER], stop_ids[0][0]]
        return ids

    def cached(self, prompt: tuple[int, ...]) -> int:
        again = self.config.enable_prefix_caching and prompt in self.seen
        self.seen.add(prompt)
        return (len(prompt) - 1) // CACHE_BLOCK * CACHE_BLOCK if again else 0

    def run(self, before: int, length: int, progress: Progress, asked: Any, tell: Callable[[], None]) -> None:
        for done in reached(length):
            time.sleep(STEP_S)
            if self.cancelled.is_set():
                break
            status = FINISHED if done == length else RUNNING
            progress.now = SimpleNamespace(status=status, seq_len=before + done)
            if status == FINISHED:
                log(asked, length, cancelled=False)
            tell()
        if progress.now.status == RUNNING:
            generated = progress.now.seq_len - before
            progress.now = SimpleNamespace(status=CANCELLED, seq_len=progress.now.seq_len)
            log(asked, generated, cancelled=True)
            tell()


def reached(length: int) -> Iterator[int]:
    """How many tokens there are after each step."""
    done = step = 0
    while done < length:
        done = min(length, done + STEPS[step % len(STEPS)])
        step += 1
        yield done


def log(asked: Any, generated: int, cancelled: bool) -> None:
    """Keeps what was asked and what became of it."""
    names = ("max_new_tokens", "top_k", "top_p", "temperature")
    said = {name: getattr(asked, name) for name in names} | {"stops": bool(getattr(asked, "stop_ids", None))}
    with Path(os.environ["LMDEPLOY_STANDIN_LOG"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps({**said, "generated": generated, "cancelled": cancelled}) + "\n")


class Options:
    """A request's settings, which TurboMind's Python side sets one by one."""


def compiled() -> ModuleType:
    """In place of lmdeploy.turbomind._turbomind."""
    module = ModuleType("lmdeploy.turbomind._turbomind")
    used: dict[str, Any] = {
        "TensorMap": dict,
        "from_dlpack": Tensor,
        "GenerationConfig": Options,
        "SessionParam": SimpleNamespace,
        "DataType": SimpleNamespace(TYPE_UINT32="uint32", TYPE_INT32="int32"),
        # Of the rest only the names are there.
        "__getattr__": lambda name: mock.MagicMock(name=name),
    }
    vars(module).update(used)
    return module


def start(self: Any, model_path: str, engine_config: Any = None, trust_remote_code: bool = False, **rest: Any) -> None:
    """In place of TurboMind.__init__, which would load the weights: what the server reads of an engine."""
    from lmdeploy.tokenizer import Tokenizer

    engine_config.devices, engine_config.outer_dp_size = [0], 1
    self.engine_config, self.session_len = engine_config, engine_config.session_len
    self.tokenizer = Tokenizer(model_path, trust_remote_code=trust_remote_code)
    self.seen = set()
    self.model_comm = SimpleNamespace(
        create_request=lambda: Generation(self),
        get_schedule_metrics=lambda index: SimpleNamespace(
            active_seqs=0, waiting_seqs=0, cache_usage=0.0, prefix_cache_hit_rate=0.0, scheduler_tick=int(time.time())
        ),
    )
    self.is_dummy, self._engine_created, self._grammar_compiler = False, True, None
    self.devices, self.gpu_count = [0], 1
    self.health_executor = ThreadPoolExecutor(1)


def main() -> None:
    sys.modules["lmdeploy.turbomind._turbomind"] = compiled()
    from lmdeploy.cli import run
    from lmdeploy.turbomind.turbomind import TurboMind

    TurboMind.__init__ = start
    TurboMind.mm_input_converter = lambda self, media: None
    sys.argv[0] = "lmdeploy"
    run()


if __name__ == "__main__":
    main()
