"""Attention of a window's queries to the slot store in place, by visible ranges."""
