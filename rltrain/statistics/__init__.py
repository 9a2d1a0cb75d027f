"""Statistics over independent runs: figures, intervals, tests, curves. Pure functions of arrays."""
