"""What runs while, and around, the clock: driver, streams, probes, the campaign of one comparison."""
