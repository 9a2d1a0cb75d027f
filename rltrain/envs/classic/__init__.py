"""Gymnasium's classic control tasks as compilable functions, one file a task."""
