"""What is concluded from stored records: metrics, checks, comparison, charts, report. Starts no engine."""
