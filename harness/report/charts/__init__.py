"""The charts, each a function from a comparison to a figure."""
