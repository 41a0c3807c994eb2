"""One run in the file formats of other tools."""
