"""Checks of one cell: what could make its numbers wrong."""
