"""Comparing methods on the embedded world: results, and the report made of them."""
