"""One file per command. Only here do measuring and judging meet."""
