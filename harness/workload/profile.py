"""The settings that are the same for every candidate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """The settings that are the same for every candidate. Engine files use these fields in braces in their launch
    commands; `kv_tokens` is the size of the KV cache: every sequence at full context."""

    context_tokens: int = 1024
    concurrent_sequences: int = 16
    batched_tokens: int = 2048
    # Compute threads; 0 = one fewer than the cores that this process may use, at least 1. The client and the engine's
    # front end need a core too: otherwise compute threads spin while they wait for one that is not scheduled, and the
    # throughput measured is the scheduler's.
    threads: int = 0
    gpus: int = 1  # how many GPUs share one copy of the model (tensor parallel); ignored on a CPU
    dtype: str = "model"  # precision of the weights: "model" is the checkpoint's own; a name must match it
    prefix_cache: bool = False

    @property
    def kv_tokens(self) -> int:
        return self.context_tokens * self.concurrent_sequences
