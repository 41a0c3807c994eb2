"""The questions that every pair of candidates is asked at every load."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """One question: the metric that answers it, and its name in tables and sentences."""

    key: str  # of the metric
    title: str


QUESTIONS: tuple[Question, ...] = (
    Question("output_throughput", "throughput"),
    Question("ttft_p50", "TTFT"),
    Question("ttft_p99", "TTFT p99"),
    Question("tpot_p50", "TPOT"),
    Question("e2e_p50", "E2E latency"),
    Question("goodput", "goodput"),
)
BY_KEY = {question.key: question for question in QUESTIONS}
