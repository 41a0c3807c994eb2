"""Where weights come from: the tiny model made here, a local path, or a pinned revision on the hub."""
