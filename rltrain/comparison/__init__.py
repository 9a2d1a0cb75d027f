"""Methods against each other, from the runs of many seeds: what is fair, what can be said, and with what certainty."""
