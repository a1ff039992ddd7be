"""Models: what the loop sees of one, the slot store, and the families that load from a checkpoint."""
