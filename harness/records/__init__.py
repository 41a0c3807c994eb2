"""Stored results: records, manifests, metrics of one run, other tools' formats."""
