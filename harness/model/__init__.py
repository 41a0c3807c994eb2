"""Weights: the tiny model that is made here, a local path, or a pinned revision on the hub."""
