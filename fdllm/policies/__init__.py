"""Unmasking policies: which open slots are committed now."""
