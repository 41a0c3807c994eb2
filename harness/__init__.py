"""Replays identical workloads against several LLM inference engines and compares what they did."""

__version__ = "0.1.0"
