"""Runs a comparison: rounds, probes, counters, samples, recording."""
