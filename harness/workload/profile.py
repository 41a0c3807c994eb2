"""The settings that every candidate gets alike."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """The settings that every candidate gets alike. Engine files name these fields in braces in their launch
    commands; `kv_tokens` is the room in the key-value cache, for every sequence at full context."""

    context_tokens: int = 1024
    concurrent_sequences: int = 16
    batched_tokens: int = 2048
    # Compute threads; 0 = one fewer than the cores that this process may use, at least 1. Client and engine
    # front end need a core too: without it a spinning compute thread waits for one that is not scheduled,
    # and what is measured is the scheduler.
    threads: int = 0
    gpus: int = 1  # how many GPUs share one copy of the model (tensor parallel); of no effect on a CPU
    dtype: str = "model"  # the precision of the weights: the checkpoint's own, or its name to insist on it
    prefix_cache: bool = False

    @property
    def kv_tokens(self) -> int:
        return self.context_tokens * self.concurrent_sequences
