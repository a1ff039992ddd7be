"""Scorers: whether a generated text answers a reference."""
