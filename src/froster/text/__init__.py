"""Labels, prompts and the class matrix."""
