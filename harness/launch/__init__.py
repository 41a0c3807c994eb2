"""Starts and stops engines: environments installed on demand, containers, processes, servers that already run."""
