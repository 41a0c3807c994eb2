"""Shows a comparison: tables, page, charts."""
