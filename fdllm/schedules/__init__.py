"""Schedules: which slots may be decided now."""
