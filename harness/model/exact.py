"""Random numbers and bf16 rounding that give the same bits on every machine: integers and powers of two."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint16]  # bf16 values as their 16 bits


def _stream(seed: str, count: int) -> NDArray[np.uint64]:
    key = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16], "little")
    return np.random.Philox(key=key).random_raw(count)


def uniform(seed: str, shape: tuple[int, ...], scale: float) -> NDArray[np.float32]:
    """Odd 25-bit integers, mapped to the open interval (-scale, scale); variance scale^2 / 3.

    Each value is one IEEE product of two float32 numbers, so the bits do not depend on a library's rounding. Each seed
    has its own random stream, so no tensor depends on another."""
    count = int(np.prod(shape))
    odd = (_stream(seed, count) >> np.uint64(40)).astype(np.int32) * 2 + (1 - (1 << 24))
    return (odd.astype(np.float32) * np.float32(scale / (1 << 24))).reshape(shape)


def signs(seed: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """+1 or -1, each from the highest bit of its own draw."""
    count = int(np.prod(shape))
    high = (_stream(seed, count) >> np.uint64(63)).astype(np.float32)
    return (high * 2 - 1).reshape(shape)


def permutation(seed: str, count: int) -> NDArray[np.int64]:
    """A random order of range(count): the order of `count` 64-bit draws."""
    return np.argsort(_stream(seed, count), kind="stable")


def to_bf16(values: NDArray[np.float32]) -> Bits:
    """Rounds float32 to bf16, nearest and ties to even, in integer arithmetic. No value may be infinite."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def from_bf16(bits: Bits) -> NDArray[np.float32]:
    """The float32 value of bf16 bits: exact."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
