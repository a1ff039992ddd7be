"""Statistics of logit rows, computed together in one pass over the vocabulary."""

NAMES = frozenset({"candidate", "confidence", "margin", "entropy", "current_probability"})
