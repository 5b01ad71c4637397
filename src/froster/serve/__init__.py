"""A server for people and programs: videos and action names over HTTP, ranked actions back."""
