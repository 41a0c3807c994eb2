"""What is concluded from stored records: statistics, checks, comparison. Starts no engine."""
