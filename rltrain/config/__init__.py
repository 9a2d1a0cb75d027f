"""Strict YAML to typed, frozen settings."""
