"""The weights of the model `tiny`: random, the same bits on every machine, and built so that a greedy
continuation is lively, depends on its context, and still leaves rounding little to decide.

A plain random model has a near-tie every few tokens, so two correct engines soon part. Here:

1. The plain tokens lie on one cycle. The output row of a token holds the embedding of the token before it,
   so the last token's successor wins by a wide margin: no short loops.
2. One token in `loud_every` is loud: its embedding carries a code of `code` signs. The first head of every
   layer looks at exactly one position, `offsets[layer]` tokens back, and copies the code found there, if
   any, to dimensions of the layer's own; the output row of the token that this (layer, loud token) calls
   for holds the code too, and it wins over the successor. So about one token in loud_every / layers is
   decided by what stood at an exact earlier position: a wrong rotary embedding, a lost or foreign key-value
   entry or a missing layer changes it.
3. Everything else (the other heads, the MLPs) is plain random and decides the few steps where its sum
   exceeds the margin: those react to coarser faults of precision, such as 4-bit weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.model.exact import Bits, permutation, signs, to_bf16, uniform

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Shape:
    """The architecture of `tiny`, and the scales that were found by experiment on two engines.

    Random matrices are uniform in (-scale, scale). With `attention` and `down` at 0.037 and 0.033, two of
    eight continuations of 256 tokens differed between llama.cpp and vLLM; at the values below one of 24."""

    vocab: int = 8192
    hidden: int = 512
    layers: int = 8
    heads: int = 8
    kv_heads: int = 4
    head: int = 64
    mlp: int = 1024
    context: int = 4096
    theta: float = 10000.0
    offsets: tuple[int, ...] = (3, 7, 12, 20, 33, 54, 87, 120)  # how far back each layer's first head looks
    loud_every: int = 64  # one token in so many carries a code
    code: int = 64  # signs in a code; at most `head`
    constant: float = 32.0  # the same in every embedding: keeps RMSNorm's divisor nearly so, and with it the scores
    position: float = 8.0  # sharpness of the first head
    copy: float = 5.0  # strength of a code once copied
    answer: float = 5.0  # strength of a code in the output row that it calls for
    score: float = 0.25  # q and k
    value: float = 0.125  # v
    attention: float = 0.033  # attention output
    gate: float = 0.125  # MLP gate and up
    down: float = 0.032  # MLP down


SHAPE = Shape()


def tensors(shape: Shape, plain_ids: tuple[int, ...], seed: str) -> dict[str, Bits]:
    """All tensors under their safetensors names, as bf16 bits. `plain_ids` may be answered; the
    rows of all others in the output matrix are 0, a logit that is never the greatest."""
    plain = np.array(plain_ids)
    main = shape.hidden - shape.code - 1  # dimensions that hold a token's own vector; then one constant
    embedding, head = np.zeros((2, shape.vocab, shape.hidden), np.float32)
    embedding[:, :main] = uniform(f"{seed}/embedding", (shape.vocab, main), 1.75)
    embedding[:, main] = shape.constant
    order = plain[permutation(f"{seed}/cycle", len(plain))]
    loud = plain[permutation(f"{seed}/loud", len(plain))[: shape.vocab // shape.loud_every]]
    codes = signs(f"{seed}/codes", (len(loud), shape.code))
    embedding[loud, main + 1 :] = codes
    head[np.roll(order, -1), :main] = embedding[order, :main]
    out: dict[str, Bits] = {}
    for layer in range(shape.layers):
        target = permutation(f"{seed}/{layer}/target", main)[: shape.code]
        called = plain[permutation(f"{seed}/{layer}/called", len(plain))[: len(loud)]]
        head[called[:, None], target[None, :]] += codes * np.float32(shape.answer)
        for name, values in _layer(shape, f"{seed}/{layer}", main, shape.offsets[layer], target).items():
            out[f"model.layers.{layer}.{name}.weight"] = to_bf16(values)
    out["model.embed_tokens.weight"] = to_bf16(embedding)
    out["model.norm.weight"] = to_bf16(np.ones(shape.hidden, np.float32))
    out["lm_head.weight"] = to_bf16(head)
    return out


def _layer(shape: Shape, seed: str, main: int, offset: int, target: NDArray[np.int64]) -> dict[str, Floats]:
    """One layer's matrices; rows are outputs. Its first key-value head and first query head are planted."""
    wide, narrow = shape.heads * shape.head, shape.kv_heads * shape.head
    q = uniform(f"{seed}/q", (wide, shape.hidden), shape.score)
    k = uniform(f"{seed}/k", (narrow, shape.hidden), shape.score)
    v = uniform(f"{seed}/v", (narrow, shape.hidden), shape.value)
    o = uniform(f"{seed}/o", (shape.hidden, wide), shape.attention)
    gate = uniform(f"{seed}/gate", (shape.mlp, shape.hidden), shape.gate)
    up = uniform(f"{seed}/up", (shape.mlp, shape.hidden), shape.gate)
    down = uniform(f"{seed}/down", (shape.hidden, shape.mlp), shape.down)
    q[: shape.head] = k[: shape.head] = v[: shape.head] = o[:, : shape.head] = 0
    for reads in (q, k, v, gate, up):
        reads[:, main] = 0
    cosine, sine = _turns(shape, offset)
    half = shape.head // 2
    q[:half, main], q[half : shape.head, main] = cosine * shape.position, sine * -shape.position
    k[:half, main] = 1.0
    v[np.arange(shape.code), main + 1 + np.arange(shape.code)] = 1.0
    o[main:] = down[main:] = 0  # the constant and the codes are read by every layer and written by none
    o[target, np.arange(shape.code)] = shape.copy
    norm = np.ones(shape.hidden, np.float32)
    return {
        "self_attn.q_proj": q,
        "self_attn.k_proj": k,
        "self_attn.v_proj": v,
        "self_attn.o_proj": o,
        "mlp.gate_proj": gate,
        "mlp.up_proj": up,
        "mlp.down_proj": down,
        "input_layernorm": norm,
        "post_attention_layernorm": norm,
    }


def _turns(shape: Shape, offset: int) -> tuple[Floats, Floats]:
    """Cosine and sine of offset x each rotary frequency, weighted by the frequency, on a grid of 1/128.

    Scores then peak at `offset` tokens back, 20 % above the next position. The grid hides the last digit in
    which mathematical libraries differ; a test holds that no value lies near a rounding border."""
    half = shape.head // 2
    speeds = [shape.theta ** (-i / half) for i in range(half)]
    cosine = [round(s * math.cos(s * offset) * 128) / 128 for s in speeds]
    sine = [round(s * math.sin(s * offset) * 128) / 128 for s in speeds]
    return np.array(cosine, np.float32), np.array(sine, np.float32)
