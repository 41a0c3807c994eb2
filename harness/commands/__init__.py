"""One file per command: each puts the parts together. Only here do measuring and judging meet."""
