"""Judges stored records: statistics, checks, comparison. Starts no engine."""
