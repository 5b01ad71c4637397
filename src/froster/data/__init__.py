"""Class names and data."""
