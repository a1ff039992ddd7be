"""Attention backends: how queries of the computed slots attend to the slots of the store."""
