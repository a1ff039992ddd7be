"""Cache policies: which slots are recomputed now."""
