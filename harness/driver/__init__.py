"""What runs while the clock runs: connections, turns, time stamps, raw reads."""
