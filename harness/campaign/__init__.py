"""Carries a comparison out: rounds, probes, counters, samples, recording."""
