"""From bytes and times to records, after the clock has stopped."""
