"""Faster ways to run the same agents."""
