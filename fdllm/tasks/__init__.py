"""Tasks: what a model is asked, and when its answer is right."""
