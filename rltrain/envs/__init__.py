"""Environments: making, wrapping, seeding and saving them."""
