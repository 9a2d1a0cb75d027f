"""Reports and figures of runs: one page that opens offline, and the same figures as files."""
