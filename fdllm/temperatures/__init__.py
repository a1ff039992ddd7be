"""Temperature schedules: the sampling temperature of each step of a window."""
