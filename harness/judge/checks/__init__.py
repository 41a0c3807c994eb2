"""The checks of one cell: reasons why its numbers could be wrong."""
