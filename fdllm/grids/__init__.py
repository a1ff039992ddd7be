"""Grids: decoders side by side over a task, their quality and their speed."""
